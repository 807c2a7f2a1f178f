"""The Hessian of a model's loss on its trainable numbers, as an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias, final

import torch
from torch import Tensor, nn

from landscape.curvature.memory import GraphRoom
from landscape.curvature.operators import LinearOperator
from landscape.curvature.point import Point, refuse_batch_statistics, twice_differentiable
from landscape.errors import UserError

Loss: TypeAlias = Callable[[Any, Any], tuple[Tensor, float]]
"""A loss: (model, batch) -> (sum over the loss terms of the batch, number of terms)."""

_Graph: TypeAlias = dict[int, Tensor]
"""The gradient of one batch's loss sum: parameter number -> a piece that can be differentiated."""


@final
class HessianOperator(LinearOperator):
    """The Hessian H of the mean loss over some batches, with respect to the trainable numbers.

    L(theta) = (sum over batches of the loss sum) / (sum over batches of the number of terms),
    H = d^2 L / d theta^2, so that H of a list of unequal batches is H of their concatenation.
    The trainable numbers are flattened and concatenated in the order of `trainable(model)`.
    A number that the loss does not use has a zero row. On a network with ReLU this is the
    Hessian almost everywhere: the curvature of the kinks is not in it.

    Products are reverse-over-reverse, inside evaluation mode, math attention and without
    autocast; the model's mode, the attention setting, ``.grad`` and the random state are left as
    they were. If the weights change between two products, the next product is at the new weights
    (the graph is rebuilt); a Lanczos run must therefore not be interleaved with training steps.

    Args:
        model: any module with trainable numbers: masked, LoRA, or full.
        batches: what `loss` takes, one a time; kept as a list, used in order.
        loss: (model, batch) -> (sum, number of terms); default `landscape.scoring.task_loss`.
            It must be a sum over rows: a loss that couples the rows of a batch (contrastive)
            is right for a single batch only.
        parameters: tensors of any shape with ``requires_grad``; default `trainable(model)`.
        keep_graph: keep the graphs of the gradients between products: a kept batch costs 2
            gradients a product instead of 3.3. ``"auto"`` keeps as many batches as fit into
            `memory_budget` (a single batch always); True all, False none.
        memory_budget: bytes for kept graphs under ``"auto"``; default 40 % of what is available.

    Raises:
        UserError: nothing trainable, no batch, no loss terms, a loss that is not finite, not a
            scalar or ignores the trainable numbers, no second derivative, or batch
            normalisation over the batch.

    Cost: one gradient at construction; memory 3 to 3.5 times a gradient's activations per kept
    batch, and no vector larger than the trainable numbers. Source: Pearlmutter (1994), Fast exact
    multiplication by the Hessian.

    >>> w = nn.Linear(2, 1, bias=False)
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> H = HessianOperator(w, [x], loss=lambda model, x: (0.5 * model(x).pow(2).sum(), 1))
    >>> (H @ torch.tensor([1.0, 0.0])).tolist()  # x x'
    [1.0, 2.0]
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        *,
        loss: Loss | None = None,
        parameters: Sequence[Tensor] | None = None,
        keep_graph: bool | Literal["auto"] = "auto",
        memory_budget: int | None = None,
    ) -> None:
        refuse_batch_statistics(model)
        self._model = model
        self._loss_function = loss if loss is not None else _task_loss()
        self._parameters = _trainable(model) if parameters is None else list(parameters)
        self._batches = [batches] if isinstance(batches, dict) else list(batches)
        self._check()
        self._sizes = [parameter.numel() for parameter in self._parameters]
        dtype = torch.float32
        for parameter in self._parameters:
            dtype = torch.promote_types(dtype, parameter.dtype)
        self._dtype = dtype
        self._device = self._parameters[0].device
        self._keep = keep_graph
        self._budget = memory_budget
        self._graphs: dict[int, _Graph] = {}
        self._point: Point | None = None
        self._build()

    @property
    def size(self) -> int:
        return sum(self._sizes)

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def description(self) -> dict[str, Any]:
        return {
            "operator": "hessian",
            "size": self.size,
            "dtype": str(self.dtype).removeprefix("torch."),
            "mode": "reverse-over-reverse",
            "attention": "math",
            "batches": len(self._batches),
            "graphs_kept": len(self._graphs),
            "loss_terms": self._terms,
        }

    def loss(self) -> float:
        """Return the mean loss L at the model's present weights. Cost: none, unless they moved."""
        self._refresh()
        return self._value

    def gradient(self) -> Tensor:
        """Return the gradient of L, flat, shape (size,). Cost: none, unless the weights moved."""
        self._refresh()
        return self._gradient.clone()

    def release(self) -> None:
        """Drop the kept graphs to free their memory; the next product builds them again."""
        self._graphs.clear()
        self._point = None

    def _apply(self, v: Tensor) -> Tensor:
        self._refresh()
        return self._product(v, self._graphs)

    def _apply_afresh(self, v: Tensor) -> Tensor:
        return self._product(v, {})

    def _product(self, v: Tensor, graphs: dict[int, _Graph]) -> Tensor:
        pieces = [
            piece.view_as(p).to(dtype=p.dtype, device=p.device)
            for piece, p in zip(v.split(self._sizes), self._parameters, strict=True)
        ]
        total, terms = torch.zeros_like(v), 0.0
        with twice_differentiable(self._model):
            for number, batch in enumerate(self._batches):
                kept = graphs.get(number)
                if kept is not None:
                    graph, count = kept, self._counts[number]
                else:
                    value, count = self._evaluate(batch)
                    graph = _curved(self._differentiate(value, create_graph=True))
                terms += count
                self._add_flat(total, self._multiply(graph, pieces, retain=kept is not None))
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
                    value, self._counts[number] = self._evaluate(self._batches[number])
                    pieces = self._differentiate(value, create_graph=keep)
                total += float(value.detach())
                uses = uses or any(piece is not None for piece in pieces)
                self._add_flat(gradient, pieces)
                if keep:
                    self._graphs[number] = _curved(pieces)
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
        self._point = Point(self._model, self._parameters)

    def _evaluate(self, batch: Any) -> tuple[Tensor, float]:
        value, count = self._loss_function(self._model, batch)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UserError(
                f"expected a loss sum of one number, got {got}; "
                "return (sum over the terms, number of terms)"
            )
        if not bool(torch.isfinite(value.detach()).all()):
            raise UserError(
                f"expected a finite loss, got {float(value.detach())}; "
                "curvature is not defined at diverged weights"
            )
        return value.reshape(()), float(count)

    def _differentiate(self, value: Tensor, *, create_graph: bool) -> list[Tensor | None]:
        if not value.requires_grad:
            return [None] * len(self._parameters)
        try:
            pieces = torch.autograd.grad(
                value, self._parameters, create_graph=create_graph, allow_unused=True
            )
        except RuntimeError as error:
            raise _explained(error) from error
        return list(pieces)

    def _multiply(
        self, graph: _Graph, pieces: list[Tensor], *, retain: bool
    ) -> Sequence[Tensor | None]:
        if not graph:  # the loss of this batch is linear in the trainable numbers
            return [None] * len(self._parameters)
        try:
            return torch.autograd.grad(
                list(graph.values()),
                self._parameters,
                grad_outputs=[pieces[number] for number in graph],
                retain_graph=retain,
                allow_unused=True,
            )
        except RuntimeError as error:
            raise _explained(error) from error

    def _add_flat(self, total: Tensor, pieces: Sequence[Tensor | None]) -> None:
        for part, piece in zip(total.split(self._sizes), pieces, strict=True):
            if piece is not None:
                part.add_(piece.detach().reshape(-1).to(dtype=self.dtype, device=self.device))

    def _refresh(self) -> None:
        if self._point is None or self._point.has_moved(self._model, self._parameters):
            self._build()

    def _check(self) -> None:
        if not sum(parameter.numel() for parameter in self._parameters):
            raise UserError(
                "expected a model with trainable numbers, got none; attach a mask, "
                "or set requires_grad on what is to be measured"
            )
        frozen = [n for n, p in enumerate(self._parameters) if not p.requires_grad]
        if frozen:
            raise UserError(
                f"expected parameters with requires_grad, got frozen ones at positions {frozen[:5]}"
            )
        if not self._batches:
            raise UserError("expected at least one batch, got none; pass a list of batches")


