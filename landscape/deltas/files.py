"""Delta files: theta and its mask as safetensors, tied to the base model they were made on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.deltas.algebra import Delta, check_values, delta, listing, switch
from landscape.deltas.header import OLDER, DeltaHeader, parse_header, short_digests
from landscape.errors import UserError
from landscape.identity import base_digests, fingerprint, mask_digest, precision
from landscape.masks import Mask, random_mask
from landscape.models.targets import target_shapes
from landscape.models.tensors import num_parameters, tensors
from landscape.runs import finite
from landscape.selection import structured_mask
from landscape.subspace import Attachment, pretrained
from landscape.tensorfile import read_tensors, write_tensors

_WIDE = (torch.float32, torch.float64)
_COMPUTED = (*_WIDE, torch.bfloat16, torch.float16)
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
    checks.model(model)
    checks.has("mask", mask, "a Mask", "indices", "shapes", do="make one, as random_mask")
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
    initial values in the place of indices. The file knows the whole base model but for its heads,
    by hashes, and holds a digest of itself.

    Args:
        model: a model with a mask attached.
        path: the file, by convention ``*.safetensors``; written whole or not at all.

    Returns:
        The path.

    Raises:
        UserError: no mask is attached, or a value is not finite.

    Cost: 4 k bytes, plus 4 k for a mask without a seed, and 8 a tensor of the model; time as
    `base_digests`. On a sharded base every process has to call it: each tensor is gathered in turn.
    """
    checks.model(model)
    path = checks.new_file("path", path)
    change = delta(model)
    check_values(change)
    mask, base = change.mask, change.base or {}
    heads = list(mask.rule.get("heads", []))
    drawn, rule = _drawn(model, mask.rule, heads), finite(mask.rule)
    again = drawn is not None and mask_digest(drawn.indices) == mask_digest(mask.indices)
    if drawn is not None and not again:  # somebody has changed the indices under the rule
        rule["kind"] = "given"
    stored = dict(change.values)
    stored |= {f"{name}.origin": _finite_head(name, change.origins[name]) for name in heads}
    for name, indices in mask.indices.items() if not again else ():
        if name not in heads:
            narrow = _last(indices) < 2**31
            stored[f"{name}.indices"] = indices.cpu().to(torch.int32 if narrow else torch.int64)
    header = DeltaHeader(
        rule=rule, shapes=dict(mask.shapes),
        num_parameters=mask.num_parameters, heads=heads, indices=mask_digest(mask.indices),
        fingerprint=fingerprint(base, without=heads), base=short_digests(base),
        dtype=precision(model),
    )  # fmt: skip
    return write_tensors(path, stored, header.as_dict())


def load_delta(model: nn.Module, path: str | Path, *, force: bool = False) -> Attachment:
    """Attach the mask and theta of a delta file; nothing changes when anything is wrong.

    Args:
        model: the base model that the delta was made on; a mask that it has is replaced.
        path: a file of `save_delta`.
        force: load it onto another base of the same shapes, such as one in another precision.

    Returns:
        The attachment, which prints as one line.

    Raises:
        UserError: the file is missing, damaged or no delta, or belongs to another base model.

    Cost: O(k), a look at each tensor of the base, and once per model as `base_digests`.
    """
    checks.model(model)
    path = checks.path("path", path)
    return switch(model, read_delta(model, path, force=force))


def read_delta(model: nn.Module, path: str | Path, *, force: bool = False) -> Delta:
    """Read a delta file without attaching it.

    Args:
        model: the base model that the delta was made on, with or without a mask.
        path: a file of `save_delta`.
        force: take this model for the base, whatever the file says. A file of the older format,
            which knows the weights on its mask alone, is read in no other way.

    Raises:
        UserError: as `load_delta`.

    Cost: as `load_delta`.
    """
    checks.model(model)
    path = checks.path("path", path)
    options = {kind: taken for kind, (_, taken) in _SEEDED.items()}

    def accept(header: dict[str, Any], names: Collection[str]) -> None:
        _check_names(model, parse_header(header, Path(path), options), names, path)

    file = read_tensors(path, "a delta file", accept=accept)
    header, stored = parse_header(file.header, file.path, options), file.tensors
    mask = _mask(model, header, stored, file.path)
    values = {n: _values(stored.get(n), n, i.numel(), path) for n, i in mask.indices.items()}
    origins = pretrained(model, mask.indices)
    for name in header.heads:
        values[name] = _moved(values[name], stored.get(f"{name}.origin"), origins[name], path)
    if not header.older:  # after what names the damage
        file.check()
    digests = base_digests(model)
    if not force:
        _check_base(model, header, digests, path)
    change = Delta(mask, values, origins, digests)
    check_values(change)
    return change


