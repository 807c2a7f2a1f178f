"""Scores of candidates and the training loss: mean log-probabilities, from few output positions.

The output head (a fifth of a step at OPT-125m's shape) runs on the scored positions only.
Everything here is differentiable twice.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape import checks
from landscape.errors import UserError
from landscape.models.load import sees_all_tokens
from landscape.tasks.batches import Batch

#: models whose forward takes no positions and needs none: padding on the left changes nothing
_WITHOUT_POSITIONS = ("bloom", "falcon_mamba", "mamba", "mamba2", "mpt", "roformer")


def candidate_scores(model: Any, batch: Batch) -> Tensor:
    """Score each candidate by the mean log-probability of its tokens after the prompt.

        score_j = 1/L_j sum_i log p(token_ji | prompt, token_j1 .. token_j(i-1))

    Args:
        model: causal language model, or a sequence classifier (candidates of one token each).
        batch: b examples with at most c candidates, from ``collate(..., "classification")``.

    Returns:
        Scores (b, c) in float32 or wider, -inf where an example has no such candidate.

    Raises:
        UserError: the batch holds right candidates only, or the model cannot be scored.
    """
    totals, counts = candidate_log_probs(model, batch)
    return totals / counts.clamp(min=1)


def candidate_log_probs(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the summed log-probabilities of each candidate's tokens, and how many there are.

    Args:
        model: causal language model, or a sequence classifier (candidates of one token each).
        batch: as for ``candidate_scores``.

    Returns:
        Sums (b, c), -inf where an example has no such candidate, and counts (b, c), 0 there.
    """
    batch = _on_device(batch, model)
    if "candidate_ids" in batch:
        mask = batch["candidate_mask"]
        totals = _candidate_log_probs(model, batch)
        return totals.masked_fill(~mask, -torch.inf), mask.long()
    if "rows" not in batch:
        raise UserError(
            "expected a batch with all candidates, got one with the right candidates only; make "
            'batches with loss="classification" to score them'
        )
    totals, counts = _row_log_probs(model, batch)
    rows, absent = batch["rows"].clamp(min=0), batch["rows"] < 0
    return totals[rows].masked_fill(absent, -torch.inf), counts[rows].masked_fill(absent, 0)


def task_loss(model: Any, batch: Batch) -> tuple[Tensor, int]:
    """Return the loss of a batch, summed over its terms, and the number of terms.

    Classification: cross-entropy of the candidates' scores against the right one, one term an
    example. With single-token candidates the logits of the candidates serve as scores: they differ
    from the log-probabilities by the normaliser, which all candidates share and which cancels.
    Language modelling: negative log-probability of the right candidate, one term a token.

    Args:
        model: causal language model, or a sequence classifier (candidates of one token each).
        batch: from ``collate``, which is told which of the two losses it is for.

    Returns:
        The sum, a scalar tensor in float32 or wider, and the count. Their quotient over several
        batches (sum of sums / sum of counts) does not depend on how examples are batched.
    """
    batch = _on_device(batch, model)
    labels = batch["labels"]
    if "candidate_ids" in batch:
        logits = _candidate_logits(model, batch)
        return _cross_entropy(logits, ~batch["candidate_mask"], labels), len(labels)
    if "rows" in batch:
        scores = candidate_scores(model, batch)
        return _cross_entropy(scores, batch["rows"] < 0, labels), len(labels)
    totals, counts = _row_log_probs(model, batch)
    return -totals.sum(), int(counts.sum())


def task_split(model: Any, batch: Batch) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, int]]]:
    """Cut ``task_loss`` at the model's outputs, where what follows is convex in them.

    Args:
        model: causal language model, or a sequence classifier (candidates of one token each).
        batch: from ``collate``.

    Returns:
        The outputs z, and a function z -> (loss terms, their number) whose terms sum to the loss
        of ``task_loss``. Classification: z holds the candidates' scores (b, c), a term an example.
        Language modelling: z holds the logits (rows, L, vocabulary), a term a token, absent
        tokens being zero.
    """
    batch = _on_device(batch, model)
    labels = batch["labels"]
    if "candidate_ids" in batch or "rows" in batch:
        if "candidate_ids" in batch:
            absent = ~batch["candidate_mask"]
            scores = _candidate_logits(model, batch)
        else:
            absent, scores = batch["rows"] < 0, candidate_scores(model, batch)
        return scores.masked_fill(absent, 0.0), lambda z: (
            _cross_entropy(z, absent, labels, reduction="none"),
            len(labels),
        )
    targets, mask = batch["targets"], batch["target_mask"]

    def log_losses(z: Tensor) -> tuple[Tensor, int]:
        chosen = z.log_softmax(-1).gather(2, targets.unsqueeze(2)).squeeze(2)
        return -chosen.masked_fill(~mask, 0.0), int(mask.sum())

    return _wide(_logits(model, batch, targets.shape[1])), log_losses


def _cross_entropy(
    scores: Tensor, absent: Tensor, labels: Tensor, reduction: str = "sum"
) -> Tensor:
    """Return the cross-entropy over the candidates (b, c) that are there, summed by default."""
    # Not -inf: the second derivative of log_softmax multiplies it by zero.
    far = torch.finfo(scores.dtype).min / 2
    return F.cross_entropy(scores.masked_fill(absent, far), labels, reduction=reduction)


