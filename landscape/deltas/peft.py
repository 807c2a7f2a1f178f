"""Sparse adapters of peft, SHiRA and Super-Tuning: folders read and written without the package.

peft stores as many values in a layer as one setting of the whole adapter says: r (inputs + outputs)
for SHiRA, int(size (1 - sparsity)) for Super-Tuning. A mask has any number. So a written folder
repeats the last index of a layer with value 0 until the number fits, which changes no sum; reading
joins repeated indices again, and what was written comes back bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from landscape import checks
from landscape.deltas.algebra import Delta
from landscape.deltas.switching import apply_delta, check_values, delta
from landscape.errors import UserError
from landscape.masks import Mask
from landscape.models.tensors import num_parameters, tensors
from landscape.runs import read_json, write_whole
from landscape.subspace import Attachment, pretrained
from landscape.tensorfile import read_tensors

Kind = Literal["shira", "supertuning"]
_PREFIX = "base_model.model."
_VALUES = {"shira": "shira_weight", "supertuning": "supertuning_values"}
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.uint8)
_INDICES = {"shira": "shira_indices", "supertuning": "supertuning_indices"}


def save_peft(model: nn.Module, folder: str | Path, *, kind: Kind) -> Path:
    """Write the change of an attached model as an adapter that peft loads.

    ``PeftModel.from_pretrained(base, folder)`` then computes with the same weights, up to the
    order of float32 additions. Tensors without a selected weight are left out.

    Args:
        model: a model with a mask attached, on weights of ``nn.Linear`` layers only.
        folder: the adapter's folder, made where it is missing.
        kind: "shira" or "supertuning".

    Returns:
        The folder.

    Raises:
        UserError: no mask, an unknown kind, other tensors than Linear weights, values that
            float32 cannot hold, or a mask denser than the format allows.

    Cost: of SHiRA 12 bytes a scalar, of Super-Tuning 8, times the largest density over the mean.
    Source: Bhardwaj et al. 2024 (SHiRA); both formats as in peft 0.21.
    """
    checks.model(model)
    folder = checks.path("folder", folder)
    checks.choice("kind", kind, _VALUES)
    change = delta(model)
    check_values(change)
    held = {n: i for n, i in change.mask.indices.items() if i.numel()}
    shapes = {name: _linear_shape(model, change.mask, name) for name in held}
    if not held:
        raise UserError("expected a mask with a selected weight, got an empty one")
    setting, sizes = (_shira_size if kind == "shira" else _supertuning_size)(held, shapes)
    stored: dict[str, Tensor] = {}
    for name, indices in held.items():
        values, flat = _padded(change.values[name].cpu(), indices.cpu(), sizes[name], name)
        path = _PREFIX + name.removesuffix(".weight")
        stored[f"{path}.{_VALUES[kind]}"] = values
        inputs = shapes[name][1]
        pairs = torch.stack([flat // inputs, flat % inputs]) if kind == "shira" else flat
        stored[f"{path}.{_INDICES[kind]}"] = pairs.to(torch.int32).contiguous()
    config = {
        "peft_type": kind.upper(), "target_modules": [n.removesuffix(".weight") for n in held],
        "inference_mode": True, "init_weights": True, "modules_to_save": None, "task_type": None,
        "base_model_name_or_path": getattr(getattr(model, "config", None), "_name_or_path", None),
        **setting,
    }  # fmt: skip
    target = Path(folder).expanduser()
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    write_whole(target / "adapter_config.json", lambda path: path.write_text(text))
    write_whole(
        target / "adapter_model.safetensors",
        lambda path: save_file(stored, path, metadata={"format": "pt"}),
    )
    return target


def load_peft(model: nn.Module, folder: str | Path) -> Attachment:
    """Attach a SHiRA or Super-Tuning adapter of peft as a mask and theta.

    Raises:
        UserError: as `read_peft`.

    Cost: O(k).
    """
    checks.model(model)
    folder = checks.path("folder", folder)
    return apply_delta(model, read_peft(model, folder))


def read_peft(model: nn.Module, folder: str | Path) -> Delta:
    """Read a SHiRA or Super-Tuning adapter of peft without attaching it.

    peft's files say nothing of the base model's values, so any base of these shapes is taken.

    Args:
        model: the base model, with or without a mask.
        folder: with ``adapter_config.json`` and ``adapter_model.safetensors``.

    Raises:
        UserError: no such folder, another kind of adapter, one with a low-rank part, whole
            modules or no stored indices, a damaged file, or tensors that this model lacks.

    Cost: O(k log k).
    """
    checks.model(model)
    folder = checks.path("folder", folder)
    place = Path(folder).expanduser()
    kind = _kind(place)
    present = {tensor.name: tensor.shape for tensor in tensors(model)}
    stored = _stored(place, kind, present)
    indices, shapes, values = {}, {}, {}
    for path, (value, index) in stored.items():
        name = f"{path}.weight"
        shape = (present[name][0], present[name][1])
        flat = _flat(place, path, index, value, shape)
        union, where = flat.unique(return_inverse=True)
        indices[name], shapes[name] = union, shape
        values[name] = torch.zeros(union.numel(), dtype=value.dtype).index_add_(0, where, value)
    mask = Mask(indices, shapes, num_parameters(model), {"kind": "peft", "peft_type": kind})
    change = Delta(mask, values, pretrained(model, indices))
    check_values(change)  # a sum of repeated indices may overflow
    return change


def _kind(folder: Path) -> str:
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise UserError(f"expected a folder of a peft adapter, found no {path}")
    config = read_json(path)
    named = str(config.get("peft_type"))
    kind = named.lower()
    if kind not in _VALUES:
        raise UserError(
            f"expected a SHiRA or Super-Tuning adapter, got {named[:60]} in {folder}; "
            "load it with peft"
        )
    if config.get("modules_to_save") or (kind == "supertuning" and config.get("r")):
        raise UserError(
            f"{folder} trains more than a sparse set of weights (modules_to_save or r); "
            "load it with peft"
        )
    return kind


def _stored(
    folder: Path, kind: str, present: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return (values, indices) by module path; names are checked before anything is read."""
    path = folder / "adapter_model.safetensors"
    modules: list[str] = []

    def accept(header: dict[str, Any], names: Collection[str]) -> None:
        modules.extend(_modules(path, kind, names, present))

    tensors = read_tensors(path, "a peft adapter", accept=accept).tensors
    return {
        module.removeprefix(_PREFIX): (
            tensors[f"{module}.{_VALUES[kind]}"],
            tensors[f"{module}.{_INDICES[kind]}"],
        )
        for module in modules
    }


