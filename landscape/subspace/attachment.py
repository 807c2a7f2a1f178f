"""The trainable subspace: attach a mask to a model, and the model has k trainable numbers.

Whoever looks at a masked tensor finds W_0 + S(theta): a forward, another module, a state dict, a
copy. It is held in place, so a forward costs what the frozen model costs. theta, float32 of size
k, is the only parameter; O(k) numbers are kept beside the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from landscape import checks
from landscape.errors import UserError
from landscape.masks import Mask
from landscape.models import plain_model
from landscape.models.tensors import is_sharded, tensors
from landscape.subspace.attachable import (
    places,
    refuse_model,
    refuse_other_holders,
    refuse_outside_holders,
    unwrapped,
)
from landscape.subspace.masked import install, refuse_mixture, uninstall
from landscape.subspace.sites import PREFIX, Site, alias_of, is_beside


@dataclass(frozen=True)
class Attachment:
    """Describe what `attach` did: the mask, and the flags to restore."""

    mask: Mask
    requires_grad: dict[str, bool]
    guard: RemovableHandle = field(repr=False)

    def __str__(self) -> str:
        return self.mask.summary()


def attach(model: nn.Module, mask: Mask) -> Attachment:
    """Make the weights in a mask the model's only trainable numbers.

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

    Returns:
        A summary that prints as one line.

    Raises:
        UserError: a mask is attached already, or names, shapes or indices do not fit the model.

    Cost: O(k) memory. Source: Xu & Zhang 2024, section 3.
    """
    checks.model(model)
    checks.has("mask", mask, "a Mask", "indices", "shapes", do="make one, as random_mask")
    if is_attached(model):
        raise UserError("expected a model without a mask, got one that has one; detach or merge it")
    refuse_model(model)
    owners = places(model, mask)
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
    guard = model.register_load_state_dict_pre_hook(_refuse_other_states)
    attachment = Attachment(mask, flags, guard)
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


def is_attached(model: nn.Module) -> bool:
    """Tell whether a mask is attached to this model, or to the one that torch has wrapped in it."""
    return "_attachment" in unwrapped(model).__dict__


def attached_mask(model: nn.Module) -> Mask:
    """Return the mask that is attached to a model.

    Raises:
        UserError: no mask is attached.
    """
    attachment: Attachment = _attached(model).__dict__["_attachment"]
    return attachment.mask


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable numbers of a model, by tensor name.

    With a mask attached: masked tensor's name -> theta, shape (k_tensor,), the change of the
    weights on the mask. Without: name -> every parameter that requires a gradient, tied once.

    Raises:
        UserError: the mask was attached before the model was sharded.
    """
    checks.model(model)
    if not is_attached(model):
        return {name: p for name, p in model.named_parameters() if p.requires_grad}
    sites = _sites(_attached(model))
    thetas: dict[str, Any] = {name: site.theta for name, site in sites.items()}
    cut = [name for name, theta in thetas.items() if is_sharded(theta)]
    if cut:
        raise UserError(
            f"theta of {cut[0]} was sharded with the weights, which then change without it; "
            "shard the model first, then attach the mask"
        )
    frozen = [name for name, theta in thetas.items() if not theta.requires_grad]
    if 0 < len(frozen) < len(thetas):
        raise UserError(
            f"expected theta of all masked tensors to be trainable, got a frozen one for "
            f"{frozen[0]}: something has set requires_grad since; set it back, or detach the mask"
        )
    return thetas


def masked_origins(model: nn.Module) -> dict[str, Tensor]:
    """Return the pretrained values on the mask, by tensor name, shape (k_tensor,).

    Raises:
        UserError: no mask is attached.
    """
    return {name: site.origin for name, site in _sites(_attached(model)).items()}


def theta_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the part of an attached model's state dict that is theta and its indices.

    It loads, not strictly, onto any model with the same mask attached, and is refused elsewhere.

    Raises:
        UserError: no mask is attached.
    """
    state = {}
    for path, module in _attached(model).named_modules():
        for leaf, site in module.__dict__.get("_masked", {}).items():
            if site.owner is module and site.leaf == leaf:
                name = f"{path}.{PREFIX}{leaf}" if path else PREFIX + leaf
                state[name] = site.theta.detach().clone()
                state[f"{name}_indices"] = site.indices.clone()
    return state


@torch.no_grad()
def pretrained(model: nn.Module, indices: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a base model stores at flat indices, whatever its mask has changed of it.

    Pretrained values, in the tensor's type, on cpu. A quantised weight shows none: in their place
    numbers of its packed storage, which also tell two base models apart.

    Args:
        model: a model, with or without a mask.
        indices: tensor name -> sorted flat indices, shape (k_tensor,).

    Cost: O(k log k).
    """
    held = {tensor.name: tensor for tensor in tensors(model)}
    changed = masked_origins(model) if is_attached(model) else {}
    found = {}
    for name, flat in indices.items():
        values = held[name].stored(flat)
        if name in changed and not held[name].quantised:
            both, place = positions(attached_mask(model).indices[name].cpu(), flat.cpu())
            values[both] = changed[name].cpu()[place[both]]
        found[name] = values
    return found


