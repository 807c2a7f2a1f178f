"""What a mask asks of a model before it is attached: names, shapes, storage, no other reader."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.masks import Mask, refuse_indices
from landscape.models.tensors import is_sharded, tensors

_PARALLEL: Any = (nn.DataParallel, nn.parallel.DistributedDataParallel)
Place = tuple[nn.Module, str]


def refuse_model(model: nn.Module) -> None:
    """Refuse a model that wraps another, or that shares modules with an attached one.

    Raises:
        UserError: with the reason.
    """
    if unwrapped(model) is not model:
        raise UserError(
            f"expected the model itself, got it wrapped in {type(model).__name__}; attach the mask "
            "first, then wrap or compile"
        )
    for name, module in model.named_modules():
        if "_in_masked_model" in module.__dict__:
            where = f"its part {name}" if name else "it"
            raise UserError(
                f"expected a model without a mask, got one where {where} belongs to a model that "
                "has one; detach or merge that first, and attach one mask to the whole"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(
                f"expected a model in Python, got {name or 'one'} scripted or traced by torch.jit; "
                "attach the mask to the model that it was made from"
            )


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside what torch wraps around one: data parallel, compiled."""
    while True:
        if isinstance(model, _PARALLEL):
            model = model.module
        elif type(model).__name__ == "OptimizedModule":  # its module takes a second to import
            model = cast(nn.Module, model._orig_mod)
        else:
            return model


def places(model: nn.Module, mask: Mask) -> dict[str, list[Place]]:
    """Map each masked tensor to every (module, leaf) that holds it, the first name's first.

    Raises:
        UserError: the mask does not fit the model, or a tensor cannot be masked.
    """
    present = {t.name: t for t in tensors(model)}
    holders: dict[int, list[Place]] = {}
    first: dict[int, str] = {}
    for tensor in present.values():
        first.setdefault(tensor.identity, tensor.name)
        here = holders.setdefault(tensor.identity, [])
        if (tensor.module, tensor.leaf) not in here:
            here.append((tensor.module, tensor.leaf))
    found: dict[str, list[Place]] = {}
    for name, indices in mask.indices.items():
        if name not in present:
            raise UserError(
                f"expected a mask of this model's tensors, got one that names {name}, which it "
                "lacks; make a mask for this model"
            )
        tensor = present[name]
        if first[tensor.identity] != name:
            raise UserError(
                f"expected tied tensors under their first name, {first[tensor.identity]}, got a "
                f"mask that names {name}; name it so"
            )
        if tensor.shape != tuple(mask.shapes[name]):
            raise UserError(
                f"expected {name} of shape {tuple(mask.shapes[name])}, as the mask has it, got a "
                f"model where it has {tensor.shape}; make a mask for this model"
            )
        refuse_indices(name, indices, tensor.size)
        weight: Any = tensor.module._parameters.get(tensor.leaf)
        if is_sharded(weight) and weight.device_mesh.ndim != 1:
            raise UserError(
                f"expected {name} sharded over data-parallel processes, one dimension, got a mesh "
                f"of {weight.device_mesh.ndim}; shard it over one, or leave it out of targets"
            )
        if weight is not None and not tensor.quantised:
            _refuse_storage(name, weight)
            if tensor.leaf == "weight" and getattr(tensor.module, "max_norm", None) is not None:
                raise UserError(
                    f"expected {name} to stay as it is written, got one that its lookups "
                    "renormalise (max_norm), which would undo theta; leave it out of targets"
                )
        found[name] = holders[tensor.identity]
    return found


