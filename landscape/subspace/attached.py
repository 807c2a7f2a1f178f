"""What is attached to a model: the mask, the flags to restore, and the sites of masked tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from landscape.errors import UserError
from landscape.masks import Mask
from landscape.shown import card, few
from landscape.subspace.attachable import unwrapped
from landscape.subspace.sites import Site


@dataclass(frozen=True, repr=False)
class Attachment:
    """Describe what `attach` did.

    Args:
        mask: the mask.
        requires_grad: parameter name -> its flag before, which `detach` restores.
        guard: the hook that refuses states of other masks.
        dense: names of the parameters beside the mask that are trained whole -> their sizes.
    """

    mask: Mask
    requires_grad: dict[str, bool]
    guard: RemovableHandle = field(repr=False)
    dense: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        if not self.dense:
            return self.mask.summary()
        return (
            f"{self.mask.summary()}; beside it {sum(self.dense.values()):,} dense parameters in "
            f"{few(self.dense, 3)}"
        )

    def _repr_html_(self) -> str:
        return card(repr(self), {n: f"{i.numel():,}" for n, i in self.mask.indices.items()})


def is_attached(model: nn.Module) -> bool:
    """Tell whether a mask is attached to this model, or to the one that torch has wrapped in it."""
    return "_attachment" in unwrapped(model).__dict__


def attached_mask(model: nn.Module) -> Mask:
    """Return the mask that is attached to a model.

    Raises:
        UserError: no mask is attached.
    """
    attachment: Attachment = attached_model(model).__dict__["_attachment"]
    return attachment.mask


def attached_model(model: nn.Module) -> nn.Module:
    """Return the model that a mask is attached to: this one, or the one that torch has wrapped."""
    if not is_attached(model):
        raise UserError("expected a model with a mask attached, got one without; call attach first")
    return unwrapped(model)


def masked_sites(model: nn.Module) -> dict[str, Site]:
    """Return the masked tensors of a model by name, tied ones once, under their first.

    Raises:
        UserError: they are not those of the mask any more.
    """
    mask = attached_mask(model)
    found = {}
    for path, module in model.named_modules():
        for leaf, site in module.__dict__.get("_masked", {}).items():
            if site.owner is module and site.leaf == leaf:
                found[f"{path}.{leaf}" if path else leaf] = site
    if found.keys() != mask.indices.keys():
        lost = next((n for n in mask.indices if n not in found), None)
        now = next((n for n in found if n not in mask.indices), "no masked module")
        raise UserError(
            f"expected {lost} where the mask was attached, got {now}: modules were wrapped or "
            "replaced since (by an adapter, a resize); detach the mask first, and attach it after"
        )
    return found


def every_site(model: nn.Module) -> set[Site]:
    """Return the masked tensors of a model, wherever its modules are now."""
    return {s for m in model.modules() for s in m.__dict__.get("_masked", {}).values()}


@torch.no_grad()
def synchronise(model: nn.Module) -> None:
    """Write W_0 + S(theta) into every masked tensor, as every look at one does for its own.

    Only a tensor's memory, read past its module (``data_ptr``, another process), needs it.
    """
    for site in every_site(attached_model(model)):
        site.synchronise()
