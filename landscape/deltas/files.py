"""Delta files: theta and its mask as safetensors, tied to the base model they were made on."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.deltas.algebra import Delta, Dense, listing
from landscape.deltas.drawn import RULES, draw_again, narrowed, stored_mask
from landscape.deltas.header import OLDER, DeltaHeader, parse_header, short_digests
from landscape.deltas.heads import finite_head, moved_head
from landscape.deltas.switching import check_values, delta, switch
from landscape.errors import UserError
from landscape.folders import finite, json_object
from landscape.identity import base_digests, fingerprint, mask_digest, precision
from landscape.models.tensors import tensors
from landscape.subspace import Attachment, pretrained
from landscape.tensorfile import read_tensors, write_tensors

_WIDE = (torch.float32, torch.float64)


def save_delta(
    model: nn.Module, path: str | Path, *, about: Mapping[str, Any] | None = None
) -> Path:
    """Save the change of an attached model: k values, and the mask as its seed and rule.

    A random or structured mask is stored as the rule that makes it again; any other as sorted
    indices of at most 4 bytes each where the tensor allows it. Heads (`with_heads`) have their
    initial values in the place of indices; tensors that are trained whole beside the mask are
    stored as they are. The file knows the whole base model but for both, by hashes, and holds a
    digest of itself.

    Args:
        model: a model with a mask attached.
        path: the file, by convention ``*.safetensors``; written whole or not at all.
        about: what the file shall say of itself, a JSON object such as ``task.source``, which
            `read_about` returns.

    Returns:
        The path.

    Raises:
        UserError: no mask is attached, a value is not finite, or `about` is no JSON object.

    Cost: 4 k bytes, plus 4 k for a mask without a seed, and 8 a tensor of the model; time as
    `base_digests`. On a sharded base every process has to call it: each tensor is gathered in turn.
    """
    checks.model(model)
    path = checks.new_file("path", path)
    told = _about(about)
    change = delta(model)
    check_values(change)
    mask, base = change.mask, change.base or {}
    heads = list(mask.rule.get("heads", []))
    drawn, rule = draw_again(model, mask.rule, heads), finite(mask.rule)
    again = drawn is not None and mask_digest(drawn.indices) == mask_digest(mask.indices)
    if drawn is not None and not again:  # somebody has changed the indices under the rule
        rule["kind"] = "given"
    stored = dict(change.values) | {name: d.value for name, d in change.dense.items()}
    stored |= {f"{name}.origin": finite_head(name, change.origins[name]) for name in heads}
    for name, indices in mask.indices.items() if not again else ():
        if name not in heads:
            stored[f"{name}.indices"] = narrowed(indices)
    dense = list(change.dense)
    header = DeltaHeader(
        rule=rule, shapes=dict(mask.shapes), dense=dense,
        num_parameters=mask.num_parameters, heads=heads, indices=mask_digest(mask.indices),
        fingerprint=fingerprint(base, without=[*heads, *dense]), base=short_digests(base),
        dtype=precision(model), about=told,
    )  # fmt: skip
    return write_tensors(path, stored, header.as_dict())


def read_about(path: str | Path) -> dict[str, Any]:
    """Read what a delta file says of itself, without a model.

    Args:
        path: a file of `save_delta`.

    Returns:
        What was given to it as `about`; empty where it was nothing. It is what somebody wrote:
        check a field before you use it.

    Raises:
        UserError: the file is missing, damaged or no delta.
    """
    path = checks.path("path", path)
    file = read_tensors(path, "a delta file")
    found = parse_header(file.header, file.path, RULES)
    file.check()
    return found.about


def _about(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a JSON object as a header holds it."""
    if given is None:
        return {}
    checks.instance("about", given, Mapping, "give a dict")
    try:
        text = json.dumps(finite(given), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"expected a JSON object as about, got one with what JSON lacks ({error}); give texts, "
            "numbers, lists and dicts"
        ) from None
    return json_object(text, "about")


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

    Returns:
        The delta, on this model.

    Raises:
        UserError: as `load_delta`.

    Cost: as `load_delta`.
    """
    checks.model(model)
    path = checks.path("path", path)

    def accept(header: dict[str, Any], names: Collection[str]) -> None:
        _check_names(model, parse_header(header, Path(path), RULES), names, path)

    file = read_tensors(path, "a delta file", accept=accept)
    header, stored = parse_header(file.header, file.path, RULES), file.tensors
    mask = stored_mask(model, header, stored, file.path)
    values = {n: _values(stored.get(n), n, i.numel(), path) for n, i in mask.indices.items()}
    origins = pretrained(model, mask.indices)
    for name in header.heads:
        head = stored.get(f"{name}.origin")
        values[name] = moved_head(values[name], head, origins[name], str(path))
    dense = _dense(model, header, stored, path)
    if not header.older:  # after what names the damage
        file.check()
    digests = base_digests(model)
    if not force:
        _check_base(model, header, digests, path)
    change = Delta(mask, values, origins, digests, dense)
    check_values(change)
    return change


def _dense(
    model: nn.Module, header: DeltaHeader, stored: Mapping[str, Tensor], path: str | Path
) -> dict[str, Dense]:
    """Return the tensors that were trained whole, on this model, whose own began elsewhere."""
    present = {tensor.name: tensor.shape for tensor in tensors(model)}
    everything = {n: torch.arange(torch.Size(present[n]).numel()) for n in header.dense}
    found = {}
    for name, start in pretrained(model, everything).items():
        value, shape = stored.get(name), tuple(present[name])
        if value is None or tuple(value.shape) != shape or not value.is_floating_point():
            what = "nothing" if value is None else f"shape {tuple(value.shape)}, {value.dtype}"
            raise UserError(
                f"expected floating-point values of shape {shape} for {name} in {path}, got "
                f"{what}; load the model it was made on, or save it again"
            )
        found[name] = Dense(value.to(start.dtype), start.view(shape))
    return found


def _check_base(
    model: nn.Module, header: DeltaHeader, digests: Mapping[str, str], path: str | Path
) -> None:
    """Refuse a base model that is not the file's."""
    if header.older:
        raise UserError(
            f"expected a file that knows its whole base model, got {path} in the format {OLDER}, "
            "which knows it on the mask alone; load it onto the model it was made on with "
            "force=True (--force) and save it again"
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
        f"expected the base model that {path} was made on, got another base model: {what}; load "
        "the model it was made on (a head that was fitted can be kept in the file: attach(dense=) "
        "or `with_heads`), or use force=True (--force)"
    )


