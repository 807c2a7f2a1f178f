"""Delta files: theta and its mask as safetensors, tied to the base model they were made on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from landscape.deltas import Delta, apply_delta
from landscape.errors import UserError
from landscape.masks import Mask, random_mask, target_shapes, tensors
from landscape.runs import write_whole
from landscape.selection import structured_mask
from landscape.subspace import (
    Attachment,
    attached_mask,
    pretrained,
    trainable,
)

_FORMAT = "landscape-delta-1"
_WIDE = (torch.float32, torch.float64)
# masks that a rule makes again, and what of the rule their functions take
_SEEDED: dict[str, tuple[Callable[..., Mask], tuple[str, ...]]] = {
    "random": (random_mask, ("density", "targets", "seed", "sampling")),
    "structured": (structured_mask, ("granularity", "count", "targets", "seed", "block")),
}


def with_heads(mask: Mask, model: nn.Module, heads: str | Sequence[str]) -> Mask:
    """Add whole tensors to a mask: heads that fine-tuning makes for the task.

    A delta file holds them whole, with their initial values, and loads them onto a base model
    whose own head was initialised otherwise.

    Args:
        mask: the mask.
        model: the model that it is for.
        heads: shell patterns, as for `random_mask`.

    Raises:
        UserError: a pattern matches nothing, or a quantised weight.
    """
    shapes = target_shapes(model, heads)
    packed = [t.name for t in tensors(model) if t.name in shapes and t.quantised]
    if packed:
        raise UserError(
            f"a head is stored as its values, and {packed[0]} is quantised; leave it out"
        )
    whole = {n: torch.arange(torch.Size(s).numel()) for n, s in shapes.items()}
    return dataclasses.replace(
        mask, indices={**mask.indices, **whole}, shapes={**mask.shapes, **shapes},
        rule={**mask.rule, "heads": list(shapes)},
    )  # fmt: skip


def save_delta(model: nn.Module, path: str | Path) -> Path:
    """Save the change of an attached model: k values, and the mask as its seed and rule.

    A random or structured mask is stored as the rule that makes it again; any other as sorted
    indices of at most 4 bytes each where the tensor allows it. Heads (`with_heads`) have their
    initial values in the place of indices.

    Args:
        model: a model with a mask attached.
        path: the file, by convention ``*.safetensors``; written whole or not at all.

    Returns:
        The path.

    Raises:
        UserError: no mask is attached.

    Cost: 4 k bytes, plus 4 k for a mask without a seed. On a sharded base every process has to
    call it: each masked tensor is gathered in turn.
    """
    mask = attached_mask(model)
    stored = {name: p.detach().cpu().contiguous() for name, p in trainable(model).items()}
    origins = pretrained(model, mask.indices)
    heads = mask.rule.get("heads", [])
    stored |= {f"{name}.origin": origins[name] for name in heads}
    if mask.rule.get("kind") not in _SEEDED:
        for name, indices in mask.indices.items():
            if name in heads:
                continue
            narrow = _last(indices) < 2**31
            stored[f"{name}.indices"] = indices.cpu().to(torch.int32 if narrow else torch.int64)
    header = {
        "format": _FORMAT,
        "rule": dict(mask.rule),
        "shapes": {name: list(shape) for name, shape in mask.shapes.items()},
        "num_parameters": mask.num_parameters,
        "fingerprint": fingerprint({n: o for n, o in origins.items() if n not in heads}),
    }
    metadata = {"landscape": json.dumps(header)}
    write_whole(path, lambda temporary: save_file(stored, temporary, metadata=metadata))
    return Path(path)


def load_delta(model: nn.Module, path: str | Path) -> Attachment:
    """Attach the mask and theta of a delta file; nothing changes when anything is wrong.

    Args:
        model: the base model that the delta was made on; a mask that it has is replaced.
        path: a file of `save_delta`.

    Returns:
        The attachment, which prints as one line.

    Raises:
        UserError: the file is missing, truncated or no delta, or belongs to another base model.

    Cost: O(k).
    """
    return apply_delta(model, read_delta(model, path))


def read_delta(model: nn.Module, path: str | Path) -> Delta:
    """Read a delta file without attaching it.

    Args:
        model: the base model that the delta was made on, with or without a mask.
        path: a file of `save_delta`.

    Raises:
        UserError: as `load_delta`.

    Cost: O(k).
    """
    header, stored = _read(model, Path(path))
    mask = _mask(model, header, stored, Path(path))
    values = {}
    for name, indices in mask.indices.items():
        value = stored.get(name)
        if value is None or tuple(value.shape) != (indices.numel(),) or value.dtype not in _WIDE:
            found = "nothing" if value is None else f"shape {tuple(value.shape)}, {value.dtype}"
            raise UserError(
                f"{path} should hold {indices.numel()} values in float32 or float64 for {name}, "
                f"it has {found}; "
                "the file is damaged, save it again"
            )
        values[name] = value
    origins = pretrained(model, mask.indices)
    heads = mask.rule.get("heads", [])
    for name in heads:
        values[name] = _moved(values[name], stored.get(f"{name}.origin"), origins[name], path)
    known = {n: origin for n, origin in origins.items() if n not in heads}
    if fingerprint(known) != header["fingerprint"]:
        raise UserError(
            f"{path} was made on another base model: the pretrained values on its mask differ; "
            "load the model it was made on, in the same precision"
        )
    return Delta(mask, values, origins)


def _moved(value: Tensor, stored: Tensor | None, here: Tensor, path: str | Path) -> Tensor:
    """Return the change that gives a head its stored values, from this model's initial ones."""
    if stored is None or stored.shape != here.shape:
        raise UserError(f"{path} lacks the initial values of a head; save it again")
    if torch.equal(stored, here):
        return value
    return (stored.to(value.dtype) + value) - here.to(value.dtype)


