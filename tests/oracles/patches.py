"""Patches applied to the files of a checkpoint as their readers say, each in its own way.

vLLM's from the contract of its checkpoint patches: a tensor of the whole shape is NaN but at the
flat indices, and where it is NaN an entry stays; a model may hold a slice of it, or several
tensors in one. TRL's from its receiver: a bfloat16 copy of the checkpoint is written to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

Tensors = dict[str, Tensor]


class Patch(NamedTuple):
    """What vLLM takes: fields and order as there."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    values: Tensor
    indices: Tensor

    def staged(self) -> Tensor:
        """Return the whole tensor, NaN where an entry stays, after vLLM's checks."""
        places = self.indices.tolist()
        assert self.indices.dtype in (torch.int32, torch.int64)
        assert self.indices.ndim == 1
        assert self.values.ndim == 1
        assert len(places) == len(set(places)) == self.values.numel()
        assert self.dtype.is_floating_point
        assert not any(map(math.isnan, self.values.tolist()))
        flat = torch.full((math.prod(self.shape),), math.nan, dtype=self.dtype)
        for place, value in zip(places, self.values.to(self.dtype), strict=True):
            assert 0 <= place < flat.numel()
            flat[place] = value
        return flat.view(self.shape)


def put(destination: Tensor, source: Tensor) -> None:
    """Write as vLLM's loader does: all but NaN, in the type of what is written to."""
    assert destination.shape == source.shape
    given = source.to(destination.dtype)
    destination[~given.isnan()] = given[~given.isnan()]


def read_vllm(path: Path) -> Iterator[Patch]:
    with safe_open(path, "pt") as file:
        said = {key: json.loads(file.metadata()[key])
                for key in ("names", "dtype_names", "shapes", "num_updates_list")}  # fmt: skip
        assert len(file.keys()) == 2 * len(said["names"])
        for name, dtype, shape, count in zip(*said.values(), strict=True):
            indices, values = (file.get_tensor(f"{name}.{end}") for end in ("indices", "values"))
            assert indices.dtype == torch.int32
            assert indices.numel() == count
            assert values.dtype == getattr(torch, dtype)
            yield Patch(name, tuple(shape), values.dtype, values, indices)


def apply_vllm(path: Path, checkpoint: Tensors) -> Tensors:
    """Return a checkpoint's tensors after a patch of vLLM's."""
    after = {name: tensor.clone() for name, tensor in checkpoint.items()}
    for patch in read_vllm(path):
        assert tuple(after[patch.name].shape) == patch.shape
        put(after[patch.name], patch.staged())
    return after


def apply_trl(path: Path, checkpoint: Tensors) -> Tensors:
    """Return the receiver's bfloat16 copy of a checkpoint after a sparse delta file of TRL's."""
    copy = {name: tensor.clone() for name, tensor in cast(checkpoint, torch.bfloat16).items()}
    with safe_open(path, "pt") as file:
        said = file.metadata()
        assert said["sparse"] == "True"
        assert int(said["model_version"]) in (0, 1)
        names = json.loads(said["changed_params"])
        assert {f"{n}.{end}" for n in names for end in ("indices", "values")} == set(file.keys())
        for name in names:
            indices, values = (file.get_tensor(f"{name}.{end}") for end in ("indices", "values"))
            assert indices.dtype == torch.int32
            assert values.dtype == torch.bfloat16
            flat = copy[name].flatten()
            flat[indices.long()] = values
            copy[name] = flat.reshape(copy[name].shape)
    return copy


APPLY = {"vllm": apply_vllm, "trl": apply_trl}


def cast(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """Return floating-point tensors in a type, counts as they are."""
    return {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}


def checkpoint(folder: Path) -> Tensors:
    """Return the tensors of a folder of ``save_pretrained``, of one file or several."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return load_file(folder / "model.safetensors")
    places = json.loads(index.read_text())["weight_map"]
    held = {file: load_file(folder / file) for file in sorted(set(places.values()))}
    return {name: held[file][name] for name, file in places.items()}


def same_bits(left: Tensors, right: Tensors) -> bool:
    """Tell whether two checkpoints hold the same names, shapes, types and bits."""
    return left.keys() == right.keys() and all(
        left[n].dtype == t.dtype and left[n].shape == t.shape
        and torch.equal(*(x.reshape(-1).contiguous().view(torch.uint8) for x in (left[n], t)))
        for n, t in right.items()
    )  # fmt: skip
