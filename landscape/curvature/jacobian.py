"""Products with the Jacobian of a model's outputs, both ways, by reverse differentiation only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from landscape.curvature.batched import Pieces
from landscape.curvature.differentiate import derivative, refuse_cut_graph

Terms: TypeAlias = Callable[[Tensor], tuple[Tensor, float]]
"""A loss of outputs z: z -> (loss terms of any shape, their number, absent ones being zero)."""

Split: TypeAlias = Callable[[Any, Any], tuple[Tensor, Terms]]
"""A loss in two halves: (model, batch) -> (outputs z of any shape, the loss of z)."""


@dataclass(frozen=True)
class Jacobian:
    """Hold J = dz / dtheta at one point, for any number of products.

    J v comes from the double-backward identity: g(u) = J'u is linear in u, and the derivative of
    <g(u), v> by u is J v. It needs no forward mode, which custom functions seldom have.
    """

    outputs: Tensor
    """z, with its graph."""
    parameters: Sequence[Tensor]
    """theta."""
    probe: Tensor
    """u, a placeholder: no product depends on its value."""
    pulled: dict[int, Tensor]
    """g(u) = J'u by parameter number, with its graph."""

    def forward(self, pieces: Sequence[Tensor], *, batched: bool) -> Tensor:
        """Return J v, in the shape of the outputs; one more dimension in front if batched."""
        (product,) = derivative(
            list(self.pulled.values()),
            [self.probe],
            given=[pieces[number] for number in self.pulled],
            retain=True,
            batched=batched,
        )
        if product is None:
            shape = (len(pieces[0]),) * batched + self.outputs.shape
            return self.outputs.new_zeros(shape)
        return product

    def backward(self, w: Tensor, *, retain: bool, batched: bool) -> Pieces:
        """Return J'w, one piece a parameter."""
        return derivative(
            [self.outputs], self.parameters, given=[w], retain=retain, batched=batched
        )


def jacobian(outputs: Tensor, parameters: Sequence[Tensor]) -> Jacobian:
    """Prepare products with the Jacobian of outputs that still have their graph.

    Raises:
        UserError: a function with one derivative only took part.
    """
    probe = torch.zeros_like(outputs, requires_grad=True)
    pieces = derivative([outputs], parameters, given=[probe], create_graph=True)
    pulled = {n: g for n, g in enumerate(pieces) if g is not None and g.requires_grad}
    refuse_cut_graph(list(pulled.values()))
    return Jacobian(outputs, parameters, probe, pulled)


def default_split() -> Split:
    """Return the split of `landscape.task_loss`."""
    from landscape.scoring import task_split

    split: Split = task_split
    return split
