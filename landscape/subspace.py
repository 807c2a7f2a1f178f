"""The trainable subspace: attach a mask to a model, and the model has k trainable numbers.

A masked tensor holds W_0 + S(theta) in place, so a forward costs what the frozen model costs.
theta, float32 of size k, is the only parameter; O(k) numbers are kept beside the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from landscape.errors import UserError
from landscape.kernels import Coordinates, choose_kernel, masked_matmul
from landscape.masks import Mask
from landscape.models import plain_model

_PREFIX = "theta_"


@dataclass(frozen=True)
class Attachment:
    """Describe what `attach` did: the mask, and the flags to restore."""

    mask: Mask
    requires_grad: dict[str, bool]

    def __str__(self) -> str:
        return self.mask.summary()


def attach(model: nn.Module, mask: Mask) -> Attachment:
    """Make the weights in a mask the model's only trainable numbers.

    Each masked tensor W becomes W_0 + S(theta) with theta = 0, a parameter of shape (k_tensor,)
    in float32 (float64 on a float64 base) named ``<module>.theta_<tensor>``. Linear and Conv1D
    weights get sparse gradient kernels; every other tensor (embeddings, norms, biases,
    convolutions) a transient dense gradient. All of it can be differentiated twice.

    Args:
        model: any module; changed in place.
        mask: a mask made for this model's names and shapes.

    Returns:
        A summary that prints as one line.

    Raises:
        UserError: a mask is attached already, or names, shapes or indices do not fit the model.

    Cost: O(k) memory. Source: Xu & Zhang 2024, section 3.
    """
    if is_attached(model):
        raise UserError("expected a model without a mask, got one that has one; detach or merge it")
    owners = _owners(model, mask)
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    model.requires_grad_(False)
    for name, sites in owners.items():
        weight = sites[0][0]._parameters[sites[0][1]]
        assert weight is not None
        indices = mask.indices[name].to(weight.device)
        dtype = torch.promote_types(weight.dtype, torch.float32)
        theta = nn.Parameter(torch.zeros(indices.numel(), dtype=dtype, device=weight.device))
        origin = weight.detach().view(-1)[indices].clone()
        for module, leaf in sites:
            module.register_parameter(_PREFIX + leaf, theta)
            module.register_buffer(f"{leaf}_indices", indices, persistent=False)
            module.register_buffer(f"{leaf}_origin", origin, persistent=False)
            _install(module, leaf)
    attachment = Attachment(mask, flags)
    model.__dict__["_attachment"] = attachment
    return attachment


def is_attached(model: nn.Module) -> bool:
    """Tell whether a mask is attached to this model."""
    return "_attachment" in model.__dict__


def attached_mask(model: nn.Module) -> Mask:
    """Return the mask that is attached to a model.

    Raises:
        UserError: no mask is attached.
    """
    _require(model)
    attachment: Attachment = model.__dict__["_attachment"]
    return attachment.mask


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable numbers of a model, by tensor name.

    With a mask attached: masked tensor's name -> theta, shape (k_tensor,), the change of the
    weights on the mask. Without: name -> every parameter that requires a gradient, tied once.
    """
    if is_attached(model):
        return {
            f"{name}.{leaf}" if name else leaf: _theta(module, leaf)
            for name, module, leaf in _masked_sites(model)
        }
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def masked_origins(model: nn.Module) -> dict[str, Tensor]:
    """Return the pretrained values on the mask, by tensor name, shape (k_tensor,).

    Raises:
        UserError: no mask is attached.
    """
    _require(model)
    sites = _masked_sites(model)
    return {f"{n}.{leaf}" if n else leaf: _tensors(m, leaf)[2] for n, m, leaf in sites}


@torch.no_grad()
def detach(model: nn.Module) -> nn.Module:
    """Remove the mask and give the original model back, bit for bit.

    Raises:
        UserError: no mask is attached.
    """
    _require(model)
    for _, module, leaf in _masked_sites(model):
        weight, indices, origin = _tensors(module, leaf)
        weight.detach().view(-1)[indices] = origin
    return _uninstall(model)


