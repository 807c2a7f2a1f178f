"""The loss of a batch with labels, for a model with a head: cross-entropy, or squared error."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.models.kinds import kind, labels_of, without_wrappers
from landscape.tasks.outputs.forward import as_the_model_pads, wide

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
        UserError: the model takes no labels or has too few for them, or its own loss is another.
    """
    device = next(model.parameters()).device
    inputs = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    base = without_wrappers(model)
    _check_labels(base, inputs["labels"])
    inputs = _readable(base, inputs)
    output, labels = model(**inputs), inputs["labels"]
    logits = getattr(output, "logits", None)
    if logits is None:
        raise _no_head(base)
    if labels.is_floating_point():
        logits = logits.reshape(len(labels), -1)  # DeBERTa returns them as flat as its labels
    if logits.ndim == 3 and _predicts_the_next(base):
        logits, labels = logits[:, :-1], labels[:, 1:]
    wanted, numbers = labels.reshape(-1), labels.is_floating_point()
    if numbers and logits.ndim == 1:  # so DeBERTa returns what its head made with labels
        logits = logits.unsqueeze(1)
    count = len(wanted) if numbers else int((wanted != IGNORED).sum())

    def terms(z: Tensor) -> tuple[Tensor, int]:
        if numbers:
            return (z.reshape(-1) - wanted) ** 2, count
        rows = z.reshape(-1, z.shape[-1])
        return F.cross_entropy(rows, wanted, ignore_index=IGNORED, reduction="none"), count

    z = wide(logits)
    fits = not numbers or z.numel() == len(wanted)
    own = getattr(output, "loss", None)
    if count and not (fits and _agree(terms(z)[0].sum() / count, own)):
        raise UserError(
            f"expected {type(base).__name__} to have the mean cross-entropy of its labels (or the "
            "mean squared error of numbers) as its loss, got "
            f"{'another one' if isinstance(own, Tensor) else 'none'}; pass loss= (or split=), "
            "returning a sum and a number of terms"
        )
    return z, terms


def _check_labels(base: nn.Module, labels: Tensor) -> None:
    """Refuse labels that the model would stumble over: of another kind, or without an output."""
    accepted = inspect.signature(base.forward).parameters.values()
    if not any(p.name == "labels" or p.kind is p.VAR_KEYWORD for p in accepted):
        raise _no_head(base)
    count, numbers = labels_of(base), labels.is_floating_point()
    if count and labels.ndim == 1 and numbers != (count == 1):
        given = "numbers" if numbers else "classes"
        raise UserError(
            f"expected labels for the {count} outputs of {type(base).__name__}, got {given}; load "
            "the model with num_labels=1 for numbers, and one a class for classes"
        )
    if count and not numbers and labels.numel() and int(labels.max()) >= count:
        raise UserError(
            f"expected labels below {count}, the outputs of {type(base).__name__}, got "
            f"{int(labels.max())}; load the model with num_labels={int(labels.max()) + 1} or more"
        )


def _no_head(base: nn.Module) -> UserError:
    return UserError(
        "expected a model with a head, which takes labels and returns logits, got "
        f"{type(base).__name__}; load a classifier with num_labels="
    )


def _readable(base: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as the model reads them: numbers as precise as its outputs, which some give
    the type of their labels; a decoder's padding as its own head expects it."""
    found = dict(inputs)
    if found["labels"].is_floating_point():
        precise = torch.promote_types(found["labels"].dtype, next(base.parameters()).dtype)
        found["labels"] = found["labels"].to(precise)
    accepted = inspect.signature(base.forward).parameters
    if "token_type_ids" not in accepted:
        found.pop("token_type_ids", None)
    decodes = kind(base) == "sequence classifier" and hasattr(base, "score")
    if decodes and {"input_ids", "attention_mask"} <= found.keys():
        found["input_ids"] = as_the_model_pads(base, found["input_ids"], found["attention_mask"])
    return found


def _predicts_the_next(base: nn.Module) -> bool:
    loss = getattr(base, "loss_type", None)
    encodes = getattr(getattr(base, "config", None), "is_encoder_decoder", False)
    return loss == "ForCausalLM" or (loss is None and not encodes)


def _agree(mean: Tensor, theirs: object) -> bool:
    if not isinstance(theirs, Tensor):
        return False
    # theirs may be rounded to the logits' type
    tolerance = max(_DIFFERENT, torch.finfo(theirs.dtype).eps ** 0.5)
    ours, other = float(mean.detach()), float(theirs.detach())
    return not abs(ours - other) > tolerance * max(abs(ours), abs(other))
