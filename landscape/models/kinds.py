"""What a model of transformers is: what its configuration and its class say of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from transformers import PretrainedConfig

_PARALLEL = (DataParallel, DistributedDataParallel)

_ALSO_SEE_ALL = ("bert-generation", "cpmant", "xlnet")
"""Beside masked language models: kinds that ``transformers`` lists as causal and are not."""


def sees_all_tokens(config: PretrainedConfig | None) -> bool:
    """Tell whether a configuration is an encoder's: a masked language model, not set to decode.

    ``transformers`` loads such a model as a causal one, without the causal mask.

    >>> from transformers import BertConfig, LlamaConfig
    >>> sees_all_tokens(BertConfig()), sees_all_tokens(LlamaConfig())
    (True, False)
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    kind = getattr(config, "model_type", None)
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind in _ALSO_SEE_ALL
    decodes = any(
        getattr(config, name, False) for name in ("is_decoder", "is_encoder_decoder", "causal")
    )
    return masked and not decodes


def sees_images(config: PretrainedConfig) -> bool:
    """Tell whether a configuration is that of an image classifier."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    )

    return config.model_type in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES


def without_wrappers(model: nn.Module) -> nn.Module:
    """Return the model itself, or the one that a wrapper hides: of torch, compiled, or of peft."""
    inner: Any = model
    while isinstance(inner, _PARALLEL) or hasattr(inner, "_orig_mod"):
        inner = inner.module if isinstance(inner, _PARALLEL) else inner._orig_mod
    found: nn.Module = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return found


def num_labels(model: nn.Module) -> int:
    """Return the number of labels of a sequence classifier, 0 for any other model."""
    base = without_wrappers(model)
    if not type(base).__name__.endswith("ForSequenceClassification"):
        return 0
    return int(base.config.num_labels)  # type: ignore[union-attr, arg-type]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and advice of ``transformers``, and restore them afterwards."""
    from transformers.utils import logging as noise

    bars, verbosity = noise.is_progress_bar_enabled(), noise.get_verbosity()
    noise.disable_progress_bar()
    noise.set_verbosity_error()
    try:
        yield
    finally:
        noise.set_verbosity(verbosity)
        if bars:
            noise.enable_progress_bar()