def _modules(
    path: Path, kind: str, keys: Collection[str], present: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Return the modules that a file adapts, with their prefix; all of them are matrices here."""
    value, index = f".{_VALUES[kind]}", f".{_INDICES[kind]}"
    modules = {key.removesuffix(value) for key in keys if key.endswith(value)}
    indexed = {key.removesuffix(index) for key in keys if key.endswith(index)}
    strange = {key for key in keys if not key.endswith((value, index))}
    strange |= {f"{module}{index}" for module in indexed - modules}
    if strange or not modules:
        raise UserError(
            f"{path} should hold values and indices alone, got {len(strange):,} other tensors, "
            f"such as {min(strange, default='nothing')}; save it again"
        )
    if modules - indexed:
        raise UserError(
            f"{path} has no indices for {min(modules - indexed)}; "
            "save it with save_precomputed_indices=True"
        )
    foreign = [m for m in modules if len(present.get(f"{m.removeprefix(_PREFIX)}.weight", ())) != 2]
    if foreign:
        raise UserError(
            f"{path} adapts {len(foreign):,} modules such as {min(foreign)}, which is no matrix of "
            "this model; load the model it was made on"
        )
    return sorted(modules)


def _flat(folder: Path, path: str, index: Tensor, value: Tensor, shape: tuple[int, int]) -> Tensor:
    """Check the indices of a layer and return them flat, shape (k,), int64."""
    if value.dim() != 1 or value.dtype not in _FLOATS or not bool(torch.isfinite(value).all()):
        raise UserError(
            f"{folder}: {path} should have a row of finite floating-point values, got shape "
            f"{tuple(value.shape)}, {value.dtype}; save it again"
        )
    whole = index.dtype in _WHOLE
    pairs = index.long() if whole else index
    limits = torch.tensor(shape)[:, None] if pairs.dim() == 2 else torch.tensor(shape).prod()
    fits = whole and pairs.shape in (value.shape, (2, *value.shape))
    if not fits or bool(((pairs < 0) | (pairs >= limits)).any()):
        raise UserError(
            f"{folder}: {path} should have {value.numel()} indices inside {shape}, got shape "
            f"{tuple(index.shape)}, {index.dtype}; load the model it was made on"
        )
    return pairs if pairs.dim() == 1 else pairs[0] * shape[1] + pairs[1]


def _linear_shape(model: nn.Module, mask: Mask, name: str) -> tuple[int, int]:
    module, _, leaf = name.rpartition(".")
    if leaf != "weight" or not isinstance(model.get_submodule(module), nn.Linear):
        raise UserError(
            f"peft's sparse adapters change weights of Linear layers only, got {name}; "
            "use save_delta"
        )
    outputs, inputs = mask.shapes[name]
    return outputs, inputs


Sizes = tuple[dict[str, Any], dict[str, int]]


def _shira_size(held: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]]) -> Sizes:
    """Return the smallest r that holds every tensor's weights, and the numbers it means."""
    rank = max(-(-held[name].numel() // sum(shape)) for name, shape in shapes.items())
    sizes = {name: rank * sum(shape) for name, shape in shapes.items()}
    _refuse_dense(sizes, shapes, "SHiRA")
    setting = {"r": rank, "mask_type": "random", "random_seed": None, "fan_in_fan_out": False}
    return setting, sizes


def _supertuning_size(held: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]]) -> Sizes:
    """Return the largest sparsity that holds every tensor's weights, and the numbers it means."""
    density = max(held[name].numel() / (a * b) for name, (a, b) in shapes.items())
    sparsity = 1 - density
    counted: Callable[[str], int] = lambda n: int(shapes[n][0] * shapes[n][1] * (1 - sparsity))  # noqa: E731
    while any(counted(name) < held[name].numel() for name in held):
        sparsity -= 1e-12 + 1e-9 * density  # 1 - density was rounded the other way
    sizes = {name: counted(name) for name in held}
    _refuse_dense(sizes, shapes, "Super-Tuning")
    setting = {"sparsity": max(sparsity, 0.0), "select_top": True, "r": None, "lora_alpha": None,
               "lora_dropout": 0.0, "save_precomputed_indices": True}  # fmt: skip
    return setting, sizes


def _refuse_dense(
    sizes: Mapping[str, int], shapes: Mapping[str, tuple[int, int]], kind: str
) -> None:
    for name, size in sizes.items():
        largest = shapes[name][0] * shapes[name][1]
        if size > largest:
            raise UserError(
                f"{kind} would store {size:,} values for {name}, which has {largest:,}: the mask "
                "is too dense for this format; use save_delta"
            )


def _padded(values: Tensor, indices: Tensor, size: int, name: str) -> tuple[Tensor, Tensor]:
    single = values.to(torch.float32)
    if not torch.equal(single.to(values.dtype), values):
        raise UserError(
            f"peft stores float32, which cannot hold the values of {name}; use save_delta"
        )
    if indices.numel() and int(indices[-1]) >= 2**31:
        raise UserError(f"peft stores indices below 2^31, got {int(indices[-1])} in {name}")
    missing = size - indices.numel()
    return (
        torch.cat([single, single.new_zeros(missing)]),
        torch.cat([indices, indices[-1:].expand(missing)]),
    )
