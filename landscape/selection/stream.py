"""Statistics of the target tensors, streamed: one tensor's gradient lives at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.masks import Mask
from landscape.models.tensors import num_parameters
from landscape.selection.examples import possible_labels, single_examples
from landscape.selection.rows import receive_examples
from landscape.selection.scores import Score
from landscape.selection.tiles import matrix_view
from landscape.selection.tokens import Tokens
from landscape.subspace import attach, dense_gradients, detach, refuse_unseen_readers

Batch = Any
Loss = Callable[[Any, Any], tuple[Tensor, float]]
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
    are batched), or a single example for scores of examples. The examples of a batch share one
    backward where `receive_examples` can tell them apart. A statistic that one backward gives
    whole is handed over during it and freed. Others are summed for as many tensors as `max_live`
    values hold; further tensors cost further passes over the batches.

    Args:
        model: a model without a mask, in the mode to score in.
        shapes: the tensors.
        batches: at least one.
        loss: (model, batch) -> (sum, count).
        score: a score whose source is "gradient" or "examples".
        deliver: called as ``deliver(name, statistic)``, shape of the tensor, float32 or wider.
        max_live: most values of sums held at once; one tensor's are always held.
    """
    loss = _checked_once(loss)
    if len(batches) == 1 and _in_one_backward(model, shapes, batches[0], loss, score, deliver):
        return
    for names in _groups(shapes, max_live):
        group = {name: shapes[name] for name in names}
        sums: dict[str, Tensor] = {}

        def add(name: str, part: Tensor, sums: dict[str, Tensor] = sums) -> None:
            sums[name] = sums[name].add_(part) if name in sums else part.clone()

        with _attached(model, group):
            for batch in batches:
                if not _whole(model, group, batch, loss, score, add):
                    _one_by_one(model, batch, loss, score, add)
        for name in names:
            # a tensor that the loss does not use has no gradient
            deliver(name, sums.pop(name, torch.zeros(shapes[name])))


def _checked_once(loss: Loss) -> Loss:
    """Let a loss refuse, the first time, to read a masked weight past its mask."""
    checked = False

    def first(model: nn.Module, batch: Batch) -> tuple[Tensor, Any]:
        nonlocal checked
        if checked:
            return loss(model, batch)
        counts = []

        def total() -> Tensor:
            value, count = loss(model, batch)
            counts.append(count)
            return value

        value = refuse_unseen_readers(model, total)
        checked = True
        return value, counts[0]

    return first


def _in_one_backward(
    model: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    batch: Batch,
    loss: Loss,
    score: Score,
    deliver: Deliver,
) -> bool:
    """Hand over the statistics of the only batch without sums, where one backward has them."""
    delivered = set()

    def pass_on(name: str, statistic: Tensor) -> None:
        delivered.add(name)
        deliver(name, statistic)

    with _attached(model, shapes):
        done = _whole(model, shapes, batch, loss, score, pass_on)
    for name in shapes if done else ():
        if name not in delivered:
            deliver(name, torch.zeros(shapes[name]))
    return done


def _whole(
    model: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    batch: Batch,
    loss: Loss,
    score: Score,
    receive: Deliver,
) -> bool:
    """Hand over what a batch adds to each statistic if one backward gives it; else return False."""
    if score.source == "gradient":
        with dense_gradients(model, lambda name, g: receive(name, _wide(g))):
            _backward(loss(model, batch)[0])
        return True
    if score.options["information"] != "empirical" or "labels" not in batch:
        return False
    return receive_examples(
        model, shapes, batch, lambda: loss(model, batch)[0], score.term, receive
    )


def _one_by_one(model: nn.Module, batch: Batch, loss: Loss, score: Score, receive: Deliver) -> None:
    """Hand over what each example (and label) of a batch adds to each statistic."""
    weight = 1.0

    def add(name: str, gradient: Tensor) -> None:
        receive(name, score.term(_wide(gradient)) * weight)

    with dense_gradients(model, add):
        for example in single_examples(batch):
            for total, weight in _labelled(model, example, loss, score):  # noqa: B007
                _backward(total)


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

    def add(name: str, module: nn.Module, x: Tensor) -> None:
        flat = x.detach().reshape(-1, x.shape[-1])
        flat = flat.to(torch.promote_types(flat.dtype, torch.float32))
        if (real := tokens.of(module, x)) is not None:
            flat = flat[real]
        square = flat.square().sum(0)
        squares[name] = squares[name] + square if name in squares else square

    owners = {name: modules[name.rpartition(".")[0]] for name in shapes}
    for name, shape in shapes.items():
        linear = name.endswith(".weight") and not isinstance(owners[name], nn.Embedding)
        if not linear or len(shape) != 2:
            raise UserError(
                f"expected weights of linear layers for wanda, got {name} of shape {shape}; leave "
                "it out of targets"
            )
    tokens = Tokens(model)
    handles = [
        owner.register_forward_pre_hook(lambda m, args, name=name: add(name, m, args[0]))
        for name, owner in owners.items()
    ]
    try:
        with torch.no_grad():
            for batch in batches:
                tokens.begin(batch)
                loss(model, batch)
    finally:
        tokens.close()
        for handle in handles:
            handle.remove()
    for name, shape in shapes.items():
        if name not in squares:
            raise UserError(
                f"expected every target to see activations on these batches, got none at {name}; "
                "leave it out of targets"
            )
        norm = squares[name].sqrt()
        transposed = matrix_view(modules, name, shape)[2]
        deliver(name, norm[:, None] if transposed else norm)


def _labelled(
    model: nn.Module, example: Batch, loss: Loss, score: Score
) -> Iterator[tuple[Tensor, float]]:
    """Compute an example's loss at its own label, or at each with the model's probability."""
    if score.options["information"] == "empirical":
        yield loss(model, example)[0], 1.0
        return
    for label in possible_labels(model, example):
        own = example["labels"]
        total, _ = loss(model, example | {"labels": torch.full_like(own, label)})
        yield total, math.exp(-float(total.detach()))


def _backward(total: Tensor) -> None:
    if not total.requires_grad:
        raise UserError("expected a loss that depends on the targets, got a constant; name others")
    total.backward()


def _wide(gradient: Tensor) -> Tensor:
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))


def _groups(shapes: Mapping[str, tuple[int, ...]], max_live: int) -> list[list[str]]:
    """Group the tensors into runs of at most max_live weights, at least one tensor each."""
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
def _attached(model: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[None]:
    """Attach an empty mask, which offers these tensors' dense gradients."""
    empty = {name: torch.empty(0, dtype=torch.int64) for name in shapes}
    attach(model, Mask(empty, shapes, num_parameters(model)))
    try:
        yield
    finally:
        detach(model)
