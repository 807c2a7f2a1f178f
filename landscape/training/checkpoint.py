"""Checkpoints: a state of training, nested dicts with tensors in them, as one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.errors import UserError
from landscape.folders import json_object
from landscape.tensorfile import TensorFile, read_tensors, write_tensors

_TENSOR = "<tensor>"
_STATE = "<state>"
"""Name of the tensor with the bytes of all that is no tensor; a header ends at 100 MB."""


def write_checkpoint(path: Path, state: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Write a state, whole or not at all.

    Args:
        path: the file.
        state: what a ``state_dict()`` gave: dicts of tensors, none of
            which may share memory, and of what JSON has, NaN included.
        config: of the run, by which the file knows it.
    """
    tensors: dict[str, Tensor] = {}
    # a text, since JSON has no word for the losses of a run that diverged
    text = json.dumps(_without_tensors(state, "", tensors)).encode()
    tensors[_STATE] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    write_tensors(path, tensors, {"run": run_key(config)})


def read_checkpoint(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Read a state; keys are texts, tuples are lists, and tensors are on the CPU.

    Raises:
        UserError: the file is missing, damaged, or another run's.
    """
    cure = "remove it, and the run starts again from its beginning"
    file = read_of_run(path, config, cure)
    if _STATE in file.tensors:
        text = bytes(file.tensors[_STATE].numpy()).decode()
    else:  # of an older version
        text = str(file.header.get("state"))
    tree = json_object(text, path)
    try:
        state: dict[str, Any] = _with_tensors(tree, file.tensors)
    except KeyError as error:
        raise UserError(f"expected the tensor {error} in {path}, got none; {cure}") from None
    return state


def read_of_run(path: Path, config: Mapping[str, Any], cure: str) -> TensorFile:
    """Read tensors that a run of this configuration wrote.

    Raises:
        UserError: they are missing, damaged, or another run's.
    """
    file = read_tensors(path, "the tensors of a run", cure=cure)
    file.check()
    if file.header.get("run") != run_key(config):
        raise UserError(f"expected the tensors of this run in {path}, got another run's; {cure}")
    return file


def run_key(config: Mapping[str, Any]) -> str:
    """Return a hash by which files know their run."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _without_tensors(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Return JSON in which each tensor is its key in the file."""
    if isinstance(value, Tensor):
        tensors[path] = value
        return {_TENSOR: path}
    if isinstance(value, Mapping):
        inside = f"{path}/" if path else ""
        return {str(k): _without_tensors(v, f"{inside}{k}", tensors) for k, v in value.items()}
    return value


def _with_tensors(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {_TENSOR}:
        return tensors[tree[_TENSOR]]
    return {key: _with_tensors(value, tensors) for key, value in tree.items()}
