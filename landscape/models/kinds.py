"""What a model of transformers is: what its configuration and its class say of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from transformers import PretrainedConfig

Kind = Literal[
    "causal language model", "encoder-decoder language model",
    "sequence classifier", "token classifier", "image classifier",
    "encoder of images and texts", "encoder", "image encoder",
]  # fmt: skip
"""What a model is by what it returns; an encoder, of texts or of images, ends without a head."""

Head = Literal["sequence", "tokens"]
"""What a classifier of texts gives its labels to: a whole text, or each of its tokens."""

HEADS: dict[str, Kind] = {"sequence": "sequence classifier", "tokens": "token classifier"}
"""A head -> the kind of model that has it."""

CLASSIFIERS: tuple[Kind, ...] = ("sequence classifier", "token classifier", "image classifier")
"""The kinds that have a number of labels."""

#: how names of classes end
_ENDS: dict[str, Kind] = {
    "ForSequenceClassification": "sequence classifier",
    "ForTokenClassification": "token classifier",
    "ForImageClassification": "image classifier",
    "ForImageClassificationWithTeacher": "image classifier",
    "ZeroShotClassifier": "image classifier",
    "CLIPModel": "encoder of images and texts",
}
#: kind -> the class of transformers that reads it
_READERS: dict[Kind, str] = {
    "causal language model": "AutoModelForCausalLM",
    "encoder-decoder language model": "AutoModelForSeq2SeqLM",
    "sequence classifier": "AutoModelForSequenceClassification",
    "token classifier": "AutoModelForTokenClassification",
    "image classifier": "AutoModelForImageClassification",
    "encoder of images and texts": "AutoModel",
    "encoder": "AutoModel",
    "image encoder": "AutoModel",
}

_PARALLEL = (DataParallel, DistributedDataParallel)

_ALSO_SEE_ALL = ("bert-generation", "cpmant", "xlnet")
"""Beside masked language models: kinds that ``transformers`` lists as causal and are not."""


def kind(model: nn.Module) -> Kind | None:
    """Return what a model is, or the one that a wrapper hides; None where that is not known.

    >>> kind(nn.Linear(2, 2)) is None
    True
    """
    base: Any = without_wrappers(model)
    found = kind_named(type(base).__name__)
    if found is not None:
        return found
    config, accepted = getattr(base, "config", None), inspect.signature(base.forward).parameters
    heads = getattr(base, "get_output_embeddings", lambda: None)() is not None
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in accepted and heads:
        return "encoder-decoder language model"
    if "logits_to_keep" in accepted and not sees_all_tokens(config):
        return "causal language model"
    return None


def kind_named(name: str) -> Kind | None:
    """Return what models of a class are, where its name tells: classifiers, and CLIP's.

    >>> kind_named("BertForTokenClassification"), kind_named("BertForMaskedLM")
    ('token classifier', None)
    """
    return next((kind for end, kind in _ENDS.items() if name.endswith(end)), None)


def reader(kind: Kind) -> Any:
    """Return the class of ``transformers`` that reads models of a kind from their files."""
    import transformers

    return getattr(transformers, _READERS[kind])


def positions(model: nn.Module) -> int | None:
    """Return how many tokens a row may have by a model's positions; None where they don't end.

    RoBERTa and its kin count from behind their padding token, so fewer than they hold.
    """
    held: int | None = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if held is None:
        return None
    for module in without_wrappers(model).modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, nn.Embedding) and table.padding_idx is not None:
            return min(held, table.num_embeddings - table.padding_idx - 1)
    return held


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
    return labels_of(model) if kind(model) == "sequence classifier" else 0


def labels_of(model: nn.Module) -> int:
    """Return the number of labels of a classifier of sequences, tokens or images; 0 without one.

    1 is a regression head: one number instead of a score of each label.
    """
    base: Any = without_wrappers(model)
    return int(base.config.num_labels) if kind(model) in CLASSIFIERS else 0


def head_modules(model: nn.Module) -> list[str]:
    """Return the names of a classifier's modules that are its head: what lies outside its body.

    CLIP's classifier of images does not name its body as its class says; the head of a zero-shot
    classifier is fixed, and no module.
    """
    base: Any = model
    if type(base).__name__.endswith("ZeroShotClassifier"):
        return []
    body, known = base.base_model_prefix, hasattr(base, base.base_model_prefix)
    return [
        name
        for name, child in base.named_children()
        if (name != body if known else name == "classifier")
        and any(True for _ in child.parameters())
    ]


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
