"""What is averaged: a loss that is a sum of terms over the rows of some batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.scoring import task_loss, task_split

Loss: TypeAlias = Callable[[Any, Any], tuple[Tensor, float]]
"""A loss: (model, batch) -> (sum over the loss terms of the batch, number of terms)."""

Terms: TypeAlias = Callable[[Tensor], tuple[Tensor, float]]
"""A loss of outputs z: z -> (loss terms of any shape, their number, absent ones being zero)."""

Split: TypeAlias = Callable[[Any, Any], tuple[Tensor, Terms]]
"""A loss in two halves: (model, batch) -> (outputs z of any shape, the loss of z)."""

_IGNORED = -100
"""The label of what is not scored, in transformers and torch."""

_COUPLED = 1e-3
"""Relative difference above which a loss of halves is another loss than that of the whole."""


def default_split(model: Any, batch: Any) -> tuple[Tensor, Terms]:
    """Cut the loss of a batch at the model's outputs, whatever kind of batch it is.

    A batch of `landscape.make_batches` has the loss of `task_split`; a dict batch with ``labels``
    that of `labelled_split`.

    Raises:
        UserError: it is neither.
    """
    if isinstance(batch, Mapping) and {"candidate_ids", "rows", "targets"} & batch.keys():
        return task_split(model, dict(batch))
    if isinstance(batch, Mapping) and "labels" in batch:
        return labelled_split(model, batch)
    keys = sorted(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
    raise UserError(
        f"expected a batch of make_batches, or a dict of a model's arguments with labels, got "
        f"{keys}; pass loss= (or split=) for other batches"
    )


def default_loss(model: Any, batch: Any) -> tuple[Tensor, float]:
    """Return the sum of the loss terms of a batch and their number, as `default_split` does."""
    if isinstance(batch, Mapping) and {"candidate_ids", "rows", "targets"} & batch.keys():
        return task_loss(model, dict(batch))
    outputs, loss = default_split(model, batch)
    terms, count = loss(outputs)
    return terms.sum(), count


# their terms belong to rows: nothing to check
default_loss.in_batch = default_split.in_batch = False  # type: ignore[attr-defined]


def labelled_split(model: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Terms]:
    """Cut the cross-entropy that a transformers model computes from ``labels`` at its logits.

    A term is a label that is not -100: an example of a classifier, a token of a language model
    (causal ones predict the next token). Their mean is checked against the model's own loss.

    Args:
        model: a transformers model, masked or not.
        batch: its keyword arguments, with integer ``labels``.

    Returns:
        The logits z, and a function z -> (terms, their number).

    Raises:
        UserError: the model's own loss is not the mean cross-entropy of the labels.
    """
    device = next(model.parameters()).device
    inputs = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    output = model(**inputs)
    logits, labels = output.logits, inputs["labels"]
    if logits.ndim == 3 and _predicts_the_next(model):
        logits, labels = logits[:, :-1], labels[:, 1:]
    wanted, count = labels.reshape(-1), int((labels != _IGNORED).sum())

    def terms(z: Tensor) -> tuple[Tensor, float]:
        rows = z.reshape(-1, z.shape[-1])
        return F.cross_entropy(rows, wanted, ignore_index=_IGNORED, reduction="none"), count

    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if count and (wanted.is_floating_point() or not _agree(terms(z)[0].sum() / count, output.loss)):
        raise UserError(
            f"expected {type(model).__name__} to have the mean cross-entropy of its labels as its "
            "loss, got another one; pass loss= (or split=), returning a sum and a number of terms"
        )
    return z, terms


def micro_batches(batch: Any, rows: int) -> list[Any]:
    """Cut a batch into batches of at most so many rows, to need less memory.

    The mean loss over the pieces is that of the batch, and so are its Hessian, Gauss-Newton and
    Fisher matrices, unless the loss couples rows (contrastive), which the operators refuse.

    Args:
        batch: a tensor, or a dict, tuple or list of tensors whose first dimension is the rows;
            anything in it that is no tensor goes into every piece.
        rows: at least 1.

    Raises:
        UserError: rows is below 1, or the tensors differ in their first dimension.

    >>> [piece.tolist() for piece in micro_batches(torch.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    if rows < 1:
        raise UserError(f"expected at least 1 row a batch, got {rows}")
    total = _num_rows(batch)
    if total is None:
        raise UserError(
            "expected tensors with the same first dimension to cut a batch, got others; "
            "make smaller batches from the examples (make_batches)"
        )
    return [_rows_of(batch, slice(start, start + rows)) for start in range(0, total, rows)]


def refuse_coupled_rows(
    objective: Any,
    evaluate: Callable[[Any], tuple[Tensor, float]],
    model: nn.Module,
    batches: Sequence[Any],
) -> None:
    """Refuse a loss over several batches whose value for a row depends on the rest of its batch.

    Compares the mean loss of the first batch that can be cut in two with that of its halves. A
    loss that says ``loss.in_batch = False`` is believed, one that says True is refused; one whose
    batches cannot be cut (see `micro_batches`) is not checked.

    Args:
        objective: the loss or split, for what it says of itself.
        evaluate: batch -> (sum of the terms, their number), in evaluation mode.
        model: for the precision of its weights.
        batches: all batches.

    Raises:
        UserError: the loss couples the rows of a batch, or is random.

    Cost: none for a single batch; else two forwards of one batch.
    """
    says = getattr(objective, "in_batch", None)
    if len(batches) < 2 or says is False:
        return
    whole = parts = 0.0
    if not says:
        batch = next((b for b in batches if (_num_rows(b) or 0) > 1), None)
        if batch is None:
            return
        half = ((_num_rows(batch) or 0) + 1) // 2
        with torch.no_grad():
            (value, count), *pairs = map(evaluate, [batch, *micro_batches(batch, half)])
        total, number = sum(float(v) for v, _ in pairs), sum(float(n) for _, n in pairs)
        if not count or not number:
            return
        whole, parts = float(value) / float(count), total / number
        eps = max(torch.finfo(p.dtype).eps for p in model.parameters() if p.is_floating_point())
        allowed = max(_COUPLED, eps**0.5) * max(abs(whole), abs(parts))
        if not abs(whole - parts) > allowed:
            return
    raise UserError(
        "expected a loss that is a sum over the rows of a batch, got one that couples them "
        f"(in-batch negatives), averages them, or is random: {whole:.4g} for a batch, {parts:.4g} "
        "for its halves; pass a single batch, return (sum, number of terms), or set "
        "loss.in_batch = False"
    )


def _predicts_the_next(model: Any) -> bool:
    kind = getattr(model, "loss_type", None)
    encodes = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    return kind == "ForCausalLM" or (kind is None and not encodes)


def _agree(mean: Tensor, theirs: Any) -> bool:
    if not isinstance(theirs, Tensor):
        return False
    # theirs may be rounded to the logits' type
    tolerance = max(_COUPLED, torch.finfo(theirs.dtype).eps ** 0.5)
    ours, other = float(mean.detach()), float(theirs.detach())
    return not abs(ours - other) > tolerance * max(abs(ours), abs(other))


def _tensors(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    parts = batch.values() if isinstance(batch, Mapping) else batch
    return [part for part in parts if isinstance(part, Tensor)]


def _num_rows(batch: Any) -> int | None:
    """Return the first dimension that all tensors of a batch share, None where there is none."""
    if not isinstance(batch, Tensor | Mapping | tuple | list):
        return None
    sizes = {t.shape[0] if t.ndim else 0 for t in _tensors(batch)}
    return sizes.pop() if len(sizes) == 1 and 0 not in sizes else None


def _rows_of(batch: Any, part: slice) -> Any:
    if isinstance(batch, Tensor):
        return batch[part]
    if isinstance(batch, Mapping):
        return {k: v[part] if isinstance(v, Tensor) else v for k, v in batch.items()}
    return tuple(v[part] if isinstance(v, Tensor) else v for v in batch)
