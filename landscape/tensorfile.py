"""Tensor files: safetensors with a JSON header, and a digest by which damage is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from landscape.errors import UserError
from landscape.folders import json_object, write_whole

_CHUNK = 1 << 22
"""Bytes of a tensor on another device that are copied to be hashed at a time."""


@dataclass(frozen=True)
class TensorFile:
    """Hold what a tensor file says.

    Args:
        path: where it lies.
        header: its JSON object.
        tensors: name -> tensor, on cpu.
        digest: what the file says is the digest of both, None where it says nothing.
        text: the header as it is written.
        cure: what to do about a damaged file.
    """

    path: Path
    header: dict[str, Any]
    tensors: dict[str, Tensor]
    digest: str | None
    text: str
    cure: str

    def check(self) -> None:
        """Compare the digest.

        Raises:
            UserError: the header or a tensor is not what was written.
        """
        if self.digest != _digest(self.text, self.tensors):
            raise UserError(
                f"expected {self.path} as it was written, got other values: its digest differs; "
                f"the file is damaged, {self.cure}"
            )


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> Path:
    """Write tensors and a header, whole or not at all.

    Args:
        path: the file; a leading ~ is the user's folder.
        tensors: name -> tensor; none may share memory.
        header: a JSON object.

    Returns:
        The path, with ~ replaced.
    """
    stored = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    text = json.dumps(dict(header), allow_nan=False)
    metadata = {"landscape": text, "sha256": _digest(text, stored)}
    write_whole(path, lambda temporary: save_file(stored, temporary, metadata=metadata))
    return Path(path).expanduser()


def read_tensors(
    path: str | Path,
    what: str,
    *,
    cure: str = "save it again",
    accept: Callable[[dict[str, Any], Collection[str]], None] = lambda header, names: None,
) -> TensorFile:
    """Read a tensor file; its digest is left to `TensorFile.check`.

    Args:
        path: the file.
        what: what it should be, such as "a delta file".
        cure: what to do about a file that is missing or damaged.
        accept: called as ``accept(header, names)`` before any tensor is read, to refuse a file.

    Returns:
        What the file holds.

    Raises:
        UserError: there is no file, or it is no whole tensor file.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        raise UserError(f"expected {what}, found none at {place}; check the path, or {cure}")
    try:
        with safe_open(place, framework="pt") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
            text = metadata.get("landscape", "{}")
            header = json_object(text, f"the header of {place}")
            accept(header, names)
            tensors = {name: file.get_tensor(name) for name in names}
    except UserError:
        raise
    # what the reader raises at a damaged header depends on which byte it is
    except (SafetensorError, OSError, ValueError, TypeError, LookupError, AttributeError,
            RuntimeError, MemoryError) as error:  # fmt: skip
        raise UserError(
            f"expected {what} in {place}, which is not a whole safetensors file ({error}); {cure}"
        ) from error
    return TensorFile(place, header, tensors, metadata.get("sha256"), text, cure)


def hash_tensor(digest: hashlib._Hash, tensor: Tensor) -> None:
    """Feed a tensor's bytes, in order, to a hash of hashlib; nothing of its size is copied.

    Args:
        digest: as ``hashlib.sha256()`` returns it.
        tensor: of any shape, dtype and device.

    Cost: SHA-256 takes 0.3 to 1 s for 135 million float32 values, by the CPU.
    """
    flat = tensor.detach().reshape(-1)
    step = max(1, _CHUNK // max(flat.element_size(), 1)) if flat.device.type != "cpu" else len(flat)
    for part in flat.split(max(step, 1)):
        bits = part.cpu()
        if bits.stride(0) != 1:  # of an empty or single number too, which torch calls contiguous
            bits = bits.clone(memory_format=torch.contiguous_format)
        digest.update(bits.view(torch.uint8).numpy())


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of named tensors: names, types, shapes and bytes, whatever their order."""
    return _digest("", tensors)


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        hash_tensor(digest, tensor)
    return digest.hexdigest()
