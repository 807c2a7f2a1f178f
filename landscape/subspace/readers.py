"""What whoever reads a masked tensor gets: W_0 + S(theta), with theta's gradient where wanted.

There are three ways to it, chosen at every look:

    in place      theta and the weight are the model's own: the stored weight, written if theta has
                  changed since; where gradients are wanted, its gradient is gathered at the mask
    out of place  either is another's (functional_call, a replica), or torch records, batches or
                  differentiates what runs (compile, trace, vmap): a copy with S(theta) in it, made
                  of torch's own operations
    beside        quantised and sharded weights: y = module(x) + x S(theta)^T
                  (`landscape.subspace.beside`)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from landscape.errors import UserError
from landscape.subspace.sites import Site, own


class Live(dict[str, Any]):
    """The parameters of a module with masked tensors: whoever looks finds W_0 + S(theta)."""

    def __init__(self, values: Mapping[str, Tensor | None], sites: dict[str, Site]) -> None:
        super().__init__(values)
        self._sites = sites

    def __getitem__(self, name: str) -> Any:
        if name in self._sites:
            self._look(name)
        return super().__getitem__(name)

    def get(self, name: str, default: object = None) -> Any:
        """Return a parameter."""
        if name in self._sites:
            self._look(name)
        return super().get(name, default)

    def items(self) -> Any:
        """Return the parameters with their names."""
        self._look(*self._sites)
        return super().items()

    def values(self) -> Any:
        """Return the parameters."""
        self._look(*self._sites)
        return super().values()

    def __reduce__(self) -> Any:
        return dict, (list(self.items()),)

    def _look(self, *names: str) -> None:
        if is_traced_or_transformed():
            return
        for name in names:
            self._sites[name].synchronise()


def read(module: nn.Module, leaf: str) -> Tensor:
    """Return what ``module.<leaf>`` is for whoever reads it: W_0 + S(theta), differentiable.

    Where gradients are wanted the weight itself stands in, its gradient gathered at the mask.
    """
    current = stored(module, leaf)
    if current is not None:
        return current
    site: Site = module.__dict__["_masked"][leaf]
    try:
        weight: Tensor = own(module, leaf)
    except KeyError:
        raise AttributeError(f"{type(module).__name__} has no attribute {leaf!r}") from None
    if "_is_replica" in module.__dict__:
        return site.scattered(weight, weight.__dict__["_holder"])
    if is_traced_or_transformed():
        return site.scattered(weight, site.owner)
    if site.watched is not None:
        site.synchronise()
        return site.watched
    theta = site.theta
    if not site.holds(theta, weight):
        if theta is site.held and weight is not site.weight:
            site.check_given(weight)
        return site.scattered(weight, site.owner)
    site.synchronise()
    if not is_differentiated(theta):
        return weight
    out: Any = _Effective.apply(theta, weight.detach(), site.indices)
    out._is_param = True  # to those who ask, as Module.get_parameter does, it is a parameter
    weight = out
    return weight


def stored(module: nn.Module, leaf: str) -> Tensor | None:
    """Return a masked tensor as it is stored, where that is all that a reader needs; or None.

    No derivative is wanted, nothing is recorded, and the tensor is W_0 + S(theta) already. This is
    what every forward of a generating model passes: it looks at as little as it can, since all of
    that has left the caches when the layer's turn comes again.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    if forward_ad._current_level >= 0 or torch._C._get_tracing_state() is not None:
        return None
    site: Site | None = module.__dict__.get("_masked", {}).get(leaf)
    if site is None or dict.get(module.__dict__["_parameters"], leaf) is not site.weight:
        return None
    is_own = dict.get(site.owner.__dict__["_parameters"], site.name) is site.held
    return site.weight if is_own and site.is_current() else None


def put(module: nn.Module, leaf: str, value: Tensor) -> None:
    """Give a replica its copy of a weight: what ``replica.<leaf> = copy`` does.

    Tied modules get the same copy, which remembers the replica that has theta.

    Raises:
        UserError: the module is no replica.
    """
    site: Site = module.__dict__["_masked"][leaf]
    if "_is_replica" not in module.__dict__:
        raise UserError(
            f"expected a masked {leaf} to stay in its place, got a {type(value).__name__} put "
            "there; change theta, or detach the mask first"
        )
    if module.__dict__["_masked"] is site.owner.__dict__["_masked"] and leaf == site.leaf:
        value.__dict__["_holder"] = module
    module.__dict__[leaf] = value


def is_traced_or_transformed() -> bool:
    """Tell whether torch records or transforms what runs: compile, trace, vmap, fake tensors."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None
    )


def is_differentiated(theta: Tensor) -> bool:
    """Tell whether a derivative by theta is wanted here, backward or forward."""
    if torch.is_grad_enabled() and theta.requires_grad:
        return True
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(theta).tangent is not None


class _Effective(torch.autograd.Function):
    """The weight itself, whose gradient is gathered at the mask: no copy forward."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
        ctx.indices, ctx.dtype = indices, theta.dtype
        ctx.shape, ctx.kept = weight.shape, weight.dtype
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad = grads[0].to_dense() if grads[0].is_sparse else grads[0]
        return grad.reshape(-1).index_select(0, ctx.indices).to(ctx.dtype), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        change = torch.zeros(ctx.shape, dtype=ctx.kept, device=tangents[0].device)
        flat = change.reshape(-1).index_copy(0, ctx.indices, tangents[0].to(ctx.kept))
        return flat.view(ctx.shape)