def _check_base(
    model: nn.Module, header: DeltaHeader, digests: Mapping[str, str], path: str | Path
) -> None:
    """Refuse a base model that is not the file's."""
    if header.older:
        raise UserError(
            f"{path} is of the format {OLDER}, which knows its base model on the mask alone; load "
            "it onto the model it was made on with force=True (--force) and save it again"
        )
    differing = header.differing(digests)
    if not differing:
        return
    here = precision(model)
    if header.dtype != here:
        what = f"it was in {header.dtype}, this one is in {here}"
    else:
        what = f"{listing(differing)} differ"
    raise UserError(
        f"{path} was made on another base model: {what}; load the model it was made on (a head "
        "that was fitted can be kept in the file: `with_heads`), or use force=True (--force)"
    )


def _values(value: Tensor | None, name: str, count: int, path: str | Path) -> Tensor:
    if value is None or tuple(value.shape) != (count,) or value.dtype not in _WIDE:
        found = "nothing" if value is None else f"shape {tuple(value.shape)}, {value.dtype}"
        raise UserError(
            f"{path} should hold {count} values in float32 or float64 for {name}, it has {found}; "
            "the file is damaged, save it again"
        )
    return value


def _moved(value: Tensor, stored: Tensor | None, here: Tensor, path: str | Path) -> Tensor:
    """Return the change that gives a head its stored values, from this model's initial ones."""
    if stored is None or stored.shape != here.shape or stored.dtype not in _COMPUTED:
        raise UserError(f"{path} lacks the initial values of a head; save it again")
    if stored.dtype == here.dtype and torch.equal(_finite_head(str(path), stored), here):
        return value
    return (_finite_head(str(path), stored).to(value.dtype) + value) - here.to(value.dtype)


def _finite_head(name: str, origin: Tensor) -> Tensor:
    if not bool(torch.isfinite(origin).all()):
        raise UserError(f"expected finite initial values of a head, got NaN or infinity in {name}")
    return origin


def _check_names(
    model: nn.Module, header: DeltaHeader, names: Collection[str], path: str | Path
) -> None:
    """Check the names that a file holds against its header, and its shapes against the model."""
    present = {tensor.name: tensor.shape for tensor in tensors(model)}
    for name, shape in header.shapes.items():
        if present.get(name) != shape:
            raise UserError(
                f"{path} expects {name} of shape {shape}, this model has "
                f"{present.get(name, 'no such tensor')}; load the model it was made on"
            )
    own = {f"{name}{end}" for name in header.shapes for end in ("", ".indices", ".origin")}
    strange = set(names) - own
    if strange:
        raise UserError(
            f"{path} holds {len(names):,} tensors, {len(strange):,} of them no part of a delta, "
            f"such as {min(strange)}; save it again"
        )


def _drawn(model: nn.Module, rule: Mapping[str, Any], heads: list[str]) -> Mask | None:
    """Make a mask again by its rule, None where the rule is no such one."""
    kind = rule.get("kind")
    if not isinstance(kind, str) or kind not in _SEEDED:
        return None
    make, options = _SEEDED[kind]
    drawn = make(model, **{key: rule[key] for key in options if rule.get(key) is not None})
    return with_heads(drawn, model, heads) if heads else drawn


def _mask(model: nn.Module, header: DeltaHeader, stored: dict[str, Tensor], path: Path) -> Mask:
    drawn = _drawn(model, header.rule, header.heads)
    if drawn is not None:
        if dict(drawn.shapes) != header.shapes:
            raise UserError(f"{path}: its rule names other tensors than it holds; save it again")
        mask = dataclasses.replace(drawn, rule=header.rule)
    else:
        indices = {
            name: torch.arange(torch.Size(shape).numel())
            if name in header.heads
            else _indices(stored.get(f"{name}.indices"), name, shape, path)
            for name, shape in header.shapes.items()
        }
        mask = Mask(indices, header.shapes, num_parameters(model), header.rule)
    counts = {n: stored[n].numel() for n in mask.indices if n in stored}
    same = all(counts.get(n) == i.numel() for n, i in mask.indices.items())
    if same and header.indices is not None and mask_digest(mask.indices) != header.indices:
        raise UserError(
            f"{path}: its rule draws other weights here than where it was saved; save it again "
            "there from a mask of given indices"
        )
    return mask


def _indices(index: Tensor | None, name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    index = torch.empty(0, dtype=torch.int64) if index is None else index
    whole = index.dim() == 1 and index.dtype in (torch.int32, torch.int64)
    index, size = index.long() if whole else index, int(torch.Size(shape).numel())
    ordered = whole and bool(torch.all(index[1:] > index[:-1]))
    if not ordered or (index.numel() and not 0 <= int(index[0]) <= _last(index) < size):
        raise UserError(f"{path}: indices of {name} must be sorted, distinct and below {size}")
    return index


def _last(indices: Tensor) -> int:
    return int(indices[-1]) if indices.numel() else 0
