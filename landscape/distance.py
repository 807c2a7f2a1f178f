"""Distance of a model's trainable numbers to their initialisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.subspace import is_attached, masked_origins, trainable


@dataclass(frozen=True)
class Distance:
    """Hold how far a model moved.

    Args:
        l2: Euclidean norm of the change.
        relative: l2 over the Euclidean norm of the initial values of the trainable numbers.
        linf: largest absolute change.
        per_tensor: tensor name -> Euclidean norm of its change.
    """

    l2: float
    relative: float
    linf: float
    per_tensor: dict[str, float]


@torch.no_grad()
def distance(model: nn.Module, initial: Mapping[str, Tensor] | None = None) -> Distance:
    """Measure ||theta - theta_0||_2 over the trainable numbers, accumulated in float64.

    Args:
        model: a model; with a mask attached, theta itself is the change.
        initial: the initial values by tensor name, for a model without a mask (for example
            ``{name: p.detach().clone() for name, p in trainable(model).items()}``).

    Returns:
        The distance; zero relative distance where the initial values are all zero.

    Raises:
        UserError: there is no mask and no `initial`, or `initial` lacks a tensor.

    Cost: O(k). Source: Xu & Zhang 2024, figure 4c.
    """
    values = trainable(model)
    if is_attached(model):
        start = masked_origins(model)
        change = {name: p.detach().double() for name, p in values.items()}
    elif initial is None:
        raise UserError(
            "expected a model with a mask, or initial=: the values to measure from; got neither"
        )
    else:
        missing = sorted(set(values) - set(initial))
        if missing:
            raise UserError(f"initial lacks {missing[0]} and {len(missing) - 1} more; add them")
        start = {name: initial[name] for name in values}
        change = {name: p.detach().double() - start[name].double() for name, p in values.items()}
    squares = {name: float(d.square().sum()) for name, d in change.items()}
    l2 = sum(squares.values()) ** 0.5
    origin = sum(float(s.double().square().sum()) for s in start.values()) ** 0.5
    linf = max((float(d.abs().max()) for d in change.values() if d.numel()), default=0.0)
    per_tensor = {name: square**0.5 for name, square in squares.items()}
    return Distance(l2, l2 / origin if origin else 0.0, linf, per_tensor)