@torch.no_grad()
def detach(model: nn.Module) -> nn.Module:
    """Remove the mask and give the original model back, bit for bit.

    Raises:
        UserError: no mask is attached.
    """
    checks.model(model)
    model = _attached(model)
    for site in _every_site(model):
        if site.flat is not None:
            site.flat[site.indices] = site.origin
    return _uninstall(model)


@torch.no_grad()
def merge(model: nn.Module) -> nn.Module:
    """Add theta into the weights for good and return a plain model.

    The result saves with ``save_pretrained``, also when the base came from a GGUF file.

    Raises:
        UserError: no mask is attached, or a masked weight is quantised or sharded.
    """
    checks.model(model)
    model = _attached(model)
    for name, site in _sites(model).items():
        if site.beside:
            raise UserError(
                f"expected whole floating-point weights to merge into, got {name}, which is "
                "quantised or sharded; keep the mask attached and save the delta, or merge into "
                "the model it came from"
            )
    synchronise(model)
    _uninstall(model)
    torch.clear_autocast_cache()  # of the pretrained weights, inside a user's autocast
    if getattr(getattr(model, "config", None), "quantization_config", None) is None:
        return model
    rebuilt: nn.Module = plain_model(model)
    return rebuilt


@torch.no_grad()
def synchronise(model: nn.Module) -> None:
    """Write W_0 + S(theta) into every masked tensor, as every look at one does for its own.

    Only a tensor's memory, read past its module (``data_ptr``, another process), needs it.
    """
    for site in _every_site(_attached(model)):
        site.synchronise()


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
    model = _attached(model)
    if places(model, mask).keys() != attached_mask(model).indices.keys():
        raise UserError("expected a mask of the same tensors as the attached one; detach it first")
    for name, site in _sites(model).items():
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


def refuse_unseen_readers(model: nn.Module, loss: Callable[[], Tensor]) -> Tensor:
    """Compute a loss, and refuse one that reads a masked weight past its mask.

    There theta misses its gradient: in a penalty on ``model.parameters()``, which are the stored
    tensors, or in a function that kept one of them before the mask was attached.

    Args:
        model: the model; one without a mask passes.
        loss: computes the loss, with its graph.

    Returns:
        The loss.

    Raises:
        UserError: with the tensor's name.

    Cost: a walk over the loss's graph.
    """
    if not is_attached(model):
        return loss()
    stored = {s.weight: n for n, s in _sites(_attached(model)).items() if not s.beside}
    try:
        for weight in stored:
            weight.requires_grad_(True)
        value = loss()
    finally:
        for weight in stored:
            weight.requires_grad_(False)
    waiting, visited = [value.grad_fn], set()
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        name = stored.get(getattr(node, "variable", None))
        if name is not None:
            raise UserError(
                f"expected the loss to read {name} as its module's attribute, got one that reads "
                "the stored tensor, which gives theta no gradient; use trainable(model), or the "
                "attribute"
            )
        waiting += [following for following, _ in node.next_functions]
    return value


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
        UserError: no mask is attached, or a masked weight is sharded over processes.

    Cost: the gradient products of full fine-tuning of these tensors, and the memory of one.
    """
    sites = _sites(_attached(model))
    for name, site in sites.items():
        if is_sharded(site.weight):
            raise UserError(
                f"{name} is sharded over processes, none of which has its whole gradient; make the "
                "mask on one process, and attach it to the sharded model"
            )
    for name, site in sites.items():
        site.watched = alias_of(site, partial(_hand_over, receive, name, site))
    try:
        yield
    finally:
        for site in sites.values():
            site.watched = None


@torch.no_grad()
def _hand_over(
    receive: Callable[[str, Tensor], None], name: str, site: Site, alias: Tensor
) -> None:
    gradient, alias.grad = alias.grad, None
    assert gradient is not None
    if gradient.is_sparse:
        gradient = gradient.to_dense()
    theta = site.theta
    part = gradient.reshape(-1).index_select(0, site.indices).to(theta.dtype)
    theta.grad = part if theta.grad is None else theta.grad + part
    receive(name, gradient)


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


def _refuse_other_states(model: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Refuse, before anything is loaded, a state whose theta belongs to other weights."""
    for name, module in model.named_modules():
        if "_masked" in module.__dict__:
            refuse_mixture(module, state, f"{prefix}{name}." if name else prefix)


def _sites(model: nn.Module) -> dict[str, Site]:
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


def _every_site(model: nn.Module) -> set[Site]:
    """Return the masked tensors of a model, wherever its modules are now."""
    return {s for m in model.modules() for s in m.__dict__.get("_masked", {}).values()}


def _attached(model: nn.Module) -> nn.Module:
    """Return the model that a mask is attached to: this one, or the one that torch has wrapped."""
    if not is_attached(model):
        raise UserError("expected a model with a mask attached, got one without; call attach first")
    return unwrapped(model)


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
