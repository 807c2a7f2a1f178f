"""Sparse adapters of peft, SHiRA and Super-Tuning: folders read and written without the package.

What was written comes back bit for bit; a head that is trained whole beside the mask is one of
peft's ``modules_to_save``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from landscape import checks
from landscape.deltas.algebra import Delta, Dense
from landscape.deltas.peft_folder import INDICES, PREFIX, VALUES, read_adapter
from landscape.deltas.peft_sizes import as_float32, padded, shira_size, supertuning_size
from landscape.deltas.switching import apply_delta, check_values, delta
from landscape.errors import UserError
from landscape.folders import write_whole
from landscape.masks import Mask
from landscape.models.tensors import num_parameters, tensors
from landscape.subspace import Attachment, pretrained

Kind = Literal["shira", "supertuning"]


def save_peft(model: nn.Module, folder: str | Path, *, kind: Kind) -> Path:
    """Write the change of an attached model as an adapter that peft loads.

    ``PeftModel.from_pretrained(base, folder)`` then computes with the same weights, up to the
    order of float32 additions. Tensors without a selected weight are left out. Modules that hold
    tensors which are trained whole beside the mask become ``modules_to_save``.

    Args:
        model: a model with a mask attached, on weights of ``nn.Linear`` layers only.
        folder: the adapter's folder, made where it is missing.
        kind: "shira" or "supertuning".

    Returns:
        The folder.

    Raises:
        UserError: no mask, an unknown kind, other tensors than Linear weights, values that
            float32 cannot hold, or a mask denser than the format allows.

    Cost: of SHiRA 12 bytes a weight, of Super-Tuning 8, times the largest density over the mean.
    Source: Bhardwaj et al. 2024 (SHiRA); both formats as in peft 0.21.
    """
    checks.model(model)
    folder = checks.path("folder", folder)
    checks.choice("kind", kind, VALUES)
    change = delta(model)
    check_values(change)
    held = {n: i for n, i in change.mask.indices.items() if i.numel()}
    shapes = {name: _linear_shape(model, change.mask, name) for name in held}
    if not held:
        raise UserError(
            "expected a mask with a selected weight, got an empty one; attach the mask that was "
            "trained"
        )
    counts = {name: indices.numel() for name, indices in held.items()}
    setting, sizes = (shira_size if kind == "shira" else supertuning_size)(counts, shapes)
    stored: dict[str, Tensor] = {}
    for name, indices in held.items():
        values, flat = padded(change.values[name].cpu(), indices.cpu(), sizes[name], name)
        path = PREFIX + name.removesuffix(".weight")
        stored[f"{path}.{VALUES[kind]}"] = values
        inputs = shapes[name][1]
        pairs = torch.stack([flat // inputs, flat % inputs]) if kind == "shira" else flat
        stored[f"{path}.{INDICES[kind]}"] = pairs.to(torch.int32).contiguous()
    modules = _whole_modules(model, change)
    for module in modules:
        for name, p in model.get_submodule(module).named_parameters(prefix=module):
            stored[PREFIX + name] = as_float32(p.detach().cpu(), name).contiguous().clone()
    config = {
        "peft_type": kind.upper(), "target_modules": [n.removesuffix(".weight") for n in held],
        "inference_mode": True, "init_weights": True, "modules_to_save": modules or None,
        "base_model_name_or_path": getattr(getattr(model, "config", None), "_name_or_path", None),
        "task_type": None, **setting,
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

    Args:
        model, folder: as for `read_peft`.

    Returns:
        The attachment, which prints as one line.

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
    Modules that peft saved whole are dense tensors of the delta.

    Args:
        model: the base model, with or without a mask.
        folder: with ``adapter_config.json`` and ``adapter_model.safetensors``.

    Returns:
        The delta, on this model.

    Raises:
        UserError: no such folder, another kind of adapter, one with a low-rank part or no stored
            indices, a damaged file, or tensors that this model lacks.

    Cost: O(k log k).
    """
    checks.model(model)
    place = Path(checks.path("folder", folder)).expanduser()
    present = {tensor.name: tensor.shape for tensor in tensors(model)}
    adapter = read_adapter(place, present)
    indices, shapes, values = {}, {}, {}
    for path, (value, flat) in adapter.layers.items():
        name = f"{path}.weight"
        union, where = flat.unique(return_inverse=True)
        indices[name], shapes[name] = union, present[name]
        values[name] = torch.zeros(union.numel(), dtype=value.dtype).index_add_(0, where, value)
    rule = {"kind": "peft", "peft_type": adapter.kind}
    mask = Mask(indices, shapes, num_parameters(model), rule)
    everything = {name: torch.arange(tensor.numel()) for name, tensor in adapter.whole.items()}
    starts = pretrained(model, everything)
    dense = {
        name: Dense(value.to(starts[name].dtype), starts[name].view(value.shape))
        for name, value in adapter.whole.items()
    }
    change = Delta(mask, values, pretrained(model, indices), dense=dense)
    check_values(change)  # a sum of repeated indices may overflow
    return change


def _whole_modules(model: nn.Module, change: Delta) -> list[str]:
    """Return the modules that hold dense tensors, which peft then saves whole."""
    modules = dict.fromkeys(name.rpartition(".")[0] for name in change.dense)
    everywhere = [path for path, _ in model.named_modules()]
    for module in modules:
        others = [path for path in everywhere if path.endswith(module) and path != module]
        inside = [name for name in change.mask.shapes if f"{name}.".startswith(f"{module}.")]
        if not module or others or inside:
            found = others or inside or ["the model itself"]
            raise UserError(
                f"expected dense tensors in a module of their own, which peft finds by the end of "
                f"its name, got {module or next(iter(change.dense))} and {found[0]}; use save_delta"
            )
    return list(modules)


def _linear_shape(model: nn.Module, mask: Mask, name: str) -> tuple[int, int]:
    module, _, leaf = name.rpartition(".")
    if leaf != "weight" or not isinstance(model.get_submodule(module), nn.Linear):
        raise UserError(
            f"expected weights of Linear layers only, which is what peft's sparse adapters change, "
            f"got {name}; use save_delta"
        )
    outputs, inputs = mask.shapes[name]
    return outputs, inputs
