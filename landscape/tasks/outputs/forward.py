"""A model's outputs at the positions that are scored, for rows that are padded on the left."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache

from landscape import checks
from landscape.errors import UserError
from landscape.models.kinds import kind, num_labels, sees_all_tokens, without_wrappers
from landscape.tasks.outputs.encoder_decoder import decoder_logits, encoder_rows, to_the_left
from landscape.tasks.padding import Batch

#: models whose forward takes no positions and needs none: padding on the left changes nothing
_WITHOUT_POSITIONS = ("bloom", "falcon_mamba", "mamba", "mamba2", "mpt", "roformer")


def last_logits(
    model: nn.Module, batch: Batch, last: int, cache: Cache | None = None
) -> Float[Tensor, "rows last vocabulary"]:
    """Return logits (rows, last, vocabulary) at the last positions of each row.

    Args:
        model: causal language model or encoder-decoder, masked or not.
        batch: rows of t tokens, padded on the left, on the model's device.
        last: how many positions, from 1 to t.
        cache: keys and values of transformers that the rows go on from, and are put into; the
            batch's ``attention_mask`` then speaks of them too.

    Raises:
        UserError: the model is no such language model, or cannot tell padding from text.
    """
    if kind(model) == "encoder-decoder language model":
        return decoder_logits(model, batch, last)
    mask, base = batch["attention_mask"], without_wrappers(model)
    config, name = getattr(base, "config", None), type(base).__name__
    accepted = inspect.signature(base.forward).parameters
    if "logits_to_keep" not in accepted:
        found = f", {kind(model)}" if kind(model) else ""
        raise UserError(
            "expected a language model of transformers (a causal one, whose forward takes "
            "logits_to_keep, or an encoder-decoder), or a sequence classifier and candidates of "
            f"one token each, got {name}{found}; load it as a language model"
        )
    if sees_all_tokens(config):
        raise UserError(
            f"expected a causal language model or a sequence classifier, got {name}, which sees "
            "the tokens that it should predict; load it with num_labels= as a sequence classifier"
        )
    tokens = batch["input_ids"].shape[1]
    # by places, not by number: a slice of the hidden states costs a product a row in the head
    places = torch.arange(tokens - last, tokens, device=mask.device)
    options: dict[str, Any] = {"logits_to_keep": places if last < tokens else 0}
    if "position_ids" in accepted:
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        options["position_ids"] = positions[:, -tokens:]
    elif getattr(config, "model_type", "") not in _WITHOUT_POSITIONS and not bool(mask.all()):
        raise UserError(
            f"expected rows of one length for {name}, which takes no positions and counts padding "
            "as text, got padded ones; score one row at a time (batches of one example), or use "
            "another model"
        )
    if "use_cache" in accepted:
        options["use_cache"] = cache is not None
    if cache is not None:
        options["past_key_values"] = cache
    logits: Tensor = model(input_ids=batch["input_ids"], attention_mask=mask, **options).logits
    return logits


def label_logits(model: nn.Module, batch: Batch) -> Float[Tensor, "b c"]:
    """Return a classifier's logits (b, c); its label j stands for candidate j.

    Rows are moved to the left, padding on the right, where encoders look for a first token.
    Decoders read the last token that is not the model's padding token, whatever the tokenizer's
    is: so padding becomes the model's. Encoder-decoders read their end token, which is put there.

    Args:
        model: sequence classifier, masked or not.
        batch: b rows, padded on the left, of c candidates of one token each.

    Raises:
        UserError: it has another number of labels than there are candidates, or no padding token
            that its head could tell from text.
    """
    base, width = without_wrappers(model), batch["candidate_ids"].shape[1]
    if width != num_labels(model):
        raise UserError(
            f"expected {num_labels(model)} candidates an example, one a label of "
            f"{type(base).__name__}, got {width}; load the model with num_labels={width}"
        )
    if getattr(base.config, "is_encoder_decoder", False):
        return wide(model(**encoder_rows(model, batch)).logits)
    mask = batch["attention_mask"]
    rows = {name: to_the_left(batch[name], mask) for name in ("input_ids", "attention_mask")}
    if hasattr(base, "score"):  # transformers' name of a decoder classifier's head
        rows["input_ids"] = as_the_model_pads(base, **rows)
    return wide(model(**rows).logits)


def as_the_model_pads(
    model: nn.Module, input_ids: Int[Tensor, "rows t"], attention_mask: Int[Tensor, "rows t"]
) -> Int[Tensor, "rows t"]:
    """Return rows of a decoder classifier with the model's padding token, whatever theirs is.

    Args:
        model: without wrappers; its head reads the last token that is not its padding token.
        input_ids: padded on either side.
        attention_mask: 1 where there is text.

    Raises:
        UserError: the model has no such token, or a text ends with it.
    """
    config: Any = model.config
    pad = config.get_text_config().pad_token_id
    if pad is None:
        if len(input_ids) == 1 and bool(attention_mask.all()):
            return input_ids
        raise UserError(
            f"expected a padding token of {type(model).__name__}, whose head reads the last token "
            "that is none, got pad_token_id None; set model.config.pad_token_id to a token that "
            "ends no text, such as the tokenizer's end of text"
        )
    last = input_ids.gather(1, attention_mask.cumsum(1).argmax(1, keepdim=True))
    if bool((last == pad).any()):
        raise UserError(
            f"expected texts that do not end with the padding token {pad} of "
            f"{type(model).__name__}, whose head reads the last token that is none, got one; set "
            "model.config.pad_token_id to a token that ends no text"
        )
    return input_ids.masked_fill(attention_mask == 0, pad)


def on_device(batch: Batch, model: nn.Module) -> Batch:
    """Return a batch on the model's device.

    Raises:
        UserError: it is no batch.
    """
    checks.model(model)
    checks.has("batch", batch, "a batch", "items", do="make some with make_batches")
    device = next(model.parameters()).device
    return {name: tensor.to(device) for name, tensor in batch.items()}


def token_log_probs(
    logits: Float[Tensor, "rows s vocabulary"], tokens: Int[Tensor, "rows s"],
    there: Bool[Tensor, "rows s"],
) -> Float[Tensor, "rows s"]:  # fmt: skip
    """Return the log-probability that logits give to each token; 0 where there is none."""
    chosen = wide(logits).log_softmax(-1).gather(2, tokens.unsqueeze(2)).squeeze(2)
    return chosen.masked_fill(~there, 0.0)


def wide(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return logits in float32, or in float64 where they are that already."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