def _curved(pieces: Sequence[Tensor | None]) -> _Graph:
    """Keep the pieces of a gradient that can be differentiated again.

    Raises:
        UserError: a function with one derivative only took part. Torch cuts the graph there and
            would answer as if that part of the gradient were constant.
    """
    graph = {
        n: piece for n, piece in enumerate(pieces) if piece is not None and piece.requires_grad
    }
    waiting, seen = [piece.grad_fn for piece in graph.values()], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::Error":
            raise _once("a function of this loss is marked once_differentiable")
        waiting += [following for following, _ in node.next_functions]
    return graph


def _explained(error: RuntimeError) -> Exception:
    """Turn torch's refusal to differentiate again into a sentence for the user."""
    text = str(error)
    if "is not implemented" in text or "double backward" in text or "checkpoint" in text.lower():
        return _once(text.splitlines()[0])
    if "modified by an inplace operation" in text:
        return UserError(
            "expected batches that stay as they were, got one written in place since; "
            "build a new operator"
        )
    return error


def _once(said: str) -> UserError:
    return UserError(
        f"expected a loss that can be differentiated twice, got one that cannot: {said}; "
        "use eager or sdpa attention, no torch.compile, and gradient checkpointing with "
        "use_reentrant=False"
    )


def _trainable(model: nn.Module) -> list[Tensor]:
    from landscape.subspace import trainable

    return list(trainable(model).values())


def _task_loss() -> Loss:
    from landscape.scoring import task_loss

    loss: Loss = task_loss
    return loss
