"""What a run depends on beside its settings, as hashes: weights, tokenizer, rows, mask, start."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from landscape.identity import base_digests, fingerprint, mask_digest
from landscape.subspace import attached_mask, dense_starts, is_attached, thetas, trainable
from landscape.tasks import Task
from landscape.tasks.example import AnyExample
from landscape.tensorfile import digest_of

#: what a model's configuration says of its files and of how it is run, not of what it computes
_INCIDENTAL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache",
               "quantization_config", "architectures", "base_model_name_or_path", "inference_mode",
               "rank_pattern", "_commit_hash", "revision")  # fmt: skip


def run_identity(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    test: bool,
    scheduled: bool,
    method: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Return hashes of all that a fine-tuning run depends on, beside its settings.

    What a seed has determined, the weights of a mask or the first values of a LoRA, counts by what
    came out of it.

    Args:
        model: at the run's start.
        tokenizer, task: of the run.
        test: whether the run evaluates on test.
        scheduled: whether a schedule makes the mask; then a mask that is attached does not count.
        method: the state of the method that the model was made with; an empty one as a rule.

    Returns:
        For `open_folder`: plural names -> hashes; the hub's revision, None where it is not known.

    Cost: as `base_digests`, and 30 ms for a tokenizer of 49,152 entries.
    """
    digests, parameters = base_digests(model), trainable(model)
    masked = scheduled or is_attached(model)
    own = set() if masked else set(parameters)
    splits = ("train", "dev", "test") if test else ("train", "dev")
    found = {
        "base weights": fingerprint(digests, without=own),
        "model settings": _settings(model),
        "tokenizer contents": _tokenizer(tokenizer),
        **{f"{split} rows": digest_examples(task.split(split)) for split in splits},
        "revisions": getattr(getattr(model, "config", None), "_commit_hash", None),
    }
    if not masked:
        found["starting values"] = fingerprint({name: digests[name] for name in own})
    elif not scheduled:
        starts = dense_starts(model)
        moved = any(bool(theta.any()) for theta in thetas(model).values())
        moved = moved or any(not torch.equal(parameters[n], start) for n, start in starts.items())
        found["starting values"] = digest_of(parameters) if moved else "zero"
        if starts:
            found["dense tensors"] = ", ".join(starts)
        found["mask indices"] = mask_digest(attached_mask(model).indices)
    if method:
        found["values of the method"] = digest_of(method)
    return found


def _settings(model: nn.Module) -> str:
    """Hash what a model computes with beside its tensors: dropout, epsilon, scaling."""
    config: Any = getattr(model, "config", None)
    told = {
        "config": _computing(config.to_dict()) if hasattr(config, "to_dict") else None,
        "methods": {
            name: _computing(method.to_dict())
            for name, method in getattr(model, "peft_config", {}).items()
        },
        "modules": {
            f"{name}.{key}": value
            for name, module in model.named_modules()
            for key, value in vars(module).items()
            if isinstance(value, float) and not key.startswith("_")
        },
    }
    return _hash_json(told)


def _computing(entries: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in entries.items() if key not in _INCIDENTAL}
    if "problem_type" in kept:  # transformers writes it at the first labels that a model sees
        kept["problem_type"] = None
    return kept


def _tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash a tokenizer: vocabulary, merges, normaliser, special tokens, chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        rules = _rules(backend)
    else:
        vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else None
        if hasattr(tokenizer, "preprocess"):  # an image processor
            vocabulary = _computing(tokenizer.to_dict())
        rules = f"{type(tokenizer).__qualname__} {_hash_json(vocabulary)}"
    special = getattr(tokenizer, "special_tokens_map", {})
    return _hash_json({
        "rules": hashlib.sha256(rules.encode()).hexdigest(),
        "special": {key: str(token) for key, token in special.items()},
        "longest": getattr(tokenizer, "model_max_length", None),
        "chat": getattr(tokenizer, "chat_template", None),
    })  # fmt: skip


def _rules(backend: Any) -> str:
    """Serialise a fast tokenizer but for the truncation and padding of its last call."""
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    try:
        text: str = backend.to_str()
        return text
    finally:
        if truncation is not None:
            backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)


#: what the kinds of examples show and are judged by, beside their labels
_TEXTS = ("prompt", "candidates", "texts", "words", "image")


def digest_examples(examples: Collection[AnyExample]) -> dict[str, Any]:
    """Hash examples in their order, what they show and their labels apart."""
    told = [f.name for example in list(examples)[:1] for f in dataclasses.fields(example)]
    answers = [name for name in told if name not in (*_TEXTS, "group")]
    shows = [name for name in told if name in _TEXTS]
    texts = [[getattr(example, name) for name in shows] for example in examples]
    labels = [[getattr(example, name) for name in answers] for example in examples]
    return {"count": len(labels), "texts": _hash_json(texts), "labels": _hash_json(labels)}


def _hash_json(value: Any) -> str:
    text = json.dumps(_plain(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    item = getattr(value, "item", None)  # numpy's scalars
    return item() if callable(item) else f"{type(value).__name__} {getattr(value, 'value', '')}"
