"""Identity: what numbers depend on, as hashes of a model's base weights, tokenizer, rows and mask.

The base of a model is what it holds without its mask, W_0: pretrained values stand in for the
masked ones. Hashes of tensors are kept while nothing has written to them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from landscape.models.tensors import is_sharded, tensors
from landscape.subspace import (
    attached_mask,
    dense_starts,
    is_attached,
    masked_origins,
    thetas,
    trainable,
)
from landscape.tasks import Example, Task
from landscape.tensorfile import digest_of, hash_tensor

Digests = dict[str, str]
"""Tensor name -> hash of its type, shape and pretrained values."""

_SAMPLE = 32
"""Values of a tensor that are looked at before a known hash is taken for its own."""
_CHUNK = 1 << 20
"""Weights of a masked tensor that are copied, to put their pretrained values back, at a time."""
#: what a model's configuration says of its files and of how it is run, not of what it computes
_INCIDENTAL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache",
               "quantization_config", "architectures", "base_model_name_or_path", "inference_mode",
               "rank_pattern", "_commit_hash", "revision")  # fmt: skip

_State = list[tuple[Any, ...]]
_known: WeakKeyDictionary[nn.Module, dict[str, tuple[_State, str]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class _Held:
    """A tensor of a base.

    Args:
        name: as the model has it.
        key: what the names of a tied tensor share.
        parts: the storage to hash.
        lasting: whether the storage is the model's own, not gathered for the occasion.
        overlay: indices that are masked, and the pretrained values there.
    """

    name: str
    key: int
    parts: list[Tensor]
    lasting: bool = True
    overlay: tuple[Tensor, Tensor] | None = None

    def state(self) -> _State | None:
        """Return what changes when the tensor is written, None where that is not known."""
        strange = [t.is_meta or t.is_inference() or not t.is_contiguous() for t in self.parts]
        if any(strange) or not self.lasting:
            return None
        state: _State = [_written(part) for part in self.parts]
        if self.overlay is not None:  # the weight of a mask that is merged stays as it was written
            state.append((digest_of(dict(zip("ab", self.overlay))),))
        return state

    def hash(self) -> str:
        """Hash types, shapes and values; a tensor on the meta device has no values."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
            if not part.is_meta and self.overlay is None:
                hash_tensor(digest, part)
            elif not part.is_meta:
                self._hash_base(digest, part.detach().reshape(-1))
        return digest.hexdigest()[:32]

    def _hash_base(self, digest: Any, flat: Tensor) -> None:
        assert self.overlay is not None
        indices, origin = self.overlay
        for start in range(0, flat.numel(), _CHUNK):
            piece = flat[start : start + _CHUNK].to("cpu", copy=True)
            first, last = torch.searchsorted(indices, torch.tensor([start, start + _CHUNK]))
            piece[indices[first:last] - start] = origin[first:last].to(piece.dtype)
            hash_tensor(digest, piece)


@torch.no_grad()
def base_digests(model: nn.Module) -> Digests:
    """Hash every tensor of a model's base: its parameters and its stored buffers.

    The mask that may be attached counts for nothing, nor does training beside it. A hash is kept
    until its tensor's version changes; of a tensor that is written through ``.data``, which has no
    version, 32 values are looked at.

    Cost: SHA-256 once over all weights, 0.3 to 1 s for 135 million in float32; then milliseconds.
    Of a sharded model each tensor is gathered in turn, every time: every process has to ask.
    """
    before = _known.get(model, {})
    now: dict[str, tuple[_State, str]] = {}
    found: Digests = {}
    tied: dict[int, str] = {}
    for held in _tensors(model):
        if held.key not in tied:
            state = held.state()
            old, digest = before.get(held.name, (None, ""))
            if state is None or old != state:
                digest = held.hash()
            if state is not None:
                now[held.name] = (state, digest)
            tied[held.key] = digest
        found[held.name] = tied[held.key]
    _known[model] = now
    return found


@torch.no_grad()
def keep_digests(model: nn.Module, digests: Mapping[str, str]) -> None:
    """Keep hashes that a mask, attached or removed just now, has left true.

    Args:
        model: the model.
        digests: what `base_digests` returned before; nothing but the mask was changed since.
    """
    states = {held.name: held.state() for held in _tensors(model)}
    both = {name: state for name, state in states.items() if name in digests}
    _known[model] = {name: (s, digests[name]) for name, s in both.items() if s is not None}


