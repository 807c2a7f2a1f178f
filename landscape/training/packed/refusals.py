"""What cannot be packed, told in a sentence, so that somebody else can run it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from landscape import checks
from landscape.errors import UserError
from landscape.models.kinds import kind
from landscape.models.tensors import NamedTensor, is_sharded, tensors
from landscape.subspace import is_attached
from landscape.subspace.attachable import unwrapped
from landscape.subspace.dense import find_dense
from landscape.tasks.example import ImageExample
from landscape.training.packed.lane import Lane

#: classes of modules, exactly, -> their parameters in which lanes may differ
PACKED: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("weight", "bias"),
    Conv1D: ("weight", "bias"),
    nn.LayerNorm: ("weight", "bias"),
}


def why_not(model: nn.Module, lane: Lane) -> str | None:
    """Tell why a run cannot be packed with others on a model, in a sentence; None where it can.

    Args:
        model: the frozen one that the lanes share.
        lane: the run.

    Raises:
        UserError: patterns or a mask that do not fit the model: alone the run would fail too.
    """
    if unwrapped(model) is not model:
        return f"the model is wrapped in {type(model).__name__}"
    if is_attached(model):
        return "the model has a mask attached"
    if hasattr(model, "peft_config"):
        return "modules of peft are part of the model"
    if lane.task.kind is ImageExample:
        return "its examples are images, which have no length to sort by"
    masked = dict(lane.mask.indices) if lane.mask is not None else {}
    dense = find_dense(model, lane.dense, masked)
    if not masked and not dense:
        return "it trains nothing"
    held = {tensor.name: tensor for tensor in tensors(model)}
    sharing = _names_of(held)
    for name in (*masked, *dense, *lane.values):
        tensor = held.get(name)
        if tensor is None:
            return f"{name} is no parameter of the model"
        if sharing[tensor.identity] > 1:
            return f"{name} is tied to another tensor"
        if name in masked and name in lane.values:
            return f"{name} is masked, with pretrained values of its own"
        found = _unpackable(tensor, masked=name in masked)
        if found:
            return f"{name} is {found}"
    if has_dropout(model) and (reason := _strange_dropout(model)):
        return reason
    return None


def _names_of(held: Mapping[str, NamedTensor]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for tensor in held.values():
        counts[tensor.identity] = counts.get(tensor.identity, 0) + 1
    return counts


def _unpackable(tensor: NamedTensor, *, masked: bool) -> str | None:
    """Tell what a tensor is, where lanes cannot differ in it."""
    module: Any = tensor.module
    weight = module._parameters.get(tensor.leaf)
    if tensor.quantised or is_sharded(weight):
        return "quantised or sharded"
    if tensor.leaf not in PACKED.get(type(module), ()):
        return f"a {tensor.leaf} of {type(module).__name__}"
    if masked and (tensor.leaf != "weight" or type(module) is nn.LayerNorm):
        return f"a masked {tensor.leaf} of {type(module).__name__}"
    if module._forward_hooks or module._forward_pre_hooks:
        return "in a module with hooks"
    return None


def has_dropout(model: nn.Module) -> bool:
    """Tell whether a model may drop out when it trains, as its modules and configuration say."""
    config: Any = getattr(model, "config", None)
    told = config.to_dict() if hasattr(config, "to_dict") else {}
    numbers = [v for k, v in told.items() if "drop" in k.lower() and isinstance(v, float)]
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            numbers.append(module.p)
        numbers += [
            v for k, v in vars(module).items() if "drop" in k.lower() and isinstance(v, float)
        ]
    return any(number > 0 for number in numbers)


def _strange_dropout(model: nn.Module) -> str | None:
    if kind(model) == "encoder-decoder language model":
        return "the model has dropout over rows of two lengths, an encoder's and a decoder's"
    layers = getattr(getattr(model, "config", None), "layerdrop", 0)
    return "whole layers are dropped at random" if layers else None


def refuse_unpackable(model: nn.Module, lanes: Sequence[Lane]) -> None:
    """Refuse lanes that cannot be packed with each other on a model.

    Raises:
        UserError: there is none, or one cannot, with the reason.
    """
    checks.several("lanes", lanes, "lanes")
    if not lanes:
        checks.refuse("lanes", "at least one lane", "none", "make some with Lane")
    for lane in lanes:
        checks.instance("each lane", lane, Lane, "make one with Lane")
        reason = why_not(model, lane)
        if reason is None and _together(lane) != _together(lanes[0]):
            reason = "lanes of a pack share the kind of examples, the loss and autocast"
        if reason is not None:
            raise UserError(
                f"expected runs that can be packed, got one that cannot, since {reason}; train it "
                "alone with finetune"
            )


def _together(lane: Lane) -> tuple[object, ...]:
    """Return what the lanes of a pack have in common."""
    return lane.task.kind, lane.task.loss, lane.settings.autocast
