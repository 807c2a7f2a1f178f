"""Move an attached mask to other weights of the same tensors."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.masks import Mask
from landscape.subspace.attachable import places
from landscape.subspace.attached import attached_mask, attached_model, masked_sites
from landscape.subspace.sites import PREFIX


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
    model = attached_model(model)
    if places(model, mask).keys() != attached_mask(model).indices.keys():
        raise UserError("expected a mask of the same tensors as the attached one; detach it first")
    for name, site in masked_sites(model).items():
        before, theta, weight = site.indices, site.theta, site.flat
        after = mask.indices[name].to(before.device)
        stays, place = positions(before, after)
        if weight is None:
            fresh = theta.new_zeros(after.numel())
        else:
            weight[before] = site.origin
            fresh = weight[after].clone()
        grad = theta.grad
        theta.grad = None
        theta.data = _carry(theta.data, stays, place)
        if grad is not None:
            theta.grad = _carry(grad, stays, place)
        site.owner._buffers[f"{PREFIX}{site.leaf}_indices"] = after
        site.owner._buffers[f"{PREFIX}{site.leaf}_origin"] = fresh
        site.forget()
        site.synchronise()
    model.__dict__["_attachment"] = replace(model.__dict__["_attachment"], mask=mask)


def positions(
    before: Int[Tensor, " k"], after: Int[Tensor, " m"]
) -> tuple[Bool[Tensor, " m"], Int[Tensor, " m"]]:
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
