"""Checkpoint coordinates: where a model's weights lie in the files that `save_pretrained` writes.

They are not those of the modules. Some names differ (those of a ViT's layers), a tied tensor is
stored once, under one of its names, and what transformers joins when it reads (the experts of a
mixture) is several tensors there, what it splits one. Layouts are the modules' own otherwise: a
Conv1D of GPT-2 is stored (inputs, outputs).

transformers itself is asked for the way back: by tensors without values where it only renames, and
by tensors that hold their own positions where it also joins or splits.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from landscape.errors import UserError
from landscape.models.tensors import tensors
from landscape.subspace.attached import attached_model

_MISFITS = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError)
"""What transformers raises at a part of what it converts together."""


@dataclass(frozen=True)
class Place:
    """Say where some weights of a model's tensor are in a tensor of its checkpoint.

    Args:
        shape: of the checkpoint's tensor.
        indices: their flat indices in it, sorted, shape (k,).
        order: which of the weights they are, shape (k,).
    """

    shape: tuple[int, ...]
    indices: Int64[Tensor, " k"]
    order: Int64[Tensor, " k"]


def saved_model(model: nn.Module) -> PreTrainedModel:
    """Return the attached model of transformers, whose checkpoints hold what it computes with.

    Raises:
        UserError: no mask is attached, another kind of model, or weights that are quantised,
            sharded, or not in memory.
    """
    held: Any = attached_model(model)
    if not isinstance(held, PreTrainedModel):
        raise UserError(
            f"expected a model of transformers, whose save_pretrained names what a checkpoint "
            f"holds, got a {type(held).__name__}; use save_delta"
        )
    packed = next((tensor.name for tensor in tensors(held) if tensor.quantised), None)
    if packed is not None:
        raise UserError(
            f"expected a checkpoint of whole floating-point weights, got {packed}, which is "
            "quantised or sharded; load the model it came from and apply the delta there"
        )
    absent = next((name for name, p in held.named_parameters() if p.is_meta), None)
    if absent is not None:
        raise UserError(
            f"expected weights in memory, got {absent} without values: it was left on a disk or a "
            "meta device; load the whole model"
        )
    return held


def saved_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return what a checkpoint is made of: the state dict with W_0 + S(theta), less theta.

    Names are the modules'; a tied tensor is there once. Nothing is copied.

    Raises:
        UserError: tensors share memory in a way that transformers does not save.
    """
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    ignored = model._keys_to_ignore_on_save or ()
    state: dict[str, Tensor] = {
        name: value
        for name, value in model.state_dict().items()
        if not name.rpartition(".")[2].startswith("theta_") and name not in ignored
    }
    try:
        kept: dict[str, Tensor] = remove_tied_weights_from_state_dict(state, model)
    except RuntimeError as error:
        raise UserError(
            f"expected a model that save_pretrained can save, got one it refuses: "
            f"{str(error).splitlines()[0]}; use save_delta"
        ) from error
    return kept


def checkpoint_places(
    model: PreTrainedModel, indices: Mapping[str, Int64[Tensor, " _"]]
) -> dict[str, dict[str, Place]]:
    """Find weights in the checkpoint that `save_pretrained` writes of a model.

    Args:
        model: an attached model, as `saved_model` returns it.
        indices: tensor name -> sorted flat indices, shape (k_tensor,).

    Returns:
        Tensor name -> name of a checkpoint's tensor -> the weights that are there; one, unless
        transformers joins several when it reads them.

    Raises:
        UserError: the base was read from a quantised file, the checkpoint lacks a tensor, or its
            numbers are not those of the model in another arrangement.

    Cost: none of a tensor that keeps its layout; of another, 16 bytes for each of its entries and
    of those that it is converted with.
    """
    if getattr(model.config, "quantization_config", None) is not None:
        raise UserError(
            "expected a base whose checkpoint is what save_pretrained writes, got one read from a "
            "quantised file, such as GGUF; export it as a merged model, or save the base with "
            "save_pretrained, load that and apply the delta there"
        )
    stored = {name: value.shape for name, value in saved_state(model).items()}
    alias = _aliases(model, stored)
    probe = {name: torch.empty(shape, device="meta") for name, shape in stored.items()}
    names = {id(tensor): name for name, tensor in probe.items()}
    written = _reverted(model, probe)
    kept = {names[id(t)]: name for name, t in written.items() if id(t) in names}
    shapes = {name: tuple(t.shape) for name, t in written.items()}
    found: dict[str, dict[str, Place]] = {}
    for name, flat in indices.items():
        own = alias.get(name)
        if own is None:
            raise UserError(
                f"expected tensors that a checkpoint of this model holds, got {name}, which "
                "save_pretrained leaves out; use save_delta, or a mask over others"
            )
        if own in kept:
            order = torch.arange(flat.numel())
            found[name] = {kept[own]: Place(shapes[kept[own]], flat.cpu().long(), order)}
        else:
            rest = [other for other in stored if other not in kept]
            found[name] = _converted(model, own, flat.cpu().long(), rest, stored, shapes)
    return found


def _aliases(model: nn.Module, stored: Collection[str]) -> dict[str, str]:
    """Return the name under which a checkpoint's state holds each tensor, tied ones included."""
    listed = list(tensors(model))
    first = {tensor.identity: tensor.name for tensor in listed if tensor.name in stored}
    return {t.name: first[t.identity] for t in listed if t.identity in first}


def _reverted(model: PreTrainedModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    from transformers.core_model_loading import revert_weight_conversion

    back: dict[str, Tensor] = revert_weight_conversion(model, dict(state))
    return back


def _converted(
    model: PreTrainedModel,
    name: str,
    wanted: Tensor,
    rest: Collection[str],
    sizes: Mapping[str, tuple[int, ...]],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Place]:
    """Find weights of a tensor that is converted, by converting positions in its place."""
    for group in _groups(name, rest):
        starts, total = {}, 0
        for other in group:
            starts[other], total = total, total + math.prod(sizes[other])
        ids = {n: torch.arange(math.prod(sizes[n])).view(sizes[n]) + starts[n] for n in group}
        try:
            out = _reverted(model, ids)
        except _MISFITS:
            continue
        written = {other: tuple(tensor.shape) for other, tensor in out.items()}
        if written.items() <= shapes.items() and _moves(out, total):
            return dict(_places(out, wanted + starts[name]))
    raise UserError(
        f"expected numbers of {name} that a checkpoint of {type(model).__name__} holds in some "
        "arrangement, got others: transformers computes them when it reads; use save_delta"
    )


def _groups(name: str, rest: Collection[str]) -> Iterator[list[str]]:
    """Yield a tensor alone, then with those of its module, then of the module around that."""
    yield [name]
    inside = name
    for _ in range(2):
        inside = inside.rpartition(".")[0]
        yield [other for other in rest if other.startswith(f"{inside}.")]


def _moves(out: Mapping[str, Tensor], total: int) -> bool:
    """Tell whether every position is there once: the conversion moves numbers, and no more."""
    found = torch.cat([tensor.reshape(-1) for tensor in out.values()]).sort().values
    return found.numel() == total and bool((found == torch.arange(total)).all())


def _places(out: Mapping[str, Tensor], wanted: Tensor) -> Iterator[tuple[str, Place]]:
    for name, tensor in out.items():
        flat = tensor.reshape(-1)
        here = torch.isin(flat, wanted).nonzero().view(-1)
        if here.numel():
            yield name, Place(tuple(tensor.shape), here, torch.searchsorted(wanted, flat[here]))
