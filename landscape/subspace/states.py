"""What an attached model holds: theta, dense parameters, and the pretrained values of both."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from landscape.models.tensors import tensors
from landscape.subspace.attached import attached_mask, attached_model, is_attached, masked_sites
from landscape.subspace.dense import dense_parameters, dense_starts
from landscape.subspace.movement import positions
from landscape.subspace.sites import PREFIX


def masked_origins(model: nn.Module) -> dict[str, Float[Tensor, " _"]]:
    """Return the pretrained values on the mask, by tensor name, shape (k_tensor,).

    Raises:
        UserError: no mask is attached.
    """
    return {name: site.origin for name, site in masked_sites(attached_model(model)).items()}


def theta_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the part of an attached model's state dict that is trained: theta and its indices.

    With the dense parameters beside the mask, where there are any. It loads, not strictly, onto any
    model with the same mask attached, and is refused elsewhere.

    Raises:
        UserError: no mask is attached.
    """
    state = {}
    for path, module in attached_model(model).named_modules():
        for leaf, site in module.__dict__.get("_masked", {}).items():
            if site.owner is module and site.leaf == leaf:
                name = f"{path}.{PREFIX}{leaf}" if path else PREFIX + leaf
                state[name] = site.theta.detach().clone()
                state[f"{name}_indices"] = site.indices.clone()
    return state | {name: p.detach().clone() for name, p in dense_parameters(model).items()}


@torch.no_grad()
def pretrained(
    model: nn.Module, indices: Mapping[str, Int[Tensor, " _"]]
) -> dict[str, Num[Tensor, " _"]]:
    """Return what a base model stores at flat indices, whatever training has changed of it.

    Pretrained values, in the tensor's type, on cpu. A quantised weight shows none: in their place
    numbers of its packed storage, which also tell two base models apart.

    Args:
        model: a model, with or without a mask.
        indices: tensor name -> sorted flat indices, shape (k_tensor,).

    Cost: O(k log k).
    """
    held = {tensor.name: tensor for tensor in tensors(model)}
    changed = masked_origins(model) if is_attached(model) else {}
    dense = dense_starts(model)
    found = {}
    for name, flat in indices.items():
        if name in dense:
            found[name] = dense[name].reshape(-1).cpu()[flat.cpu()]
            continue
        values = held[name].stored(flat)
        if name in changed and not held[name].quantised:
            both, place = positions(attached_mask(model).indices[name].cpu(), flat.cpu())
            values[both] = changed[name].cpu()[place[both]]
        found[name] = values
    return found
