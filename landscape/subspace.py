"""The trainable subspace: attach a mask to a model, and the model has k trainable numbers.

A masked tensor holds W_0 + S(theta) in place, so a forward costs what the frozen model costs.
theta, float32 of size k, is the only parameter; O(k) numbers are kept beside the model.
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

from landscape.errors import UserError
from landscape.masks import Mask, is_sharded, tensors
from landscape.models import plain_model
from landscape.sites import (
    PREFIX,
    Site,
    alias_of,
    flat_weight,
    indices_of,
    install,
    origin_of,
    own,
    owns,
    replace_mask,
    synchronise_site,
    theta_of,
    uninstall,
)


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
    if is_attached(model):
        raise UserError("expected a model without a mask, got one that has one; detach or merge it")
    owners = _owners(model, mask)
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    readers = _readers(model)
    model.requires_grad_(False)
    for name, sites in owners.items():
        module, leaf = sites[0]
        weight = flat_weight(module, leaf)
        shown: Any = module._parameters.get(leaf)
        if shown is None or not shown.is_floating_point():
            device, dtype = _device(module), torch.float32
        else:
            device, dtype = shown.device, torch.promote_types(shown.dtype, torch.float32)
        indices = mask.indices[name].to(device)
        theta = nn.Parameter(torch.zeros(indices.numel(), dtype=dtype, device=device))
        origin = torch.zeros_like(theta.data) if weight is None else weight[indices].clone()
        if is_sharded(shown):
            theta.register_post_accumulate_grad_hook(partial(_average, shown.device_mesh))
        own(sites[0], theta, indices, origin)
        for site in sites:
            install(site, sites[0], readers.get(site[0], site[0]))
    guard = model.register_load_state_dict_pre_hook(_refuse_other_masks)
    attachment = Attachment(mask, flags, guard)
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

    Raises:
        UserError: the mask was attached before the model was sharded.
    """
    if is_attached(model):
        thetas = {
            f"{name}.{leaf}" if name else leaf: theta_of(module, leaf)
            for name, module, leaf in _masked_sites(model)
        }
        cut = [name for name, theta in thetas.items() if is_sharded(theta)]
        if cut:
            raise UserError(
                f"theta of {cut[0]} was sharded with the weights, which then change without it; "
                "shard the model first, then attach the mask"
            )
        return thetas
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def masked_origins(model: nn.Module) -> dict[str, Tensor]:
    """Return the pretrained values on the mask, by tensor name, shape (k_tensor,).

    Raises:
        UserError: no mask is attached.
    """
    _require(model)
    sites = _masked_sites(model)
    return {f"{n}.{leaf}" if n else leaf: origin_of(m, leaf) for n, m, leaf in sites}


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
    _require(model)
    for _, module, leaf in _masked_sites(model):
        weight = flat_weight(module, leaf)
        if weight is not None:
            weight[indices_of(module, leaf)] = origin_of(module, leaf)
    return _uninstall(model)


