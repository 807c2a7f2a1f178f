"""Statistics of the target tensors, streamed: one tensor's gradient lives at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.masks import Mask, num_parameters
from landscape.selection.examples import labels, split
from landscape.selection.scores import Score
from landscape.selection.tiles import matrix_view
from landscape.subspace import attach, dense_gradients, detach

Batch = Any
Loss = Callable[[Any, Any], tuple[Tensor, int]]
Deliver = Callable[[str, Tensor], None]


def stream_gradients(
    model: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    batches: Sequence[Batch],
    loss: Loss,
    score: Score,
    deliver: Deliver,
    max_live: int,
) -> None:
    """Hand over the statistic of each tensor: sum over terms of score.term(gradient).

    A term is a batch (its summed loss: sums of sums weigh every token the same, however tokens
    are batched), or a single example for scores of examples. One term needs no sums: a tensor's
    gradient is handed over during the backward and freed. Several terms are summed for as many
    tensors as `max_live` numbers hold; further tensors cost further passes over the batches.

    Args:
        model: a model without a mask, in the mode to score in.
        shapes: the tensors.
        batches: at least one.
        loss: (model, batch) -> (sum, count).
        score: a score whose source is "gradient" or "examples".
        deliver: called as ``deliver(name, statistic)``, shape of the tensor, float32 or wider.
        max_live: most sums held at once, in numbers; one tensor's are always held.
    """
    single = score.source == "gradient" and len(batches) == 1
    for names in [list(shapes)] if single else _groups(shapes, max_live):
        group = {name: shapes[name] for name in names}
        sums = _Sums(score.term, deliver if single else None)
        with _watched(model, group, sums.receive):
            for total, sums.weight in _terms(model, batches, loss, score):
                if not total.requires_grad:
                    raise UserError("expected a loss that depends on the targets, got a constant")
                total.backward()
        for name in [n for n in names if n not in sums.delivered]:
            # a tensor that the loss does not use has no gradient
            deliver(name, sums.parts.pop(name, torch.zeros(shapes[name])))


class _Sums:
    """Add up terms tensor by tensor, or pass the only term of each tensor on at once."""

    def __init__(self, term: Callable[[Tensor], Tensor], deliver: Deliver | None) -> None:
        self._term, self._deliver = term, deliver
        self.weight = 1.0
        self.parts: dict[str, Tensor] = {}
        self.delivered: set[str] = set()

    def receive(self, name: str, gradient: Tensor) -> None:
        part = self._term(gradient.to(torch.promote_types(gradient.dtype, torch.float32)))
        if self._deliver is not None:
            self.delivered.add(name)
            self._deliver(name, part)
        elif name in self.parts:
            self.parts[name].add_(part, alpha=self.weight)
        else:
            self.parts[name] = part * self.weight


def stream_norms(
    model: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    batches: Sequence[Batch],
    loss: Loss,
    deliver: Deliver,
) -> None:
    """Hand over, for each matrix, the norms of its inputs over all tokens but padding.

    Args:
        deliver: called as ``deliver(name, norms)``, norms shaped to multiply the tensor.

    Raises:
        UserError: a target is no Linear or Conv1D weight, or its module never ran.

    Cost: one forward a batch; one number an input.
    """
    modules = dict(model.named_modules())
    squares: dict[str, Tensor] = {}
    real: list[Tensor | None] = [None]

    def add(name: str, x: Tensor) -> None:
        flat = x.detach().reshape(-1, x.shape[-1])
        flat = flat.to(torch.promote_types(flat.dtype, torch.float32))
        if real[0] is not None and real[0].numel() == flat.shape[0]:
            flat = flat[real[0].reshape(-1).bool().to(flat.device)]
        square = flat.square().sum(0)
        squares[name] = squares[name] + square if name in squares else square

    handles = []
    for name, shape in shapes.items():
        owner = modules[name.rpartition(".")[0]]
        if not name.endswith(".weight") or isinstance(owner, nn.Embedding) or len(shape) != 2:
            raise UserError(
                f"wanda needs the weights of linear layers, got {name} of shape {shape}; "
                "leave it out of targets"
            )
        handles.append(
            owner.register_forward_pre_hook(lambda _, args, name=name: add(name, args[0]))
        )
    try:
        with torch.no_grad():
            for batch in batches:
                real[0] = batch.get("attention_mask") if isinstance(batch, dict) else None
                loss(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    for name, shape in shapes.items():
        if name not in squares:
            raise UserError(f"{name} read no activation on these batches; leave it out of targets")
        norm = squares[name].sqrt()
        transposed = matrix_view(modules, name, shape)[2]
        deliver(name, norm[:, None] if transposed else norm)


def _terms(
    model: nn.Module, batches: Sequence[Batch], loss: Loss, score: Score
) -> Iterator[tuple[Tensor, float]]:
    if score.source == "gradient":
        yield from ((loss(model, batch)[0], 1.0) for batch in batches)
        return
    for batch in batches:
        for example in split(batch):
            if score.options["labels"] == "given":
                yield loss(model, example)[0], 1.0
                continue
            for label in labels(model, example):
                own = example["labels"]
                total, _ = loss(model, example | {"labels": torch.full_like(own, label)})
                yield total, math.exp(-float(total.detach()))


def _groups(shapes: Mapping[str, tuple[int, ...]], max_live: int) -> list[list[str]]:
    """Cut the tensors into runs of at most max_live numbers, at least one tensor each."""
    groups: list[list[str]] = []
    room = 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        if size > room or not groups:
            groups.append([])
            room = max_live
        groups[-1].append(name)
        room -= size
    return groups


@contextmanager
def _watched(
    model: nn.Module, shapes: Mapping[str, tuple[int, ...]], receive: Deliver
) -> Iterator[None]:
    """Attach an empty mask, which makes the engine offer these tensors' dense gradients."""
    empty = {name: torch.empty(0, dtype=torch.int64) for name in shapes}
    attach(model, Mask(empty, shapes, num_parameters(model)))
    try:
        with dense_gradients(model, receive):
            yield
    finally:
        detach(model)
