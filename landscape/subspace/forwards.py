"""Forwards of masked linear layers: sparse gradient kernels where a gradient is wanted.

Only layers that are exactly ``nn.Linear`` or GPT-2's ``Conv1D`` have them. Every other module keeps
its own forward, which reads its masked weights as attributes (`landscape.subspace.readers`).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from landscape.kernels import choice, masked_matmul
from landscape.subspace.beside import autocast
from landscape.subspace.readers import is_differentiated, is_traced_or_transformed, stored
from landscape.subspace.sites import Site, own


def _linear(self: nn.Linear, input: Tensor) -> Tensor:
    weight = stored(self, "weight")
    if weight is not None:
        # past the attribute, as every look that a generating model can do without
        bias = self.bias if "bias" in self.__dict__["_masked"] else own(self, "bias")
        return nn.functional.linear(input, weight, bias)
    site = _site_to_multiply(self)
    if site is not None and is_differentiated(site.theta):
        return _differentiable(self, site, input, nn.Linear.forward)
    return nn.Linear.forward(self, input)


def _conv1d(self: Conv1D, x: Tensor) -> Tensor:
    site = _site_to_multiply(self)
    if site is not None and is_differentiated(site.theta):
        return _differentiable(self, site, x, Conv1D.forward)
    out: Tensor = Conv1D.forward(self, x)
    return out


#: class of a layer -> its forward under a mask; the argument has the name that the class gives it
FORWARDS: dict[type[nn.Module], Callable[..., Tensor]] = {nn.Linear: _linear, Conv1D: _conv1d}


def _site_to_multiply(module: nn.Module) -> Site | None:
    """Return the site of a layer's weight if theta and the weight are the model's own here."""
    site: Site | None = module.__dict__.get("_masked", {}).get("weight")
    # without a site, what has wrapped this forward has outlived the mask
    if site is None or site.watched is not None or is_traced_or_transformed():
        return None
    return site if site.holds(site.theta, own(module, "weight")) else None


def _differentiable(
    module: nn.Linear | Conv1D, site: Site, x: Tensor, forward: Callable[..., Tensor]
) -> Tensor:
    """Multiply with the sparse gradient kernels, or as the class does where that is faster."""
    flat, at = autocast(x.reshape(-1, x.shape[-1])), site.coordinates
    if choice.choose_kernel(at, flat.shape[0], flat.dtype) == "dense":
        return forward(module, x)
    site.synchronise()
    transpose = isinstance(module, nn.Linear)
    weight = site.weight.detach()
    out = masked_matmul(flat, site.theta, weight, module.bias, at, transpose=transpose)
    return out.view(*x.shape[:-1], out.shape[-1])
