"""Operators that are a mean over batches of a model's loss: what they share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from landscape.curvature.derivatives.differentiate import Graph, Linearised
from landscape.curvature.derivatives.layers import refuse_renormed_embeddings
from landscape.curvature.derivatives.memory import GraphRoom
from landscape.curvature.derivatives.modes import Mode, NoForwardModeError, pushed
from landscape.curvature.derivatives.objective import refuse_other_sums
from landscape.curvature.derivatives.point import (
    Point,
    refuse_batch_statistics,
    twice_differentiable,
)
from landscape.curvature.derivatives.space import Pieces
from landscape.curvature.operators.model import ModelOperator
from landscape.errors import UserError
from landscape.losses import Loss, Split, as_batches
from landscape.subspace import refuse_unseen_readers


class BatchedOperator(ModelOperator, Generic[Graph]):
    """A matrix A = (sum over batches of A_b) / (sum over batches of the number of loss terms).

    The weights are the numbers of loss terms, so that A of a list of unequal batches is A of
    their concatenation. The vectors are the trainable parameters, flattened and concatenated in the
    order of `trainable(model)`; a parameter that the loss does not use has a zero row.

    Products run in evaluation mode, with math attention, without autocast; the model's mode, the
    attention setting, ``.grad`` and the random state are left as they were. If the weights (or
    the mask) change between two products, the next product is at the new ones and the graphs are
    rebuilt; a Lanczos run must therefore not be interleaved with training steps.

    Args:
        model: any module with trainable parameters: masked, LoRA, or full.
        batches: what `loss` or `split` takes, one a time; kept as a list, used in order. One dict,
            one tensor or one pair ``(x, y)`` is one batch. By default batches of `make_batches`, or
            dicts of a transformers model's arguments with ``labels``. To need less memory pass
            smaller ones (`micro_batches`).
        parameters: tensors of any shape with ``requires_grad``; default `trainable(model)`.
        keep_graph: keep the graphs of the gradients between products: a kept batch costs 2
            gradients a product instead of 3.3. ``"auto"`` keeps as many batches as fit into
            `memory_budget` (a single batch always); True all, False none.
        memory_budget: bytes for kept graphs under ``"auto"``; default 40 % of what is available.
        batch_statistics: what batch normalisation uses: False running statistics, as an evaluated
            model does; True the mean and variance of the batch, as a model that is trained does,
            for a single batch; None refuses a model in which the two differ (in train mode).

    Raises:
        UserError: nothing trainable, no batch, no loss terms, a loss that is not finite, not a
            scalar or ignores the trainable parameters, no second derivative, batch normalisation
            over the batch, a mean beside a number of terms, or several batches of a loss that
            couples the rows of a batch; and at a product, parameters that were frozen or replaced.

    Cost: one gradient at construction; with a mask a forward more, to see that nothing reads a
    masked weight past it (`refuse_unseen_readers`); with a loss of one's own three more, to see
    that it is a sum over rows (`refuse_other_sums`). Memory 3 to 3.5 times a gradient's activations
    per kept batch, and no vector larger than the trainable parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[object],
        objective: Loss | Split,
        *,
        mode: Mode = "reverse-over-reverse",
        parameters: Sequence[Tensor] | None,
        keep_graph: bool | Literal["auto"],
        memory_budget: int | None,
        batch_statistics: bool | None,
    ) -> None:
        super().__init__(model, parameters)
        self._objective, self._mode = objective, mode
        self._batches = as_batches(batches)
        if not self._batches:
            raise UserError("expected at least one batch, got none; pass a list of batches")
        refuse_batch_statistics(model, batch_statistics, len(self._batches))
        refuse_renormed_embeddings(model, set(self.names))
        self._batch_statistics = batch_statistics
        self._keep = keep_graph
        self._budget = memory_budget
        self._graphs: dict[int, Graph] = {}
        self._point: Point | None = None
        self._takes_rows = mode == "reverse-over-reverse"
        self._second_mode: Mode = (
            "forward-over-reverse" if mode == "reverse-over-reverse" else "reverse-over-reverse"
        )
        self._build()
        with self._measuring():
            refuse_other_sums(objective, self._evaluate, self._batches, eps=self._space.rounding)
            refuse_unseen_readers(model, lambda: self._evaluate(self._batches[0])[0])

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the operator is called in a result file."""

    @abstractmethod
    def _evaluate(self, batch: object) -> tuple[Tensor, float]:
        """Return a batch's loss sum, with its graph, and the number of its terms."""

    @abstractmethod
    def _linearise(
        self, batch: object, parameters: Sequence[Tensor], *, curved: bool
    ) -> Linearised[Graph]:
        """Return a batch's loss, gradient and, if `curved`, the graph for products."""

    @abstractmethod
    def _multiply(
        self, graph: Graph, pieces: list[Tensor], *, retain: bool, batched: bool
    ) -> Pieces:
        """Return A_b v; `retain`: the graph will be used again; `batched`: pieces are (b, ...)."""

    @abstractmethod
    def _multiply_forward(self, batch: object, duals: Sequence[Tensor]) -> tuple[Pieces, float]:
        """Return A_b v, v being what the dual numbers carry, and the number of terms."""

    @property
    @final
    def description(self) -> dict[str, Any]:
        statistics = self._batch_statistics
        return ({} if statistics is None else {"batch_statistics": statistics}) | {
            "operator": self.kind,
            "size": self.size,
            "dtype": str(self.dtype).removeprefix("torch."),
            "rounding": self._space.rounding,
            "mode": self._mode,
            "second_mode": self._second_mode,
            "several_vectors": "vmap" if self._takes_rows else "one by one",
            "attention": "math",
            "batches": len(self._batches),
            "graphs_kept": len(self._graphs),
            "loss_terms": self._terms,
        }

    @final
    def loss(self) -> float:
        """Return the mean loss L at the model's present weights. Cost: none, unless they moved."""
        self._refresh()
        return self._value

    @final
    def gradient(self) -> Float[Tensor, " size"]:
        """Return the gradient of L, flat, shape (size,). Cost: none, unless the weights moved."""
        self._refresh()
        return self._gradient.clone()

    @final
    def release(self) -> None:
        """Drop the kept graphs to free their memory; the next product builds them again."""
        self._graphs.clear()
        self._point = None

    @final
    def _apply(self, v: Tensor) -> Tensor:
        self._refresh()
        return self._product(v, self._mode, self._graphs)

    @final
    def _apply_rows(self, rows: Tensor) -> Tensor:
        self._refresh()
        if self._takes_rows:
            try:
                return self._product(rows, self._mode, self._graphs)
            except RuntimeError:  # a function of this loss has no rule for several vectors
                self._takes_rows = False
        return torch.stack([self._product(row, self._mode, self._graphs) for row in rows])

    @final
    def _apply_afresh(self, v: Tensor) -> Tensor:
        self._space.refuse_frozen()
        self._space.refuse_other_parameters()
        try:
            return self._product(v, self._second_mode, {})
        except NoForwardModeError:  # then the same mode anew, which the description says
            self._second_mode = self._mode
            return self._product(v, self._second_mode, {})

    def _product(self, v: Tensor, mode: Mode, graphs: dict[int, Graph]) -> Tensor:
        """Return A v for v of shape (size,), or for each row of (b, size)."""
        pieces = self._space.pieces(v)
        total, terms = torch.zeros_like(v), 0.0
        with self._measuring():
            for number, batch in enumerate(self._batches):
                if mode == "forward-over-reverse":
                    with pushed(self._model, self.parameters, pieces) as duals:
                        product, count = self._multiply_forward(batch, duals)
                else:
                    graph, count = graphs.get(number), self._counts[number]
                    retain = graph is not None
                    if graph is None:
                        linearised = self._linearise(batch, self.parameters, curved=True)
                        graph, count = linearised.graph, linearised.count
                        assert graph is not None
                    product = self._multiply(graph, pieces, retain=retain, batched=v.ndim == 2)
                terms += count
                self._space.add(total, product)
        return total.div_(terms)

    def _measuring(self) -> AbstractContextManager[None]:
        return twice_differentiable(self._model, batch_statistics=bool(self._batch_statistics))

    def _build(self) -> None:
        """Compute loss and gradient at the present weights, and keep the graphs that fit."""
        self.release()
        self._counts = [0.0] * len(self._batches)
        total, gradient = 0.0, torch.zeros(self.size, dtype=self.dtype, device=self.device)
        uses = False
        keeps = self._keep if self._mode == "reverse-over-reverse" else False
        room = GraphRoom(self._batches, keeps, self._budget, self.device)
        with self._measuring():
            for number in room.order:
                keep = room.has_place_for(number)
                with room.measuring(self._model, number):
                    batch = self._linearise(self._batches[number], self.parameters, curved=keep)
                self._counts[number] = batch.count
                total += batch.value
                uses = uses or any(piece is not None for piece in batch.gradient)
                self._space.add(gradient, batch.gradient)
                if batch.graph is not None:
                    self._graphs[number] = batch.graph
        self._terms = sum(self._counts)
        if self._terms <= 0:
            raise UserError(
                f"expected at least one loss term in {len(self._batches)} batches, got none; "
                "check that the batches have labels"
            )
        if not uses:
            raise UserError(
                "expected a loss that depends on the trainable parameters, got one that does not; "
                "check that the loss calls this model and detaches nothing"
            )
        self._value, self._gradient = total / self._terms, gradient.div_(self._terms)
        self._point = Point(self._model, self.parameters)

    def _refresh(self) -> None:
        self._space.refuse_frozen()
        if self._point is None or self._point.has_moved(self._model, self.parameters):
            self._space.refuse_other_parameters()
            self._build()