@torch.no_grad()
def merge(model: nn.Module) -> nn.Module:
    """Add theta into the weights for good and return a plain model.

    The result saves with ``save_pretrained``, also when the base came from a GGUF file.

    Raises:
        UserError: no mask is attached.
    """
    synchronise(model)
    _uninstall(model)
    if getattr(getattr(model, "config", None), "quantization_config", None) is None:
        return model
    rebuilt: nn.Module = plain_model(model)
    return rebuilt


@torch.no_grad()
def synchronise(model: nn.Module) -> None:
    """Write W_0 + S(theta) into every masked tensor, as each forward does for its own.

    Call it after changing theta by hand and before reading a module's weight directly.
    """
    _require(model)
    for _, module, leaf in _masked_sites(model):
        _synchronise(module, leaf)


@torch.no_grad()
def move(model: nn.Module, mask: Mask) -> None:
    """Move the attached mask to other weights of the same tensors.

    theta and its gradient stay where both masks agree; weights that leave the mask get their
    pretrained value back; weights that join start at theta = 0 with gradient 0. The parameters
    stay the same objects, with new sizes, so an optimizer that holds them still does.

    Raises:
        UserError: no mask is attached, or the new one does not fit the attached one's tensors.

    Cost: O(k log k).
    """
    attached = attached_mask(model)
    owners = _owners(model, mask)
    if owners.keys() != attached.indices.keys():
        raise UserError("expected a mask of the same tensors as the attached one; detach it first")
    for name, sites in owners.items():
        module, leaf = sites[0]
        weight, before, origin = _tensors(module, leaf)
        theta = _theta(module, leaf)
        after = mask.indices[name].to(before.device)
        stays, place = positions(before, after)
        weight.detach().view(-1)[before] = origin
        fresh = weight.detach().view(-1)[after].clone()
        grad = theta.grad
        theta.grad = None
        theta.data = _carry(theta.data, stays, place)
        if grad is not None:
            theta.grad = _carry(grad, stays, place)
        for owner, key in sites:
            owner._buffers[f"{key}_indices"], owner._buffers[f"{key}_origin"] = after, fresh
            _synchronise(owner, key)
    model.__dict__["_attachment"] = replace(model.__dict__["_attachment"], mask=mask)