def fingerprint(origins: dict[str, Tensor]) -> str:
    """Return a hash of the pretrained values on a mask, which any other base would change."""
    digest = hashlib.sha256()
    for name in sorted(origins):
        values = origins[name].detach().cpu().float().contiguous()
        digest.update(f"{name}:{tuple(values.shape)}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def _read(model: nn.Module, path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise UserError(f"expected a delta file, found none at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("landscape", "{}"))
            _check_header(model, header, file.keys(), path)
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path} is not a whole safetensors file ({error}); save it again"
        ) from error
    return header, stored


def _check_header(
    model: nn.Module, header: dict[str, Any], keys: Collection[str], path: Path
) -> None:
    """Check what a file says it holds, before any of it is read."""
    if header.get("format") != _FORMAT:
        raise UserError(f"{path} is no delta of this toolkit (format {header.get('format')!r})")
    missing = [k for k in ("rule", "shapes", "num_parameters", "fingerprint") if k not in header]
    if missing:
        raise UserError(f"{path} says nothing of its {missing[0]}; the file is damaged")
    shapes = {n: tuple(s) for n, s in header["shapes"].items()}
    present = {tensor.name: tensor.shape for tensor in tensors(model)}
    for name, shape in shapes.items():
        if present.get(name) != shape:
            raise UserError(
                f"{path} expects {name} of shape {shape}, this model has "
                f"{present.get(name, 'no such tensor')}; load the model it was made on"
            )
    own = {f"{name}{end}" for name in shapes for end in ("", ".indices", ".origin")}
    strange = set(keys) - own
    if strange:
        raise UserError(
            f"{path} holds {len(keys):,} tensors, {len(strange):,} of them no part of a delta, "
            f"such as {min(strange)}; save it again"
        )


def _mask(model: nn.Module, header: dict[str, Any], stored: dict[str, Tensor], path: Path) -> Mask:
    rule, shapes = header["rule"], {n: tuple(s) for n, s in header["shapes"].items()}
    heads = list(rule.get("heads", []))
    if not set(heads) <= set(shapes):
        raise UserError(f"{path}: its rule names other tensors than it holds; save it again")
    if rule.get("kind") in _SEEDED:
        make, options = _SEEDED[rule["kind"]]
        drawn = make(model, **{key: rule[key] for key in options if key in rule})
        drawn = with_heads(drawn, model, heads) if heads else drawn
        if dict(drawn.shapes) != shapes:
            raise UserError(f"{path}: its rule names other tensors than it holds; save it again")
        return drawn
    indices = {}
    for name, shape in shapes.items():
        if name in heads:
            indices[name] = torch.arange(torch.Size(shape).numel())
            continue
        index = stored.get(f"{name}.indices", torch.empty(0, dtype=torch.int64))
        whole = index.dim() == 1 and index.dtype in (torch.int32, torch.int64)
        index, size = index.long(), int(torch.Size(shape).numel())
        ordered = whole and bool(torch.all(index[1:] > index[:-1]))
        if not ordered or (index.numel() and not 0 <= int(index[0]) <= _last(index) < size):
            raise UserError(f"{path}: indices of {name} must be sorted, distinct and below {size}")
        indices[name] = index
    return Mask(indices, shapes, header["num_parameters"], rule)


def _last(indices: Tensor) -> int:
    return int(indices[-1]) if indices.numel() else 0
