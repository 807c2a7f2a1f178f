"""A model with its delta in the weights, written as a folder that anyone's software reads."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import (
    BaseImageProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from landscape.deltas.checkpoint import saved_state
from landscape.errors import UserError
from landscape.models.kinds import quiet

Tokenizer: TypeAlias = PreTrainedTokenizerBase | BaseImageProcessor | ProcessorMixin
"""What `load_model` gives beside a model."""


def write_merged(
    model: PreTrainedModel,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    tokenizer: Tokenizer | None = None,
) -> None:
    """Write W_0 + S(theta) as `save_pretrained` writes a plain model; the model stays as it is.

    Args:
        model: an attached model, as `saved_model` returns it.
        folder: where its files go.
        dtype: floating type to round the weights to; as the model has it if absent.
        tokenizer: saved beside it where it is given.

    Raises:
        UserError: the model has tensors that its class does not make, such as an adapter's, or
            shares memory in a way that transformers does not save.

    Cost: none but the files; with dtype a copy of the weights in that type.
    """
    entries = model.config.to_dict()
    entries.pop("quantization_config", None)  # of a GGUF file: its weights are dequantised
    config = type(model.config).from_dict(entries)
    # a model that itself holds a masked tensor is of a class that attach made
    kind = getattr(type(model), "_masked_base", type(model))
    with torch.device("meta"):  # the same model without values or a mask, to save in its name
        plain: PreTrainedModel = kind(config)
    plain.to(model.dtype if dtype is None else dtype)
    state = saved_state(model)
    strange = state.keys() - plain.state_dict().keys()
    if strange:
        raise UserError(
            f"expected the tensors of a {type(model).__name__}, got {min(strange)} among them; "
            "remove what was added to the model, or use save_delta"
        )
    conversions = getattr(model, "_weight_conversions", None)
    if conversions is not None:  # the names that the base's own files have
        plain._weight_conversions = conversions
    if model.can_generate():
        plain.generation_config = model.generation_config
    with quiet():
        plain.save_pretrained(folder, state_dict={n: _cast(t, dtype) for n, t in state.items()})
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)