def positions(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Find the members of one sorted index list in another.

    Returns:
        Whether each entry of `after` is in `before`, and its position there (any where it is not).
    """
    place = torch.searchsorted(before, after).clamp(max=max(before.numel() - 1, 0))
    if not before.numel():
        return torch.zeros_like(after, dtype=torch.bool), place
    return before[place] == after, place


def _carry(values: Tensor, stays: Tensor, place: Tensor) -> Tensor:
    fresh = values.new_zeros(stays.numel())
    fresh[stays] = values[place[stays]]
    return fresh


@contextmanager
def dense_gradients(model: nn.Module, receive: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Hand the whole gradient of every masked tensor to a function, one tensor at a time.

    In a backward inside, ``receive(name, gradient)`` is called once a tensor, as soon as its
    gradient (grad_out^T x for a Linear, summed over the uses of a tied tensor) is complete; the
    gradient is freed afterwards. theta's own gradient is gathered from it.

    Args:
        model: a model with a mask attached; the mask may be empty.
        receive: the function; it must not keep the gradient.

    Raises:
        UserError: no mask is attached.

    Cost: the gradient products of full fine-tuning of these tensors, and the memory of one.
    """
    _require(model)
    aliases: dict[int, Tensor] = {}
    watched = []
    for name, module, leaf in _masked_sites(model, tied=True):
        theta = _theta(module, leaf)
        if id(theta) not in aliases:
            alias = _tensors(module, leaf)[0].detach().requires_grad_()
            path = f"{name}.{leaf}" if name else leaf
            alias.register_post_accumulate_grad_hook(
                partial(_hand_over, receive, path, module, leaf)
            )
            aliases[id(theta)] = alias
        module.__dict__.setdefault("_watched", {})[leaf] = aliases[id(theta)]
        watched.append(module)
    try:
        yield
    finally:
        for module in watched:
            module.__dict__.pop("_watched", None)


@torch.no_grad()
def _hand_over(
    receive: Callable[[str, Tensor], None], name: str, module: nn.Module, leaf: str, alias: Tensor
) -> None:
    gradient, alias.grad = alias.grad, None
    assert gradient is not None
    theta, indices = _theta(module, leaf), _tensors(module, leaf)[1]
    part = gradient.reshape(-1).index_select(0, indices).to(theta.dtype)
    theta.grad = part if theta.grad is None else theta.grad + part
    receive(name, gradient)


@torch.no_grad()
def _synchronise(module: nn.Module, leaf: str) -> None:
    weight, indices, origin = _tensors(module, leaf)
    theta = _theta(module, leaf)
    value = (origin.to(theta.dtype) + theta).to(weight.dtype)
    flat = weight.detach().view(-1)
    # Writing bumps the weight's version, which invalidates graphs of another point; so only
    # when something changed, or two uses of one tensor in a forward would invalidate each other.
    if not torch.equal(flat.index_select(0, indices), value):
        flat.index_copy_(0, indices, value)


def _linear_forward(module: nn.Module, x: Tensor) -> Tensor:
    _synchronise(module, "weight")
    at, theta = _coordinates(module, "weight"), _theta(module, "weight")
    weight, transpose = module._parameters["weight"], isinstance(module, nn.Linear)
    assert weight is not None
    flat = x.reshape(-1, x.shape[-1])
    masked_bias = "bias" in module.__dict__["_masked"]
    bias = _effective(module, "bias") if masked_bias else module._parameters["bias"]
    whole = "_watched" in module.__dict__
    if whole or choose_kernel(at.count, at.shape, flat.shape[0], flat.dtype) == "dense":
        matrix = _effective(module, "weight")
        out = flat @ (matrix.t() if transpose else matrix)
        out = out if bias is None else out + bias
    else:
        out = masked_matmul(flat, theta, weight, bias, at, transpose=transpose)
    return out.view(*x.shape[:-1], out.shape[-1])


class _Effective(torch.autograd.Function):
    """The weight itself, whose gradient is gathered at the mask: no copy forward."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
        ctx.indices, ctx.dtype = indices, theta.dtype
        return weight.detach().view_as(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0].reshape(-1).index_select(0, ctx.indices).to(ctx.dtype), None, None


def _effective(module: nn.Module, leaf: str) -> Tensor:
    _synchronise(module, leaf)
    if "_watched" in module.__dict__:
        watched: Tensor = module.__dict__["_watched"][leaf]
        return watched
    theta, weight = module._parameters[_PREFIX + leaf], module._parameters[leaf]
    out: Tensor = _Effective.apply(theta, weight, module._buffers[f"{leaf}_indices"])
    return out


def _swap_in(module: nn.Module, args: Any) -> None:
    values = {leaf: _effective(module, leaf) for leaf in module.__dict__["_masked"]}
    module.__dict__["_stash"] = {leaf: module._parameters.pop(leaf) for leaf in values}
    module.__dict__.update(values)


def _swap_out(module: nn.Module, args: Any, output: Any) -> None:
    for leaf, weight in module.__dict__.pop("_stash", {}).items():
        module.__dict__.pop(leaf, None)
        module._parameters[leaf] = weight


def _install(module: nn.Module, leaf: str) -> None:
    masked = module.__dict__.setdefault("_masked", {})
    masked[leaf] = None
    plain = type(module) in (nn.Linear, Conv1D)
    if plain and "weight" in masked and "forward" not in module.__dict__:
        for handle in module.__dict__.pop("_handles", []):
            handle.remove()
        module.forward = _linear_forward.__get__(module)
    elif "_handles" not in module.__dict__ and not (plain and "weight" in masked):
        module.__dict__["_handles"] = [
            module.register_forward_pre_hook(_swap_in),
            module.register_forward_hook(_swap_out, always_call=True),
        ]


def _uninstall(model: nn.Module) -> nn.Module:
    for _, module, leaf in list(_masked_sites(model, tied=True)):
        del module._parameters[_PREFIX + leaf]
        del module._buffers[f"{leaf}_indices"], module._buffers[f"{leaf}_origin"]
        module._non_persistent_buffers_set -= {f"{leaf}_indices", f"{leaf}_origin"}
    for module in model.modules():
        if "_masked" in module.__dict__:
            for handle in module.__dict__.pop("_handles", []):
                handle.remove()
            module.__dict__.pop("forward", None)
            module.__dict__.pop("_coordinates", None)
            del module.__dict__["_masked"]
    attachment: Attachment = model.__dict__.pop("_attachment")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(attachment.requires_grad.get(name, False))
        parameter.grad = None
    return model


def _coordinates(module: nn.Module, leaf: str) -> Coordinates:
    indices = module._buffers[f"{leaf}_indices"]
    weight = module._parameters[leaf]
    assert indices is not None
    assert weight is not None
    cached: Coordinates | None = module.__dict__.get("_coordinates")
    if cached is None or cached.flat is not indices:
        cached = Coordinates(indices, (weight.shape[0], weight.shape[1]))
        module.__dict__["_coordinates"] = cached
    return cached


def _theta(module: nn.Module, leaf: str) -> nn.Parameter:
    theta = module._parameters[_PREFIX + leaf]
    assert theta is not None
    return theta


def _tensors(module: nn.Module, leaf: str) -> tuple[Tensor, Tensor, Tensor]:
    weight = module._parameters[leaf]
    indices, origin = module._buffers[f"{leaf}_indices"], module._buffers[f"{leaf}_origin"]
    assert weight is not None
    assert indices is not None
    assert origin is not None
    return weight, indices, origin


def _masked_sites(model: nn.Module, tied: bool = False) -> list[tuple[str, nn.Module, str]]:
    """List (module name, module, tensor leaf) of masked tensors; tied ones once unless asked."""
    sites, seen = [], set()
    for name, module in model.named_modules():
        for leaf in module.__dict__.get("_masked", {}):
            theta = module._parameters[_PREFIX + leaf]
            if tied or id(theta) not in seen:
                seen.add(id(theta))
                sites.append((name, module, leaf))
    return sites


def _owners(model: nn.Module, mask: Mask) -> dict[str, list[tuple[nn.Module, str]]]:
    """Map each masked tensor to every (module, leaf) that holds it, checking that the mask fits."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    owners: dict[str, list[tuple[nn.Module, str]]] = {}
    for name, indices in mask.indices.items():
        if name not in parameters:
            raise UserError(f"the mask names {name}, which this model lacks; make a mask for it")
        weight = parameters[name]
        if tuple(weight.shape) != tuple(mask.shapes[name]):
            raise UserError(
                f"the mask expects {name} of shape {tuple(mask.shapes[name])}, "
                f"the model has {tuple(weight.shape)}; make a mask for this model"
            )
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < weight.numel():
            raise UserError(f"the mask's indices for {name} leave 0..{weight.numel() - 1}")
        if not weight.is_contiguous() or not weight.is_floating_point():
            raise UserError(
                f"{name} must be a contiguous floating-point tensor to be masked, "
                f"got {weight.dtype} with strides {weight.stride()}; load it in full precision"
            )
        owners[name] = [
            (module, leaf)
            for module in model.modules()
            for leaf, p in module._parameters.items()
            if p is weight
        ]
    return owners


def _require(model: nn.Module) -> None:
    if not is_attached(model):
        raise UserError("expected a model with a mask attached, got one without; call attach first")
