"""Identity: a model's base weights and a mask, as hashes.

The base of a model is what it holds without its mask, W_0: pretrained values stand in for the
masked ones. Hashes of tensors are kept while nothing has written to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from landscape.models.tensors import is_sharded, tensors
from landscape.subspace import attached_mask, dense_starts, is_attached, masked_origins
from landscape.tensorfile import digest_of, hash_tensor

Digests = dict[str, str]
"""Tensor name -> hash of its type, shape and pretrained values."""

_SAMPLE = 32
"""Values of a tensor that are looked at before a known hash is taken for its own."""
_CHUNK = 1 << 20
"""Weights of a masked tensor that are copied, to put their pretrained values back, at a time."""

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
