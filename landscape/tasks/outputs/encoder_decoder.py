"""Rows for an encoder-decoder: the prompt goes to the encoder, the candidate to the decoder.

A row of a batch holds a prompt and all but the last token of a candidate. The encoder reads the
prompt and the end token that its pretraining put behind every text; the decoder its start token and
the candidate's tokens but the last. Both are padded on the right, where nothing looks at padding:
the decoder sees no later token, the encoder is told what is text.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.models.kinds import without_wrappers
from landscape.models.tensors import is_sharded
from landscape.tasks.padding import Batch


def encoder_rows(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return what the encoder reads of each row: the prompt and the model's end token.

    Args:
        model: an encoder-decoder of transformers.
        batch: rows of prompts, or of prompts with all but the last token of a candidate.

    Returns:
        ``input_ids`` and ``attention_mask`` (rows, t'), padded on the right.
    """
    mask = batch["attention_mask"]
    lengths = mask.sum(1)
    if "target_mask" in batch:
        lengths = lengths + 1 - batch["target_mask"].sum(1)
    ids = to_the_left(batch["input_ids"], mask)
    return _ended(without_wrappers(model), ids, lengths)


def decoder_logits(
    model: nn.Module, batch: Batch, last: int
) -> Float[Tensor, "rows last vocabulary"]:
    """Return the logits (rows, last, vocabulary) by which the decoder predicts each candidate.

    Args:
        model: an encoder-decoder of transformers with a language head, masked or not.
        batch: rows of t tokens on the model's device; without ``target_mask`` rows are prompts, and
            the first token after the start is predicted.
        last: tokens of the longest candidate; shorter ones' logits end at the right.

    Raises:
        UserError: the configuration names no token for the decoder to start with.

    Cost: the encoder runs once a prompt where a batch has all candidates, the decoder once a row.
    """
    encoded = encoder_rows(model, batch)
    rows = len(encoded["input_ids"])
    start = torch.full((rows, 1), decoder_start(model), device=encoded["input_ids"].device)
    given, lengths = start, None
    if "target_mask" in batch:
        lengths = batch["target_mask"].sum(1)
        targets = to_the_left(batch["targets"], batch["target_mask"].long())
        given = torch.cat([start, targets[:, :-1]], 1)
    inputs: dict[str, Any] = encoded
    if "rows" in batch and without_wrappers(model) is model and not _any_sharded(model):
        inputs = _shared(model, encoded, batch["rows"])
    logits: Tensor = model(**inputs, decoder_input_ids=given, use_cache=False).logits
    if lengths is None or last == 1 or bool((lengths == last).all()):
        return logits
    places = torch.arange(last, device=logits.device) - (last - lengths).unsqueeze(1)
    index = places.clamp(min=0).unsqueeze(2).expand(-1, -1, logits.shape[2])
    return logits.gather(1, index)


def _shared(model: Any, encoded: dict[str, Tensor], rows: Int[Tensor, "b c"]) -> dict[str, Any]:
    """Encode each example's prompt once, for the rows of all its candidates."""
    first = rows[:, 0]
    there = rows >= 0
    example = torch.arange(len(rows), device=rows.device).unsqueeze(1).expand_as(rows)
    of_row = torch.empty(int(there.sum()), dtype=torch.long, device=rows.device)
    of_row[rows[there]] = example[there]
    prompts = {name: tensor[first] for name, tensor in encoded.items()}
    output = model.get_encoder()(**prompts)
    output.last_hidden_state = output.last_hidden_state[of_row]
    return {"encoder_outputs": output, "attention_mask": encoded["attention_mask"]}


def _any_sharded(model: nn.Module) -> bool:
    return any(is_sharded(parameter) for parameter in model.parameters())


def to_the_left(rows: Int[Tensor, "rows t"], mask: Int[Tensor, "rows t"]) -> Int[Tensor, "rows t"]:
    """Move the tokens of rows that are padded on the left to the left."""
    return rows.gather(1, (1 - mask).argsort(dim=1, stable=True))


def _ended(
    base: Any, ids: Int[Tensor, "rows t"], lengths: Int[Tensor, " rows"]
) -> dict[str, Tensor]:
    """Cut rows to their lengths and put the end token behind those that have none there."""
    end = base.config.eos_token_id
    end = end[0] if isinstance(end, list) else end
    ids, lengths = F.pad(ids, (0, 1)), lengths.unsqueeze(1)
    if end is not None:
        missing = (ids.gather(1, lengths - 1) != end).long()
        ids = ids.scatter(1, lengths, end)
        lengths = lengths + missing
    width = int(lengths.max())
    mask = (torch.arange(width, device=ids.device) < lengths).long()
    pad = base.config.pad_token_id or 0
    return {"input_ids": ids[:, :width].masked_fill(mask == 0, pad), "attention_mask": mask}


def decoder_start(model: nn.Module) -> int:
    """Return the token that an encoder-decoder's decoder starts with.

    Raises:
        UserError: the model names none.
    """
    base: Any = without_wrappers(model)
    for config in (base.config, getattr(base, "generation_config", None)):
        token = getattr(config, "decoder_start_token_id", None)
        if token is not None:
            return int(token)
    raise UserError(
        f"expected {type(base).__name__} to name the token that its decoder starts with, got "
        "decoder_start_token_id None; set model.config.decoder_start_token_id, as its "
        "pretraining had it"
    )