def _candidate_logits(model: Any, batch: Batch) -> Tensor:
    """Return the logits (b, c) of single-token candidates."""
    if _labels(model):
        return _label_logits(model, batch)
    return _wide(_logits(model, batch, 1)[:, -1].gather(1, batch["candidate_ids"]))


def _candidate_log_probs(model: Any, batch: Batch) -> Tensor:
    """Return the log-probabilities (b, c) of single-token candidates, among all outputs."""
    if _labels(model):
        absent = ~batch["candidate_mask"]
        return _label_logits(model, batch).masked_fill(absent, -torch.inf).log_softmax(-1)
    log_probs = _wide(_logits(model, batch, 1)[:, -1]).log_softmax(-1)
    return log_probs.gather(1, batch["candidate_ids"])


def _labels(model: Any) -> int:
    """Return the number of labels of a sequence classifier, 0 for any other model."""
    base = _base(model)
    if not type(base).__name__.endswith("ForSequenceClassification"):
        return 0
    return int(base.config.num_labels)


def _label_logits(model: Any, batch: Batch) -> Tensor:
    """Return a classifier's logits (b, c); its label j stands for candidate j.

    Rows are moved to the left, padding on the right, where encoders look for a first token.
    Decoders read the last token that is not the model's padding token, whatever the tokenizer's
    is: so padding becomes the model's.
    """
    width = batch["candidate_ids"].shape[1]
    if width != _labels(model):
        raise UserError(
            f"expected {_labels(model)} candidates an example, one a label of "
            f"{type(_base(model)).__name__}, got {width}; load the model with labels={width}"
        )
    mask = batch["attention_mask"]
    order = (1 - mask).argsort(dim=1, stable=True)
    rows = {name: batch[name].gather(1, order) for name in ("input_ids", "attention_mask")}
    if hasattr(_base(model), "score"):  # transformers' name of a decoder classifier's head
        rows["input_ids"] = _as_the_model_pads(_base(model), **rows)
    return _wide(model(**rows).logits)


def _as_the_model_pads(model: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    pad = model.config.get_text_config().pad_token_id
    if pad is None:
        if len(input_ids) == 1 and bool(attention_mask.all()):
            return input_ids
        raise UserError(
            f"expected a padding token of {type(model).__name__}, whose head reads the last token "
            "that is none, got pad_token_id None; set model.config.pad_token_id to a token that "
            "ends no text, such as the tokenizer's end of text"
        )
    last = input_ids.gather(1, attention_mask.sum(1, keepdim=True) - 1)
    if bool((last == pad).any()):
        raise UserError(
            f"expected texts that do not end with the padding token {pad} of "
            f"{type(model).__name__}, whose head reads the last token that is none, got one; set "
            "model.config.pad_token_id to a token that ends no text"
        )
    return input_ids.masked_fill(attention_mask == 0, pad)


def _row_log_probs(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return summed log-probabilities (rows,) of each row's targets, and their numbers (rows,)."""
    targets, mask = batch["targets"], batch["target_mask"]
    log_probs = _wide(_logits(model, batch, targets.shape[1])).log_softmax(-1)
    chosen = log_probs.gather(2, targets.unsqueeze(2)).squeeze(2)
    return chosen.masked_fill(~mask, 0.0).sum(1), mask.sum(1)


def _logits(model: Any, batch: Batch, last: int) -> Tensor:
    """Return logits (rows, last, vocabulary) at the last positions of each row."""
    mask = batch["attention_mask"]
    accepted = _forward_arguments(model)
    if "logits_to_keep" not in accepted:
        raise UserError(
            "expected a causal language model of transformers whose forward takes logits_to_keep, "
            "or a sequence classifier and candidates of one token each, got "
            f"{type(model).__name__}; load it as a causal language model"
        )
    config = getattr(_base(model), "config", None)
    if sees_all_tokens(config):
        raise UserError(
            "expected a causal language model or a sequence classifier, got "
            f"{type(_base(model)).__name__}, which sees the tokens that it should predict; load "
            "it with labels= as a sequence classifier"
        )
    options: dict[str, Any] = {"logits_to_keep": last}
    if "position_ids" in accepted:
        options["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    elif getattr(config, "model_type", "") not in _WITHOUT_POSITIONS and not bool(mask.all()):
        raise UserError(
            f"expected rows of one length for {type(_base(model)).__name__}, which takes no "
            "positions and counts padding as text, got padded ones; score one row at a time "
            "(batches of one example), or use another model"
        )
    if "use_cache" in accepted:
        options["use_cache"] = False
    logits: Tensor = model(input_ids=batch["input_ids"], attention_mask=mask, **options).logits
    return logits


def _forward_arguments(model: Any) -> frozenset[str]:
    """Return the names that the model's forward takes."""
    return frozenset(inspect.signature(_base(model).forward).parameters)


def _base(model: Any) -> Any:
    """Return the model itself, or the one that a wrapper (peft) hides."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _on_device(batch: Batch, model: Any) -> Batch:
    checks.model(model)
    checks.has("batch", batch, "a batch", "items", do="make some with make_batches")
    device = next(model.parameters()).device
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _wide(logits: Tensor) -> Tensor:
    """Return logits in float32, or in float64 where they are that already."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
