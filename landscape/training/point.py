"""Points: values of the trainable parameters, with the mask they belong to where it moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from landscape.subspace import is_attached, synchronise, trainable
from landscape.training.baselines import method_of
from landscape.training.moving import MovingMask

Point = dict[str, Tensor]
"""Tensor name -> values of its trainable parameters, and ``<name>.indices`` of a moving mask."""


def point(parameters: Mapping[str, nn.Parameter], moving: MovingMask | None = None) -> Point:
    """Copy the trainable parameters and, where the mask moves, its indices."""
    found = {name: p.detach().clone() for name, p in parameters.items()}
    if moving is not None:
        found |= {f"{name}.indices": i.clone() for name, i in moving.indices().items()}
    return found


def is_point_of(
    parameters: Mapping[str, nn.Parameter], there: Mapping[str, Tensor], moving: MovingMask | None
) -> bool:
    """Tell whether a point has the names and shapes of these parameters.

    Where the mask moves, the names alone: shapes change with it.
    """
    if moving is not None:
        return there.keys() == {*parameters, *(f"{name}.indices" for name in moving.indices())}
    shapes = {name: p.shape for name, p in parameters.items()}
    return {name: value.shape for name, value in there.items()} == shapes


@torch.no_grad()
def go_to(
    parameters: Mapping[str, nn.Parameter],
    there: Mapping[str, Tensor],
    moving: MovingMask | None = None,
) -> None:
    """Give the model the parameters of a point, and the mask they belong to."""
    if moving is not None:
        moving.go_to({name: there[f"{name}.indices"] for name in moving.indices()})
    for name, parameter in parameters.items():
        parameter.copy_(there[name])


def way_back(model: nn.Module) -> Callable[[], None]:
    """Return what brings a model back to where it is now, its method's state included.

    The mask that is attached then is still to be the same: one that a schedule moves is not.

    Cost: a copy of the trainable parameters.
    """
    start, method = point(trainable(model)), method_of(model).state_dict()

    def go_back() -> None:
        go_to(trainable(model), start)
        method_of(model).load_state_dict(method)
        if is_attached(model):
            synchronise(model)

    return go_back


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """Bring a model back to where it was if what is done inside fails or is interrupted.

    The same call then finds the model that it was first called with.
    """
    go_back = way_back(model)
    try:
        yield
    except BaseException:
        go_back()
        raise