def refuse_other_holders(model: nn.Module, owners: dict[str, list[Place]]) -> None:
    """Refuse a masked tensor that something besides its modules' parameters holds or overlaps.

    Such a reader gets the memory without the gradient. The ``_flat_weights`` of ``nn.RNN`` and its
    kin are allowed: an attached layer makes that list afresh (`landscape.subspace.masked`).

    Raises:
        UserError: with the names of both.

    Cost: one look at every attribute of every module.
    """
    masked = {}
    for name, sites in owners.items():
        weight = sites[0][0]._parameters.get(sites[0][1])
        if weight is not None and not is_sharded(weight) and weight.numel():
            masked[name] = (weight, *_span(weight))
    if not masked:
        return
    low, high = min(m[1] for m in masked.values()), max(m[2] for m in masked.values())
    for where, tensor in _held(model):
        if is_sharded(tensor) or tensor.layout != torch.strided or not tensor.numel():
            continue
        if type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
            continue
        start, end = _span(tensor)
        if not start or end <= low or start >= high:
            continue
        for name, (weight, first, last) in masked.items():
            if start < last and first < end and not (where == "" and tensor is weight):
                raise UserError(
                    f"expected {name} to be read as its module's parameter only, got its memory "
                    f"in {where or 'another parameter'} too, where theta would have no gradient; "
                    "leave it out of targets"
                )


def refuse_outside_holders(model: nn.Module, owners: dict[str, list[Place]]) -> None:
    """Refuse a masked tensor that is also the parameter of a module outside the model.

    A head that is tied to an embedding, where the mask is attached to the part without the head:
    it would compute with W_0 + S(theta) and give theta no gradient.

    Raises:
        UserError: with the name.

    Cost: none, unless Python says that somebody holds a tensor besides its modules; then a look at
    everything that Python's garbage collector knows, some ten milliseconds.
    """
    held = {}
    for name, sites in owners.items():
        weight = sites[0][0]._parameters.get(sites[0][1])
        # this variable and the call's argument are two
        if weight is not None and sys.getrefcount(weight) > len(sites) + 2:
            held[id(weight)] = name
    if not held:
        return
    inside = {id(module._parameters) for module in model.modules()}
    weights = [owners[name][0][0]._parameters[owners[name][0][1]] for name in held.values()]
    for found in gc.get_referrers(*weights):
        if not isinstance(found, dict) or id(found) in inside:
            continue
        names = [held[id(value)] for value in list(found.values()) if id(value) in held]
        for holder in gc.get_referrers(found) if names else ():
            if isinstance(holder, dict) and holder.get("_parameters") is found:
                raise UserError(
                    f"expected {names[0]} to belong to this model only, got a module outside of it "
                    "that shares it, where theta would have no gradient; attach the mask to the "
                    "whole model, or leave it out of targets"
                )


def _held(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """List the tensors of a model with where they are, "" for parameters."""
    for path, module in model.named_modules():
        for value in module._parameters.values():
            if value is not None:
                yield "", value
        for key, value in {**module.__dict__, **module._buffers}.items():
            if key in ("_parameters", "_buffers", "_modules") or key.endswith("_hooks"):
                continue
            if isinstance(module, nn.RNNBase) and key == "_flat_weights":
                continue
            inner = value.values() if isinstance(value, dict) else value
            for item in inner if isinstance(value, list | tuple | dict) else (value,):
                if isinstance(item, Tensor):
                    yield f"{path}.{key}" if path else key, item


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the first address of a tensor's numbers and the one after the last."""
    start = tensor.data_ptr()
    last = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * tensor.element_size()


def _refuse_storage(name: str, weight: Tensor) -> None:
    if is_sharded(weight):
        raise UserError(
            f"expected sharded tensors to be weights of linear layers, got {name}, which cannot be "
            "masked; leave it out of targets"
        )
    if weight.is_meta:
        raise UserError(
            f"expected {name} to hold values, got it on the meta device (not loaded, or "
            "offloaded); load the weights onto a device before a mask is attached"
        )
    if weight.is_inference():
        raise UserError(
            f"expected {name} to be trainable, got one made under torch.inference_mode; make "
            "or load the model outside of it"
        )
    if not weight.is_contiguous() or not weight.is_floating_point():
        raise UserError(
            f"expected {name} to be a contiguous floating-point tensor, got {weight.dtype} with "
            f"strides {weight.stride()}; load it in full precision"
        )
