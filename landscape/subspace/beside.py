"""Masks of layers whose weight cannot be written: theta stays beside it.

A quantised layer shows no floating-point weight, and one that FSDP has sharded holds a part of it.
There a forward hook adds the change of the output: y = module(x) + x S(theta)^T.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape.kernels import sparse_product
from landscape.models.tensors import is_quantised
from landscape.subspace.sites import Site


def is_beside(module: nn.Module, leaf: str) -> bool:
    """Tell whether theta stays beside a weight: that of a quantised or sharded linear layer."""
    return leaf == "weight" and is_quantised(module)


def add_product(
    module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor
) -> Tensor:
    """Add x S(theta)^T to the output of a layer, as its forward hook."""
    site: Site = module.__dict__["_masked"]["weight"]
    site.synchronise()
    x = args[0] if args else next(iter(kwargs.values()))
    flat = autocast(x.reshape(-1, x.shape[-1]))
    theta = site.theta
    if site.watched is not None:
        theta = theta.detach()  # its gradient comes from the alias's, which is zero
    change = sparse_product(theta, flat, site.coordinates)
    if site.watched is not None:
        change = change + flat @ site.watched.to(flat.dtype).t()
    return output + change.view(output.shape).to(output.dtype)


def autocast(x: Tensor) -> Tensor:
    """Cast as autocast would, once, so that what is kept for backward is narrow too."""
    kind = x.device.type
    if x.dtype == torch.float64 or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))
