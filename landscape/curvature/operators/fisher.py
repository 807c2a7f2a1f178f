"""The empirical Fisher matrix: the second moment of the gradients of the loss terms."""

from __future__ import annotations

from typing import final

import torch

from landscape.curvature.derivatives.differentiate import checked_sum
from landscape.curvature.operators.jacobian import Composition, JacobianOperator
from landscape.errors import UserError


@final
class FisherOperator(JacobianOperator):
    """The empirical Fisher matrix F = (1/n) sum_i g_i g_i', g_i the gradient of loss term i.

    With J the Jacobian of the vector of loss terms, F = J'J / n: no gradient of a single term is
    formed. A term is an example of a classification task, a token of a language modelling one.
    The labels are the data's. The true Fisher matrix, whose labels are drawn from the model's own
    distribution, is the Gauss-Newton matrix of a cross-entropy on logits: `GGNOperator`.

    Args, errors and cost: see `JacobianOperator`; only the terms of `split` matter, so that
    returning z = terms skips the split. A criterion with class weights is refused: it weighs a
    term once, a squared gradient would twice.

    Source: Kunstner, Balles & Hennig (2019), Limitations of the empirical Fisher approximation,
    equation 3.

    >>> w = torch.nn.Linear(1, 1, bias=False)
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> F = FisherOperator(w, [x], split=lambda m, x: (m(x), lambda z: (z, len(z))))
    >>> (F @ torch.ones(1)).tolist()  # (1^2 + 3^2) / 2
    [5.0]
    """

    @property
    def kind(self) -> str:
        return "empirical fisher"

    def _compose(self, batch: object) -> Composition:
        if getattr(self._objective, "weighted", False):
            raise UserError(
                "expected loss terms of equal weight, got a criterion with class weights; pass "
                "split= with the terms that you mean"
            )
        _, terms, count = self._terms_of(batch)
        if terms.numel() < float(count) * (1 - 1e-6):
            raise UserError(
                f"expected a tensor with every loss term, got {terms.numel()} for {float(count):g} "
                "terms, so that the gradients of single terms are lost in their sum; return the "
                "terms of split unreduced"
            )
        return Composition(
            terms, checked_sum(terms.sum()), count, torch.ones_like(terms), lambda w, _: w
        )
