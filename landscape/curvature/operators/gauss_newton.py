"""The generalised Gauss-Newton matrix: the Hessian without the curvature of the network itself."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from landscape.curvature.derivatives.differentiate import checked_sum, derivative
from landscape.curvature.operators.jacobian import Composition, JacobianOperator
from landscape.losses import Terms, terms_and_count
from landscape.losses.given import halves


@final
class GGNOperator(JacobianOperator):
    """The generalised Gauss-Newton matrix G = (1/n) sum over batches of J' H_z J.

    J = dz / dtheta is the Jacobian of the model's outputs z, H_z the Hessian of the loss with
    respect to z, n the number of loss terms. G is positive semidefinite where the loss is convex
    in z, and equals the Hessian where z is linear in theta. For cross-entropy on logits it is
    also the Fisher information of the model's own distribution. The two halves of `split` decide
    what G is: let z be such that the loss is convex in it, as in the logits of a cross-entropy.

    Args, errors and cost: see `JacobianOperator`.

    Source: Schraudolph (2002), Fast curvature matrix-vector products.

    >>> w = torch.nn.Linear(2, 1, bias=False)
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> G = GGNOperator(w, [x], split=lambda m, x: (m(x), lambda z: (0.5 * z.square(), len(z))))
    >>> (G @ torch.tensor([1.0, 0.0])).tolist()  # x x'
    [1.0, 2.0]
    """

    @property
    def kind(self) -> str:
        return "gauss-newton"

    def _compose(self, batch: object) -> Composition:
        outputs, loss = halves(self._objective(self._model, batch))
        z = outputs.detach().requires_grad_()
        terms, count = terms_and_count(loss(z))
        value = checked_sum(terms.sum())
        (slope,) = derivative([value], [z])
        slope = torch.zeros_like(z) if slope is None else slope
        point = outputs.detach()
        return Composition(
            outputs, value, count, slope, lambda w, batched: _curved(loss, point, w, batched)
        )


def _curved(loss: Terms, outputs: Tensor, w: Tensor, batched: bool) -> Tensor:
    """Return H_z w, the curvature of the loss in the outputs."""
    z = outputs.clone().requires_grad_()
    (slope,) = derivative([loss(z)[0].sum()], [z], create_graph=True)
    if slope is None or not slope.requires_grad:
        return torch.zeros_like(w)
    (product,) = derivative([slope], [z], given=[w], batched=batched)
    return torch.zeros_like(w) if product is None else product
