"""The trainable subspace: attach a mask to a model, and the model has k trainable parameters.

Whoever looks at a masked tensor finds W_0 + S(theta): a forward, another module, a state dict, a
copy. It is held in place, so a forward costs what the frozen model costs. theta, float32 of size
k, is the only trainable parameter, but for what is named to be dense beside the mask; O(k) values
are kept beside the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError
from landscape.masks import Mask
from landscape.models import plain_model
from landscape.models.tensors import is_sharded
from landscape.subspace.attachable import (
    places,
    refuse_model,
    refuse_other_holders,
    refuse_outside_holders,
)
from landscape.subspace.attached import (
    Attachment,
    attached_model,
    every_site,
    is_attached,
    masked_sites,
    synchronise,
)
from landscape.subspace.beside import is_beside
from landscape.subspace.dense import close_dense, dense_parameters, find_dense, leave_dense
from landscape.subspace.masked import install, refuse_mixture, uninstall
from landscape.subspace.sites import PREFIX, Site


def attach(model: nn.Module, mask: Mask, *, dense: str | Sequence[str] = ()) -> Attachment:
    """Make the weights in a mask the model's only trainable parameters, but for dense ones.

    Each masked tensor W becomes W_0 + S(theta) with theta = 0, a parameter of shape (k_tensor,)
    in float32 (float64 on a float64 base) named ``<module>.theta_<tensor>``. Linear and Conv1D
    weights get sparse gradient kernels; every other tensor (embeddings, norms, biases,
    convolutions) a transient dense gradient. A quantised layer, which shows its sizes and its
    forward but no floating-point weight, computes module(x) + x S(theta)^T. So does a linear layer
    that ``fully_shard`` has sharded (FSDP): attach afterwards, on every process; theta is whole
    on each, and a backward averages its gradient over them. All of it but that average can be
    differentiated twice. The state dict of an attached model holds theta, its indices and the
    pretrained values under it, and loads onto any model with the same mask attached.

    Args:
        model: any module; changed in place.
        mask: a mask made for this model's names and shapes.
        dense: shell patterns of parameters that are trained whole beside the mask, matched against
            their names and those of the modules around them: ``"classifier"`` for a head. They
            stay parameters of the model; `trainable` shows them, with their values, after theta.

    Returns:
        A summary that prints as one line.

    Raises:
        UserError: a mask is attached already; names, shapes or indices do not fit the model; or a
            dense parameter is masked too, or cannot be trained.

    Cost: O(k) memory, and a copy of the dense parameters. Source: Xu & Zhang 2024, section 3.
    """
    checks.model(model)
    checks.has("mask", mask, "a Mask", "indices", "shapes", do="make one, as random_mask")
    if is_attached(model):
        raise UserError("expected a model without a mask, got one that has one; detach or merge it")
    refuse_model(model)
    owners = places(model, mask)
    whole = find_dense(model, dense, mask.indices)
    refuse_other_holders(model, owners)
    refuse_outside_holders(model, owners)
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    model.requires_grad_(False)
    with torch.inference_mode(False), torch.no_grad():
        for name, held_by in owners.items():
            _give_theta(*held_by[0], mask.indices[name])
            site = Site(*held_by[0], beside=is_beside(*held_by[0]))
            for module, leaf in held_by:
                install(module, leaf, site)
    for module in model.modules():
        module.__dict__["_in_masked_model"] = True
    leave_dense(model, whole)
    guard = model.register_load_state_dict_pre_hook(_refuse_other_states)
    attachment = Attachment(mask, flags, guard, {name: p.numel() for name, p in whole.items()})
    model.__dict__["_attachment"] = attachment
    return attachment


def _give_theta(module: nn.Module, leaf: str, indices: Tensor) -> None:
    """Give a module theta = 0 for one of its tensors, the indices and the pretrained values."""
    shown: Any = module._parameters.get(leaf)
    beside = is_beside(module, leaf)
    if shown is None or not shown.is_floating_point():
        device, dtype = _device(module), torch.float32
    else:
        device, dtype = shown.device, torch.promote_types(shown.dtype, torch.float32)
    indices = indices.to(device)
    theta = nn.Parameter(torch.zeros(indices.numel(), dtype=dtype, device=device))
    flat = None if beside else shown.detach().view(-1)
    origin = torch.zeros_like(theta.data) if flat is None else flat[indices].clone()
    if is_sharded(shown):
        theta.register_post_accumulate_grad_hook(partial(_average, shown.device_mesh))
    module.register_parameter(PREFIX + leaf, theta)
    module.register_buffer(f"{PREFIX}{leaf}_indices", indices)
    module.register_buffer(f"{PREFIX}{leaf}_origin", origin)


def _device(module: nn.Module) -> torch.device:
    """Return where a module that shows no weight computes: with whatever tensors it has."""
    held = [*module.parameters(), *module.buffers()]
    return held[0].device if held else torch.device("cpu")


@torch.no_grad()
def _average(mesh: Any, theta: nn.Parameter) -> None:
    """Average the gradient of a replicated theta over the processes that share its weight."""
    assert theta.grad is not None
    torch.distributed.all_reduce(theta.grad, group=mesh.get_group())
    theta.grad.div_(mesh.size())


def _refuse_other_states(model: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Refuse, before anything is loaded, a state whose theta belongs to other weights."""
    for name, module in model.named_modules():
        if "_masked" in module.__dict__:
            refuse_mixture(module, state, f"{prefix}{name}." if name else prefix)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable parameters of a model, by tensor name.

    With a mask attached: masked tensor's name -> theta, shape (k_tensor,), the change of the
    weights on the mask; then those that are trained whole beside it (`attach`'s ``dense``), in
    their own shapes and with their values. Without: name -> every parameter that requires a
    gradient, tied once.

    Raises:
        UserError: the mask was attached before the model was sharded, or modules were replaced
            since.
    """
    checks.model(model)
    if not is_attached(model):
        return {name: p for name, p in model.named_parameters() if p.requires_grad}
    return thetas(model) | dense_parameters(model)


def thetas(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return theta of each masked tensor, by its name, shape (k_tensor,): the weights' change.

    Raises:
        UserError: no mask is attached, or as `trainable`.
    """
    sites = masked_sites(attached_model(model))
    found: dict[str, nn.Parameter] = {name: cast(Any, site.theta) for name, site in sites.items()}
    sharded = [name for name, theta in found.items() if is_sharded(theta)]
    if sharded:
        raise UserError(
            f"expected theta whole on every process, got that of {sharded[0]} sharded with the "
            "weights, which then change without it; shard the model first, then attach the mask"
        )
    frozen = [name for name, theta in found.items() if not theta.requires_grad]
    if 0 < len(frozen) < len(found):
        raise UserError(
            f"expected theta of all masked tensors to be trainable, got a frozen one for "
            f"{frozen[0]}: something has set requires_grad since; set it back, or detach the mask"
        )
    return found


@torch.no_grad()
def detach(model: nn.Module) -> nn.Module:
    """Remove the mask and give the original model back, bit for bit.

    Raises:
        UserError: no mask is attached.
    """
    checks.model(model)
    model = attached_model(model)
    for site in every_site(model):
        if site.flat is not None:
            site.flat[site.indices] = site.origin
    _uninstall(model)  # first: nobody reads a weight that was overwritten under its mask
    close_dense(model, restore=True)
    return model


@torch.no_grad()
def merge(model: nn.Module) -> nn.Module:
    """Add theta into the weights for good and return a plain model; dense parameters stay.

    The result saves with ``save_pretrained``, also when the base came from a GGUF file.

    Raises:
        UserError: no mask is attached, or a masked weight is quantised or sharded.
    """
    checks.model(model)
    model = attached_model(model)
    for name, site in masked_sites(model).items():
        if site.beside:
            raise UserError(
                f"expected whole floating-point weights to merge into, got {name}, which is "
                "quantised or sharded; keep the mask attached and save the delta, or merge into "
                "the model it came from"
            )
    synchronise(model)
    close_dense(model, restore=False)
    _uninstall(model)
    torch.clear_autocast_cache()  # of the pretrained weights, inside a user's autocast
    if getattr(getattr(model, "config", None), "quantization_config", None) is None:
        return model
    rebuilt: nn.Module = plain_model(model)
    return rebuilt


def _uninstall(model: nn.Module) -> nn.Module:
    for module in model.modules():
        module.__dict__.pop("_in_masked_model", None)
        if "_masked" in module.__dict__:
            uninstall(module)
    attachment: Attachment = model.__dict__.pop("_attachment")
    attachment.guard.remove()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(attachment.requires_grad.get(name, False))
        parameter.grad = None
    return model
