"""A folder of a sparse adapter of peft, read and checked without the package.

It holds values and indices for each layer, and whole tensors for modules in ``modules_to_save``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.errors import UserError
from landscape.folders import read_json
from landscape.tensorfile import read_tensors

Shapes = Mapping[str, tuple[int, ...]]
PREFIX = "base_model.model."
VALUES = {"shira": "shira_weight", "supertuning": "supertuning_values"}
INDICES = {"shira": "shira_indices", "supertuning": "supertuning_indices"}
"""Kind of adapter -> how its tensors end."""
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.uint8)


@dataclass(frozen=True)
class SparseAdapter:
    """Hold what a folder says.

    Args:
        kind: "shira" or "supertuning".
        layers: path of a layer -> its values, shape (k,), and flat indices, shape (k,), int64.
        whole: parameter name -> its values, in its own shape.
    """

    kind: str
    layers: dict[str, tuple[Tensor, Tensor]]
    whole: dict[str, Tensor]


def read_adapter(folder: Path, present: Shapes) -> SparseAdapter:
    """Read a folder; the names of its tensors are checked before any is read.

    Args:
        folder: with ``adapter_config.json`` and ``adapter_model.safetensors``.
        present: tensor name -> shape, of the model that it is for.

    Raises:
        UserError: no such folder, another kind of adapter, a damaged file, or tensors that this
            model lacks.
    """
    kind, saved = _config(folder)
    path = folder / "adapter_model.safetensors"
    modules: list[str] = []
    whole: list[str] = []

    def accept(header: dict[str, Any], names: Collection[str]) -> None:
        whole.extend(_saved(path, kind, names, saved, present))
        modules.extend(_modules(path, kind, set(names) - set(whole), present))

    tensors = read_tensors(path, "a peft adapter", accept=accept).tensors
    layers = {}
    for module in modules:
        name = module.removeprefix(PREFIX)
        value, index = tensors[f"{module}.{VALUES[kind]}"], tensors[f"{module}.{INDICES[kind]}"]
        outputs, inputs = present[f"{name}.weight"]
        layers[name] = (value, _flat(folder, name, index, value, (outputs, inputs)))
    kept = {key.removeprefix(PREFIX): tensors[key] for key in whole}
    for name, tensor in kept.items():
        if tuple(tensor.shape) != tuple(present[name]) or not _is_finite(tensor):
            raise UserError(
                f"expected finite floating-point values of shape {tuple(present[name])} for {name} "
                f"in {folder}, got {tuple(tensor.shape)}, {tensor.dtype}; load the model it was "
                "made on"
            )
    return SparseAdapter(kind, layers, kept)


def _config(folder: Path) -> tuple[str, list[str]]:
    """Return the kind of an adapter, and the modules that it saves whole."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise UserError(
            f"expected a folder of a peft adapter, found no {path}; give the folder that holds it"
        )
    config = read_json(path)
    named = str(config.get("peft_type"))
    kind = named.lower()
    if kind not in VALUES:
        raise UserError(
            f"expected a SHiRA or Super-Tuning adapter, got {named[:60]} in {folder}; "
            "load it with peft"
        )
    saved = config.get("modules_to_save") or []
    texts = isinstance(saved, list) and all(isinstance(module, str) for module in saved)
    if not texts or (kind == "supertuning" and config.get("r")):
        raise UserError(
            f"expected an adapter of sparse sets of weights and whole modules, got r or strange "
            f"modules_to_save in {folder}; load it with peft"
        )
    return kind, saved


def _saved(
    path: Path, kind: str, keys: Collection[str], saved: Collection[str], present: Shapes
) -> list[str]:
    """Return the keys of parameters that belong to a module which is saved whole."""
    found = []
    for key in keys:
        module = key.removeprefix(PREFIX).rpartition(".")[0]
        inside = any(_is_inside(module, name) for name in saved)
        if not inside or key.endswith((f".{VALUES[kind]}", f".{INDICES[kind]}")):
            continue
        if key.removeprefix(PREFIX) not in present:
            raise UserError(
                f"expected parameters of this model in {path}, got {key}; load the model it was "
                "made on, or the adapter with peft"
            )
        found.append(key)
    return sorted(found)


def _is_inside(module: str, saved: str) -> bool:
    """Tell whether a module is one that peft saves whole, or a part of one."""
    while module:
        if module.endswith(saved):
            return True
        module = module.rpartition(".")[0]
    return False


def _modules(path: Path, kind: str, keys: Collection[str], present: Shapes) -> list[str]:
    """Return the modules that a file adapts, with their prefix; all of them are matrices here."""
    value, index = f".{VALUES[kind]}", f".{INDICES[kind]}"
    modules = {key.removesuffix(value) for key in keys if key.endswith(value)}
    indexed = {key.removesuffix(index) for key in keys if key.endswith(index)}
    strange = {key for key in keys if not key.endswith((value, index))}
    strange |= {f"{module}{index}" for module in indexed - modules}
    if strange or not modules:
        raise UserError(
            f"expected values, indices and whole modules alone in {path}, got {len(strange):,} "
            f"other tensors, such as {min(strange, default='nothing')}; save it again"
        )
    if modules - indexed:
        raise UserError(
            f"expected indices for {min(modules - indexed)} in {path}, got none; save it with "
            "save_precomputed_indices=True"
        )
    foreign = [m for m in modules if len(present.get(f"{m.removeprefix(PREFIX)}.weight", ())) != 2]
    if foreign:
        raise UserError(
            f"expected matrices of this model in {path}, got {len(foreign):,} modules such as "
            f"{min(foreign)}, which is no matrix of this model; load the model it was made on"
        )
    return sorted(modules)


def _flat(folder: Path, path: str, index: Tensor, value: Tensor, shape: tuple[int, int]) -> Tensor:
    """Check the indices of a layer and return them flat, shape (k,), int64."""
    if value.dim() != 1 or not _is_finite(value):
        raise UserError(
            f"expected a row of finite floating-point values for {path} in {folder}, got shape "
            f"{tuple(value.shape)}, {value.dtype}; save it again"
        )
    whole = index.dtype in _WHOLE
    pairs = index.long() if whole else index
    limits = torch.tensor(shape)[:, None] if pairs.dim() == 2 else torch.tensor(shape).prod()
    fits = whole and pairs.shape in (value.shape, (2, *value.shape))
    if not fits or bool(((pairs < 0) | (pairs >= limits)).any()):
        raise UserError(
            f"expected {value.numel()} indices inside {shape} for {path} in {folder}, got shape "
            f"{tuple(index.shape)}, {index.dtype}; load the model it was made on"
        )
    return pairs if pairs.dim() == 1 else pairs[0] * shape[1] + pairs[1]


def _is_finite(values: Tensor) -> bool:
    return values.dtype in _FLOATS and bool(torch.isfinite(values).all())