def _values(value: Tensor | None, name: str, count: int, path: str | Path) -> Tensor:
    if value is None or tuple(value.shape) != (count,) or value.dtype not in _WIDE:
        found = "nothing" if value is None else f"shape {tuple(value.shape)}, {value.dtype}"
        raise UserError(
            f"expected {count} values in float32 or float64 for {name} in {path}, got {found}; the "
            "file is damaged, save it again"
        )
    return value


def _check_names(
    model: nn.Module, header: DeltaHeader, names: Collection[str], path: str | Path
) -> None:
    """Check the names that a file holds against its header, and its shapes against the model."""
    present = {tensor.name: tensor.shape for tensor in tensors(model)}
    for name, shape in header.shapes.items():
        if present.get(name) != shape:
            raise UserError(
                f"expected {name} of shape {shape}, which {path} changes, got "
                f"{present.get(name, 'no such tensor')} in this model; load the model it was made "
                "on"
            )
    absent = [name for name in header.dense if name not in present]
    if absent:
        raise UserError(
            f"expected {absent[0]}, which {path} holds whole, got no such tensor in this model; "
            "load the model it was made on"
        )
    own = {f"{name}{end}" for name in header.shapes for end in ("", ".indices", ".origin")}
    strange = set(names) - own - set(header.dense)
    if strange:
        raise UserError(
            f"expected a delta's tensors in {path}, got {len(names):,} tensors, {len(strange):,} "
            f"of them no part of a delta, such as {min(strange)}; save it again"
        )
