"""Operators J'CJ of a model's outputs, from products with the Jacobian J both ways."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor, nn

from landscape.curvature.derivatives.differentiate import (
    Linearised,
    checked_sum,
    derivative,
    refuse_single_derivatives,
)
from landscape.curvature.derivatives.layers import refuse_wrong_functions
from landscape.curvature.derivatives.modes import tangent
from landscape.curvature.derivatives.space import Pieces
from landscape.curvature.operators.batched import BatchedOperator
from landscape.losses import Split, as_split, terms_and_count
from landscape.losses.given import halves

Curve: TypeAlias = Callable[[Tensor, bool], Tensor]
"""(w, whether w has one more dimension in front) -> C w, symmetric."""


@dataclass(frozen=True)
class Composition:
    """Hold a batch's loss as a function of some outputs z of the model."""

    outputs: Tensor
    """z, with its graph."""
    value: Tensor
    """The loss sum."""
    count: float
    """The number of loss terms."""
    slope: Tensor
    """The derivative of the loss sum by z."""
    curve: Curve
    """The product with C."""


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
    refuse_single_derivatives(list(pulled.values()))
    refuse_wrong_functions(outputs)
    return Jacobian(outputs, parameters, probe, pulled)


class JacobianOperator(BatchedOperator[tuple[Jacobian, Curve]]):
    """A matrix (1/n) sum over batches of J'CJ; a subclass says what J is of, and what C is.

    Args:
        model, batches, parameters, keep_graph, memory_budget, batch_statistics: see
            `BatchedOperator`.
        split: (model, batch) -> (z, loss of z), and loss of z: z -> (terms, number of terms);
            default `task_split`, or for a dict batch with ``labels`` the logits and the model's
            own cross-entropy. It may say ``in_batch``, as the loss of a `HessianOperator`.
        loss: a criterion such as ``torch.nn.CrossEntropyLoss()`` instead, a function of the
            model's outputs; batches are then (inputs, targets).

    Raises:
        UserError: as `BatchedOperator`.

    Cost: a product is about one gradient with the graph kept, 3 without.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[object],
        *,
        split: Split | nn.Module | None = None,
        loss: nn.Module | Callable[..., Tensor] | None = None,
        parameters: Sequence[Tensor] | None = None,
        keep_graph: bool | Literal["auto"] = "auto",
        memory_budget: int | None = None,
        batch_statistics: bool | None = None,
    ) -> None:
        super().__init__(
            model, batches, as_split(split, loss), parameters=parameters, keep_graph=keep_graph,
            memory_budget=memory_budget, batch_statistics=batch_statistics,
        )  # fmt: skip

    @abstractmethod
    def _compose(self, batch: object) -> Composition:
        """Return the loss of a batch as a function of the outputs that J is the Jacobian of."""

    @final
    def _terms_of(self, batch: object) -> tuple[Tensor, Tensor, float]:
        """Return the outputs, the loss terms and their number."""
        outputs, loss = halves(self._objective(self._model, batch))
        terms, count = terms_and_count(loss(outputs))
        return outputs, terms, count

    @final
    def _evaluate(self, batch: object) -> tuple[Tensor, float]:
        _, terms, count = self._terms_of(batch)
        return checked_sum(terms.sum()), count

    @final
    def _linearise(
        self, batch: object, parameters: Sequence[Tensor], *, curved: bool
    ) -> Linearised[tuple[Jacobian, Curve]]:
        whole = self._compose(batch)
        pieces = derivative([whole.outputs], parameters, given=[whole.slope], retain=curved)
        graph = (jacobian(whole.outputs, parameters), whole.curve) if curved else None
        return Linearised(float(whole.value.detach()), float(whole.count), pieces, graph)

    @final
    def _multiply(
        self,
        graph: tuple[Jacobian, Curve],
        pieces: list[Tensor],
        *,
        retain: bool,
        batched: bool,
    ) -> Pieces:
        J, curve = graph
        w = J.forward(pieces, batched=batched)
        return J.backward(curve(w, batched), retain=retain, batched=batched)

    @final
    def _multiply_forward(self, batch: object, duals: Sequence[Tensor]) -> tuple[Pieces, float]:
        whole = self._compose(batch)
        w = tangent(whole.outputs)
        if w is None:
            return [None] * len(duals), float(whole.count)
        given = whole.curve(w.detach(), False)
        # with a graph: torch's backward of SiLU without one has no forward mode
        pieces = derivative([whole.outputs], duals, given=[given], create_graph=True)
        return pieces, float(whole.count)
