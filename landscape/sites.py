"""Masked tensors inside their modules: where theta lives, and how a forward reads it.

A site is a (module, leaf): ``module.<leaf>`` is masked. Its owner, the first site of a tied tensor
and as a rule the site itself, holds the parameter ``theta_<leaf>`` and the buffers
``theta_<leaf>_indices`` and ``theta_<leaf>_origin``, the weights' pretrained values. Three ways
to let theta into a forward:

    Linear, Conv1D         their forward is replaced by one with sparse gradient kernels
    quantised, sharded     y = module(x) + x S(theta)^T, in a hook
    everything else        the weight, with a gathered gradient, stands in during the forward
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.pytorch_utils import Conv1D

from landscape.errors import UserError
from landscape.kernels import Coordinates, choice, masked_matmul, sparse_product
from landscape.masks import is_quantised

PREFIX = "theta_"


Site = tuple[nn.Module, str]


def own(site: Site, theta: nn.Parameter, indices: Tensor, origin: Tensor) -> None:
    """Let a site hold theta.

    Args:
        site: the module and the leaf of the tensor.
        theta: shape (k,).
        indices: sorted flat indices, shape (k,).
        origin: the pretrained values there, zeros where theta stays beside the weight.
    """
    module, leaf = site
    module.register_parameter(PREFIX + leaf, theta)
    module.register_buffer(f"{PREFIX}{leaf}_indices", indices)
    module.register_buffer(f"{PREFIX}{leaf}_origin", origin)


def install(site: Site, owner: Site, reader: nn.Module) -> None:
    """Let the forwards of a module read theta.

    Args:
        site: the module and the leaf of the tensor.
        owner: the site that holds theta: another where the tensor is tied.
        reader: the module whose forward reads the weight, as a rule the site's own.
    """
    module, leaf = site
    masked = module.__dict__.setdefault("_masked", {})
    masked[leaf] = owner
    hooks = module.__dict__.setdefault("_masked_hooks", {})
    if leaf == "weight" and _beside(module):
        hooks["product"] = [module.register_forward_hook(_add_product, with_kwargs=True)]
        return
    # a forward that something else has wrapped is left alone: it reads the weight by itself
    ours = "forward" not in module.__dict__ or _is_ours(module)
    if "weight" in masked and type(module) in (nn.Linear, Conv1D) and ours:
        _remove(hooks.pop("stand in", []))
        module.forward = partial(_linear_forward, module)
    elif "stand in" not in hooks:
        hooks["stand in"] = [
            reader.register_forward_pre_hook(partial(_swap_in, module)),
            reader.register_forward_hook(partial(_swap_out, module), always_call=True),
        ]


def uninstall(module: nn.Module) -> None:
    """Take theta, its buffers and its ways into the forward from a module."""
    for leaf, (owner, _) in module.__dict__.pop("_masked").items():
        if owner is module:
            del module._parameters[PREFIX + leaf]
            for name in (f"{PREFIX}{leaf}_indices", f"{PREFIX}{leaf}_origin"):
                del module._buffers[name]
    for handles in module.__dict__.pop("_masked_hooks").values():
        _remove(handles)
    module.__dict__.pop("_coordinates", None)
    if _is_ours(module):
        del module.__dict__["forward"]


def owns(module: nn.Module, leaf: str) -> bool:
    """Tell whether a site holds its theta itself: one site of each tied tensor does."""
    owner: Site = module.__dict__["_masked"][leaf]
    return owner[0] is module and owner[1] == leaf


def theta_of(module: nn.Module, leaf: str) -> nn.Parameter:
    """Return theta of a site, shape (k,)."""
    owner, key = module.__dict__["_masked"][leaf]
    theta: nn.Parameter = owner._parameters[PREFIX + key]
    return theta


def indices_of(module: nn.Module, leaf: str) -> Tensor:
    """Return the flat indices of a site, shape (k,)."""
    owner, key = module.__dict__["_masked"][leaf]
    indices: Tensor = owner._buffers[f"{PREFIX}{key}_indices"]
    return indices


def origin_of(module: nn.Module, leaf: str) -> Tensor:
    """Return the pretrained values on the mask of a site, shape (k,)."""
    owner, key = module.__dict__["_masked"][leaf]
    origin: Tensor = owner._buffers[f"{PREFIX}{key}_origin"]
    return origin


def flat_weight(module: nn.Module, leaf: str) -> Tensor | None:
    """Return a flat view of the weight of a site, without gradient.

    None where theta stays beside the weight, which is quantised or sharded.
    """
    if leaf == "weight" and _beside(module):
        return None
    weight = module._parameters[leaf]
    assert weight is not None
    return weight.detach().view(-1)


def replace_mask(module: nn.Module, leaf: str, indices: Tensor, origin: Tensor) -> None:
    """Give a site and those tied to it other indices and the pretrained values there."""
    owner, key = module.__dict__["_masked"][leaf]
    owner._buffers[f"{PREFIX}{key}_indices"] = indices
    owner._buffers[f"{PREFIX}{key}_origin"] = origin


@torch.no_grad()
def synchronise_site(module: nn.Module, leaf: str) -> None:
    """Write W_0 + S(theta) into the weight of a site.

    Raises:
        UserError: the model was cast to a half type after the mask was attached.
    """
    theta = theta_of(module, leaf).detach()
    if theta.dtype not in (torch.float32, torch.float64):
        raise UserError(
            f"theta must be float32 or float64 to hold small updates, got {theta.dtype}: cast the "
            "model before a mask is attached, or merge first"
        )
    flat = flat_weight(module, leaf)
    if flat is None:
        return
    indices, origin = indices_of(module, leaf), origin_of(module, leaf)
    value = (origin.to(theta.dtype) + theta).to(flat.dtype)
    # Writing bumps the weight's version, which invalidates graphs of another point; so only
    # when something changed, or two uses of one tensor in a forward would invalidate each other.
    if not torch.equal(flat.index_select(0, indices), value):
        flat.index_copy_(0, indices, value)


def alias_of(module: nn.Module, leaf: str, receive: Callable[[Tensor], None]) -> Tensor:
    """Return a stand-in for a site's weight that hands its dense gradient to a function.

    Put under ``module._watched[leaf]``, forwards use it; for a quantised weight, whose own
    product has no gradient, it is a zero matrix of one number.
    """
    if leaf == "weight" and _beside(module):
        shape: Any = (module.out_features, module.in_features)
        theta = theta_of(module, leaf)
        alias = torch.zeros((), dtype=theta.dtype, device=theta.device).expand(shape)
    else:
        weight = module._parameters[leaf]
        assert weight is not None
        alias = weight.detach()
    alias = alias.requires_grad_()
    alias.register_post_accumulate_grad_hook(receive)
    return alias


def _beside(module: nn.Module) -> bool:
    """Tell whether theta stays beside a layer's weight; a sharded one is whole in its forward."""
    return "product" in module.__dict__.get("_masked_hooks", {}) or is_quantised(module)


