"""The loss of a batch with labels, for a model with a head: cross-entropy, or squared error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import UserError

IGNORED = -100
"""The label of what is not scored, in transformers and torch."""

_DIFFERENT = 1e-3
"""Relative difference above which two losses are not the same."""


def labelled_split(
    model: nn.Module, batch: Mapping[str, Any]
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, int]]]:
    """Return a model's logits, and the loss of ``labels`` as a function of them.

    A term is a label that is not -100: an example of a classifier, a token of a language model
    (causal ones predict the next token), a word's tag. Whole labels have the cross-entropy,
    floating ones the squared error of a head with one output. The mean of the terms is checked
    against the model's own loss.

    Args:
        model: a transformers model, masked or not.
        batch: its keyword arguments, with ``labels``.

    Returns:
        The logits z, and a function z -> (terms, their number).

    Raises:
        UserError: the model's own loss is another one.
    """
    device = next(model.parameters()).device
    inputs = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    output = model(**inputs)
    logits, labels = output.logits, inputs["labels"]
    if logits.ndim == 3 and _predicts_the_next(model):
        logits, labels = logits[:, :-1], labels[:, 1:]
    wanted, numbers = labels.reshape(-1), labels.is_floating_point()
    count = len(wanted) if numbers else int((wanted != IGNORED).sum())

    def terms(z: Tensor) -> tuple[Tensor, int]:
        if numbers:
            return (z.reshape(-1) - wanted) ** 2, count
        rows = z.reshape(-1, z.shape[-1])
        return F.cross_entropy(rows, wanted, ignore_index=IGNORED, reduction="none"), count

    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    fits = not numbers or z.numel() == len(wanted)
    if count and not (fits and _agree(terms(z)[0].sum() / count, output.loss)):
        raise UserError(
            f"expected {type(model).__name__} to have the mean cross-entropy of its labels (or the "
            "mean squared error of numbers) as its loss, got another one; pass loss= (or split=), "
            "returning a sum and a number of terms"
        )
    return z, terms


def _predicts_the_next(model: nn.Module) -> bool:
    kind = getattr(model, "loss_type", None)
    encodes = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    return kind == "ForCausalLM" or (kind is None and not encodes)


def _agree(mean: Tensor, theirs: object) -> bool:
    if not isinstance(theirs, Tensor):
        return False
    # theirs may be rounded to the logits' type
    tolerance = max(_DIFFERENT, torch.finfo(theirs.dtype).eps ** 0.5)
    ours, other = float(mean.detach()), float(theirs.detach())
    return not abs(ours - other) > tolerance * max(abs(ours), abs(other))
