"""Operators that are a mean over batches of a model's loss: what they share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, final

import torch
from torch import Tensor, nn

from landscape.curvature.memory import GraphRoom
from landscape.curvature.operators import LinearOperator
from landscape.curvature.point import Point, refuse_batch_statistics, twice_differentiable
from landscape.errors import UserError

Pieces = Sequence[Tensor | None]
"""A vector of the trainable numbers as one tensor a parameter, None where it is zero."""

Graph = TypeVar("Graph")


@dataclass(frozen=True)
class Linearised(Generic[Graph]):
    """Hold what one batch contributes at the present weights."""

    value: float
    """The loss sum."""
    count: float
    """The number of loss terms."""
    gradient: Pieces
    """The gradient of the loss sum."""
    graph: Graph | None
    """What products need, where it was asked for."""


class BatchedOperator(LinearOperator, Generic[Graph]):
    """A matrix A = (sum over batches of A_b) / (sum over batches of the number of loss terms).

    The vectors are the trainable numbers, flattened and concatenated in the order of
    `trainable(model)`. Products run in evaluation mode, with math attention, without autocast;
    the model's mode, ``.grad`` and the random state are left as they were. If the weights change
    between two products, the next product is at the new weights.

    Args:
        model, batches, parameters, keep_graph, memory_budget: see `HessianOperator`.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        *,
        parameters: Sequence[Tensor] | None,
        keep_graph: bool | Literal["auto"],
        memory_budget: int | None,
    ) -> None:
        refuse_batch_statistics(model)
        self._model = model
        self.parameters = tuple(_trainable(model) if parameters is None else parameters)
        """The tensors whose numbers the vectors are."""
        self._batches = [batches] if isinstance(batches, dict) else list(batches)
        self._check()
        self._sizes = [parameter.numel() for parameter in self.parameters]
        dtype = torch.float32
        for parameter in self.parameters:
            dtype = torch.promote_types(dtype, parameter.dtype)
        self._dtype = dtype
        self._keep = keep_graph
        self._budget = memory_budget
        self._graphs: dict[int, Graph] = {}
        self._point: Point | None = None
        self._takes_rows = True
        self._build()

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the operator is called in a result file."""

    @abstractmethod
    def _linearise(self, batch: Any, *, curved: bool) -> Linearised[Graph]:
        """Return a batch's loss, gradient and, if `curved`, the graph for products."""

    @abstractmethod
    def _multiply(
        self, graph: Graph, pieces: list[Tensor], *, retain: bool, batched: bool
    ) -> Pieces:
        """Return A_b v; `retain`: the graph will be used again; `batched`: pieces are (b, ...)."""

    @property
    @final
    def size(self) -> int:
        return sum(self._sizes)

    @property
    @final
    def dtype(self) -> torch.dtype:
        return self._dtype

    @property
    @final
    def device(self) -> torch.device:
        return self.parameters[0].device

    @property
    @final
    def names(self) -> tuple[str, ...]:
        """The tensor names of `parameters`, in order; a position where the model has no name."""
        named = {id(p): name for name, p in [*_named(self._model)]}
        return tuple(named.get(id(p), str(n)) for n, p in enumerate(self.parameters))

    @property
    @final
    def description(self) -> dict[str, Any]:
        return {
            "operator": self.kind,
            "size": self.size,
            "dtype": str(self.dtype).removeprefix("torch."),
            "mode": "reverse-over-reverse",
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
    def gradient(self) -> Tensor:
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
        return self._product(v, self._graphs)

    @final
    def _apply_rows(self, rows: Tensor) -> Tensor:
        self._refresh()
        if self._takes_rows:
            try:
                return self._product(rows, self._graphs)
            except RuntimeError:  # a function of this loss has no rule for several vectors
                self._takes_rows = False
        return torch.stack([self._product(row, self._graphs) for row in rows])

    @final
    def _apply_afresh(self, v: Tensor) -> Tensor:
        return self._product(v, {})

    def _product(self, v: Tensor, graphs: dict[int, Graph]) -> Tensor:
        """Return A v for v of shape (size,), or for each row of (b, size)."""
        pieces = [
            piece.reshape(*v.shape[:-1], *p.shape).to(dtype=p.dtype, device=p.device)
            for piece, p in zip(v.split(self._sizes, dim=-1), self.parameters, strict=True)
        ]
        total, terms = torch.zeros_like(v), 0.0
        with twice_differentiable(self._model):
            for number, batch in enumerate(self._batches):
                graph, count = graphs.get(number), self._counts[number]
                retain = graph is not None
                if graph is None:
                    linearised = self._linearise(batch, curved=True)
                    graph, count = linearised.graph, linearised.count
                    assert graph is not None
                terms += count
                product = self._multiply(graph, pieces, retain=retain, batched=v.ndim == 2)
                self._add_flat(total, product)
        return total.div_(terms)

    def _build(self) -> None:
        """Compute loss and gradient at the present weights, and keep the graphs that fit."""
        self.release()
        self._counts = [0.0] * len(self._batches)
        total, gradient = 0.0, torch.zeros(self.size, dtype=self.dtype, device=self.device)
        uses = False
        room = GraphRoom(self._batches, self._keep, self._budget, self.device)
        with twice_differentiable(self._model):
            for number in room.order:
                keep = room.has_place_for(number)
                with room.measuring(self._model, number):
                    batch = self._linearise(self._batches[number], curved=keep)
                self._counts[number] = batch.count
                total += batch.value
                uses = uses or any(piece is not None for piece in batch.gradient)
                self._add_flat(gradient, batch.gradient)
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
                "expected a loss that depends on the trainable numbers, got one that does not; "
                "check that the loss calls this model and detaches nothing"
            )
        self._value, self._gradient = total / self._terms, gradient.div_(self._terms)
        self._point = Point(self._model, self.parameters)

    def _add_flat(self, total: Tensor, pieces: Pieces) -> None:
        for part, piece in zip(total.split(self._sizes, dim=-1), pieces, strict=True):
            if piece is not None:
                part.add_(piece.detach().reshape(part.shape).to(self.device, self.dtype))

    def _refresh(self) -> None:
        if self._point is None or self._point.has_moved(self._model, self.parameters):
            self._build()

    def _check(self) -> None:
        if not sum(parameter.numel() for parameter in self.parameters):
            raise UserError(
                "expected a model with trainable numbers, got none; attach a mask, "
                "or set requires_grad on what is to be measured"
            )
        frozen = [n for n, p in enumerate(self.parameters) if not p.requires_grad]
        if frozen:
            raise UserError(
                f"expected parameters with requires_grad, got frozen ones at positions "
                f"{frozen[:5]}; leave them out"
            )
        if not self._batches:
            raise UserError("expected at least one batch, got none; pass a list of batches")


def _trainable(model: nn.Module) -> list[Tensor]:
    from landscape.subspace import trainable

    return list(trainable(model).values())


def _named(model: nn.Module) -> list[tuple[str, Tensor]]:
    from landscape.subspace import trainable

    return [*model.named_parameters(), *trainable(model).items()]