def _is_ours(module: nn.Module) -> bool:
    forward = module.__dict__.get("forward")
    return isinstance(forward, partial) and forward.func is _linear_forward


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def _linear_forward(module: nn.Module, *args: Tensor, **kwargs: Tensor) -> Tensor:
    x = args[0] if args else next(iter(kwargs.values()))  # named input or x
    if "_masked" not in module.__dict__:  # what wrapped this forward has outlived the mask
        out: Tensor = type(module).forward(module, x)
        return out
    synchronise_site(module, "weight")
    at, theta = _coordinates(module), theta_of(module, "weight")
    weight, transpose = module._parameters["weight"], isinstance(module, nn.Linear)
    assert weight is not None
    flat = _autocast(x.reshape(-1, x.shape[-1]))
    masked_bias = "bias" in module.__dict__["_masked"]
    bias = _effective(module, "bias") if masked_bias else module._parameters["bias"]
    whole = "_watched" in module.__dict__
    if whole or choice.choose_kernel(at, flat.shape[0], flat.dtype) == "dense":
        matrix = _effective(module, "weight")
        out = nn.functional.linear(flat, matrix if transpose else matrix.t(), bias)
    else:
        out = masked_matmul(flat, theta, weight, bias, at, transpose=transpose)
    return out.view(*x.shape[:-1], out.shape[-1])


def _autocast(x: Tensor) -> Tensor:
    """Cast as autocast would, once, so that what is kept for backward is narrow too."""
    kind = x.device.type
    if x.dtype == torch.float64 or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))


def _add_product(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
    synchronise_site(module, "weight")
    x: Tensor = args[0] if args else next(iter(kwargs.values()))
    flat = _autocast(x.reshape(-1, x.shape[-1]))
    theta: Tensor = theta_of(module, "weight")
    watched = module.__dict__.get("_watched")
    if watched is not None:
        theta = theta.detach()  # its gradient comes from the alias's, which is zero
    change = sparse_product(theta, flat, _coordinates(module))
    if watched is not None:
        change = change + flat @ watched["weight"].to(flat.dtype).t()
    return output + change.view(output.shape).to(output.dtype)


class _Effective(torch.autograd.Function):
    """The weight itself, whose gradient is gathered at the mask: no copy forward."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
        ctx.indices, ctx.dtype = indices, theta.dtype
        ctx.shape, ctx.kept = weight.shape, weight.dtype
        return weight.detach().view_as(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0].reshape(-1).index_select(0, ctx.indices).to(ctx.dtype), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        change = torch.zeros(ctx.shape, dtype=ctx.kept, device=tangents[0].device)
        flat = change.reshape(-1).index_copy(0, ctx.indices, tangents[0].to(ctx.kept))
        return flat.view(ctx.shape)


def _effective(module: nn.Module, leaf: str) -> Tensor:
    synchronise_site(module, leaf)
    if "_watched" in module.__dict__:
        watched: Tensor = module.__dict__["_watched"][leaf]
        return watched
    weight, indices = module._parameters[leaf], indices_of(module, leaf)
    out: Tensor = _Effective.apply(theta_of(module, leaf), weight, indices)
    return out


def _swap_in(module: nn.Module, reader: nn.Module, args: Any) -> None:
    shown = [n for n in module.__dict__["_masked"] if n != "weight" or not _beside(module)]
    values = {leaf: _effective(module, leaf) for leaf in shown}
    module.__dict__["_stash"] = {leaf: module._parameters[leaf] for leaf in values}
    module._parameters.update(values)


def _swap_out(module: nn.Module, reader: nn.Module, args: Any, output: Any) -> None:
    module._parameters.update(module.__dict__.pop("_stash", {}))


def _coordinates(module: nn.Module) -> Coordinates:
    indices = indices_of(module, "weight")
    cached: Coordinates | None = module.__dict__.get("_coordinates")
    if cached is None or cached.flat is not indices:
        if _beside(module):
            rows, cols = int(module.out_features), int(module.in_features)  # type: ignore[arg-type]
        else:
            rows, cols = module._parameters["weight"].shape  # type: ignore[union-attr]
        cached = Coordinates(indices, (rows, cols))
        module.__dict__["_coordinates"] = cached
    return cached