def fingerprint(digests: Mapping[str, str], *, without: Collection[str] = ()) -> str:
    """Return one hash of many, those of some tensors left out."""
    lines = [f"{name} {digests[name]}\n" for name in sorted(digests.keys() - set(without))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def precision(model: nn.Module) -> str:
    """Return the floating types of a model's weights, theta left out: "float32" as a rule."""
    kinds = {
        str(p.dtype).removeprefix("torch.")
        for name, p in model.named_parameters()
        if not name.rpartition(".")[2].startswith("theta_")
    }
    return ", ".join(sorted(kinds))


def other_tensors(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """List the tensors whose hashes differ, those that one of the two lacks included."""
    return [n for n in sorted(there.keys() | here.keys()) if there.get(n) != here.get(n)]


def run_identity(
    model: nn.Module, tokenizer: Any, task: Task, *, test: bool, scheduled: bool
) -> dict[str, Any]:
    """Return hashes of all that a fine-tuning run depends on, beside its settings.

    Args:
        model: at the run's start.
        tokenizer, task: of the run.
        test: whether the run evaluates on test.
        scheduled: whether a schedule makes the mask; then a mask that is attached does not count.

    Returns:
        For `open_folder`: plural names -> hashes; the hub's revision, None where it is not known.

    Cost: as `base_digests`, and 30 ms for a tokenizer of 49,152 entries.
    """
    digests, numbers = base_digests(model), trainable(model)
    masked = scheduled or is_attached(model)
    own = set() if masked else set(numbers)
    splits = ("train", "dev", "test") if test else ("train", "dev")
    found = {
        "base weights": fingerprint(digests, without=own),
        "model settings": _settings(model),
        "tokenizer contents": _tokenizer(tokenizer),
        **{f"{split} rows": _rows(task.split(split)) for split in splits},
        "revisions": getattr(getattr(model, "config", None), "_commit_hash", None),
    }
    if not masked:
        found["starting values"] = fingerprint({name: digests[name] for name in own})
    elif not scheduled:
        starts = dense_starts(model)
        moved = any(bool(theta.any()) for theta in thetas(model).values())
        moved = moved or any(not torch.equal(numbers[n], start) for n, start in starts.items())
        found["starting values"] = digest_of(numbers) if moved else "zero"
        if starts:
            found["dense tensors"] = ", ".join(starts)
        found["mask indices"] = mask_digest(attached_mask(model).indices)
    return found


def mask_digest(indices: Mapping[str, Tensor]) -> str:
    """Return a hash of a mask's indices."""
    return digest_of({name: flat.long() for name, flat in indices.items()})


def _tensors(model: nn.Module) -> Iterator[_Held]:
    """List the tensors of a base, every name of a tied one."""
    overlay, starts = _overlay(model), dense_starts(model)
    for tensor in tensors(model):
        key, sharded = tensor.identity, is_sharded(tensor.module._parameters.get(tensor.leaf))
        parts = [tensor.values()] if sharded or not tensor.quantised else _packed(tensor.module)
        parts = [starts[tensor.name]] if tensor.name in starts else parts
        yield _Held(tensor.name, key, parts, not sharded, overlay.get(key))
    for path, module in model.named_modules(remove_duplicate=False):
        for leaf, buffer in module._buffers.items():
            passing = leaf.startswith("theta_") or leaf in module._non_persistent_buffers_set
            if buffer is not None and not passing:
                yield _Held(f"{path}.{leaf}" if path else leaf, id(buffer), [buffer])


def _packed(module: nn.Module) -> list[Tensor]:
    named = [*module.named_parameters(), *module.named_buffers()]
    return [t for name, t in named if not name.rpartition(".")[2].startswith("theta_")]


def _overlay(model: nn.Module) -> dict[int, tuple[Tensor, Tensor]]:
    """Return the indices and pretrained values of masked tensors, by what tied names share."""
    if not is_attached(model):
        return {}
    held = {t.name: t for t in tensors(model)}
    indices = {held[n].identity: flat for n, flat in attached_mask(model).indices.items()}
    return {
        held[name].identity: (indices[held[name].identity].cpu(), origin.cpu())
        for name, origin in masked_origins(model).items()
        if not held[name].quantised
    }


def _written(tensor: Tensor) -> tuple[Any, ...]:
    flat = tensor.detach().view(-1)
    sample = flat[:: max(1, flat.numel() // _SAMPLE)].cpu().contiguous()
    seen = sample.view(torch.uint8).numpy().tobytes()
    return tensor.data_ptr(), tensor._version, tensor.numel(), seen


def _settings(model: nn.Module) -> str:
    """Hash the numbers that a model computes with beside its tensors: dropout, epsilon, scaling."""
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
    return {key: value for key, value in entries.items() if key not in _INCIDENTAL}


def _tokenizer(tokenizer: Any) -> str:
    """Hash a tokenizer: vocabulary, merges, normaliser, special tokens, chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        rules = _rules(backend)
    else:
        vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else None
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


def _rows(examples: Collection[Example]) -> dict[str, Any]:
    """Hash examples in their order, texts and labels apart."""
    told = [f.name for f in dataclasses.fields(Example)]
    answers = [name for name in told if name not in ("prompt", "candidates", "group")]
    texts = [[example.prompt, example.candidates] for example in examples]
    labels = [[getattr(example, name) for name in answers] for example in examples]
    return {"count": len(labels), "texts": _hash_json(texts), "labels": _hash_json(labels)}


def _hash_json(value: Any) -> str:
    text = json.dumps(_plain(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    item = getattr(value, "item", None)  # numpy's numbers
    return item() if callable(item) else f"{type(value).__name__} {getattr(value, 'value', '')}"