@torch.no_grad()
def merge(model: nn.Module) -> nn.Module:
    """Add theta into the weights for good and return a plain model.

    The result saves with ``save_pretrained``, also when the base came from a GGUF file.

    Raises:
        UserError: no mask is attached, or a masked weight is quantised or sharded.
    """
    for name, module, leaf in _masked_sites(model):
        if flat_weight(module, leaf) is None:
            raise UserError(
                f"expected whole floating-point weights to merge into, got {name}, which is "
                "quantised or sharded; keep the mask attached and save the delta, or merge into "
                "the model it came from"
            )
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
        synchronise_site(module, leaf)


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
        weight, before = flat_weight(module, leaf), indices_of(module, leaf)
        theta = theta_of(module, leaf)
        after = mask.indices[name].to(before.device)
        stays, place = positions(before, after)
        if weight is None:
            fresh = theta.new_zeros(after.numel())
        else:
            weight[before] = origin_of(module, leaf)
            fresh = weight[after].clone()
        grad = theta.grad
        theta.grad = None
        theta.data = _carry(theta.data, stays, place)
        if grad is not None:
            theta.grad = _carry(grad, stays, place)
        replace_mask(module, leaf, after, fresh)
        synchronise_site(module, leaf)
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
        UserError: no mask is attached, or a masked weight is sharded over processes.

    Cost: the gradient products of full fine-tuning of these tensors, and the memory of one.
    """
    _require(model)
    for name, module, leaf in _masked_sites(model):
        if is_sharded(module._parameters.get(leaf)):
            raise UserError(
                f"{name} is sharded over processes, none of which has its whole gradient; make the "
                "mask on one process, and attach it to the sharded model"
            )
    aliases: dict[int, Tensor] = {}
    watched = []
    for name, module, leaf in _masked_sites(model, tied=True):
        theta = theta_of(module, leaf)
        if id(theta) not in aliases:
            path = f"{name}.{leaf}" if name else leaf
            hand_over = partial(_hand_over, receive, path, module, leaf)
            aliases[id(theta)] = alias_of(module, leaf, hand_over)
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
    theta, indices = theta_of(module, leaf), indices_of(module, leaf)
    part = gradient.reshape(-1).index_select(0, indices).to(theta.dtype)
    theta.grad = part if theta.grad is None else theta.grad + part
    receive(name, gradient)


def _uninstall(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if "_masked" in module.__dict__:
            uninstall(module)
    attachment: Attachment = model.__dict__.pop("_attachment")
    attachment.guard.remove()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(attachment.requires_grad.get(name, False))
        parameter.grad = None
    return model


def _refuse_other_masks(model: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Refuse, before anything is loaded, a state whose theta belongs to other weights."""
    for name, module, leaf in _masked_sites(model):
        path = ".".join(filter(None, (prefix + name, f"{PREFIX}{leaf}_indices")))
        stored, held = state.get(path), indices_of(module, leaf)
        if stored is not None and not torch.equal(stored.to(held.device), held):
            raise UserError(
                f"expected the state of a model with this mask, got one with another mask of "
                f"{name or 'the model'}; attach the mask that it was saved with"
            )


def _masked_sites(model: nn.Module, tied: bool = False) -> list[tuple[str, nn.Module, str]]:
    """List (module name, module, tensor leaf) of masked tensors; tied ones once unless asked."""
    return [
        (name, module, leaf)
        for name, module in model.named_modules()
        for leaf in module.__dict__.get("_masked", {})
        if tied or owns(module, leaf)
    ]


def _owners(model: nn.Module, mask: Mask) -> dict[str, list[Site]]:
    """Map each masked tensor to every (module, leaf) that holds it, checking that the mask fits."""
    present = {t.name: t for t in tensors(model)}
    holders: dict[int, list[Site]] = {}
    for tensor in present.values():
        holders.setdefault(tensor.identity, []).append((tensor.module, tensor.leaf))
    owners: dict[str, list[Site]] = {}
    for name, indices in mask.indices.items():
        if name not in present:
            raise UserError(f"the mask names {name}, which this model lacks; make a mask for it")
        tensor = present[name]
        if tensor.shape != tuple(mask.shapes[name]):
            raise UserError(
                f"the mask expects {name} of shape {tuple(mask.shapes[name])}, "
                f"the model has {tensor.shape}; make a mask for this model"
            )
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < tensor.size:
            raise UserError(f"the mask's indices for {name} leave 0..{tensor.size - 1}")
        weight: Any = tensor.module._parameters.get(tensor.leaf)
        if is_sharded(weight) and weight.device_mesh.ndim != 1:
            raise UserError(
                f"{name} is sharded over a mesh of {weight.device_mesh.ndim} dimensions; masks "
                "need one dimension, of data-parallel processes"
            )
        if weight is not None and not tensor.quantised:
            _refuse_storage(name, weight)
        owners[name] = holders[tensor.identity]
    return owners


def _refuse_storage(name: str, weight: Tensor) -> None:
    if is_sharded(weight):
        raise UserError(
            f"{name} is sharded over processes, where only weights of linear layers can be masked; "
            "leave it out of targets"
        )
    if weight.is_meta:
        raise UserError(
            f"{name} is on the meta device and holds no values (not loaded, or offloaded); load "
            "the weights onto a device before a mask is attached"
        )
    if not weight.is_contiguous() or not weight.is_floating_point():
        raise UserError(
            f"{name} must be a contiguous floating-point tensor to be masked, "
            f"got {weight.dtype} with strides {weight.stride()}; load it in full precision"
        )


def _readers(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Find the modules whose weights another module's forward reads."""
    attentions = [m for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
    return {attention.out_proj: attention for attention in attentions}


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


def _require(model: nn.Module) -> None:
    if not is_attached(model):
        raise UserError("expected a model with a mask attached, got one without; call attach first")
