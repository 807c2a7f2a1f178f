"""The curvature that AdamW feels: P^-1/2 H P^-1/2, with P read from the optimiser's live state."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from landscape.curvature.batched import BatchedOperator
from landscape.curvature.operators import CongruentOperator
from landscape.errors import UserError


@final
class PreconditionedOperator(CongruentOperator):
    """The symmetric matrix S H S for a diagonal S >= 0 that is read anew at every product.

    Made by `preconditioned`; similar to S^2 H, hence with the same eigenvalues. The eigenvectors
    y are in scaled coordinates: ``S y`` is the direction in the weights.
    """

    def __init__(self, operator: BatchedOperator[Any], optimizer: Optimizer) -> None:
        super().__init__(operator)
        self._source, self._optimizer = operator, optimizer
        self.scale()

    @property
    def size(self) -> int:
        return self._operator.size

    @property
    def description(self) -> dict[str, Any]:
        inner = self._operator.description
        return {**inner, "operator": f"preconditioned {inner['operator']}"}

    def scale(self) -> Tensor:
        """Return the diagonal of S = P^-1/2 at the optimiser's present state, shape (size,).

        It is 0 where the optimiser has not moved a number: one that a schedule froze, one that it
        has just selected, one without a gradient so far.
        """
        groups = {id(p): group for group in self._optimizer.param_groups for p in group["params"]}
        for name, p in zip(self._source.names, self._source.parameters, strict=True):
            if id(p) not in groups:
                raise UserError(
                    f"expected an optimizer of the operator's parameters, got one without {name}; "
                    "pass the optimizer that trains this model"
                )
        if not any("exp_avg_sq" in state for state in self._optimizer.state.values()):
            raise UserError(
                "expected an Adam or AdamW that has taken a step, got an optimizer without such a "
                "state; take a step first, or use the plain Hessian with another optimizer"
            )
        reference = reference_rate(self._optimizer)
        pieces = []
        for p in self._source.parameters:
            state = self._optimizer.state.get(p, {})
            whole = torch.zeros(p.numel(), dtype=torch.float64, device=p.device)
            if state:
                moved = state.get("active", slice(None))
                whole[moved] = _inverse_root(state, groups[id(p)], reference).reshape(-1)
            pieces.append(whole)
        return torch.cat(pieces).to(dtype=self.dtype, device=self.device)

    def _push(self, v: Tensor) -> Tensor:
        return self.scale() * v

    def _pull(self, w: Tensor) -> Tensor:
        return self.scale() * w


def preconditioned(operator: BatchedOperator[Any], optimizer: Optimizer) -> PreconditionedOperator:
    """Precondition an operator by the state of the AdamW (or Adam) that trains its parameters.

        P = (1 - beta1^t) (sqrt(v_t / (1 - beta2^t)) + eps) * (reference rate / group's rate)

    so that a step of Adam is -rate * P^-1 m_t, with m_t the moving average of the gradients. On
    a quadratic with P held fixed it is stable while the largest eigenvalue of P^-1 H is below
    (2 + 2 beta1) / ((1 - beta1) rate). The reference rate is `reference_rate`: the first group's.
    P^-1 H itself is not symmetric; P^-1/2 H P^-1/2 has its eigenvalues.

    Args:
        operator: a Hessian, Gauss-Newton or Fisher operator of a model.
        optimizer: ``torch.optim.Adam`` or ``AdamW`` after at least one step; any optimiser whose
            state has ``step`` (a number, or one for each entry), ``exp_avg_sq`` and, with amsgrad,
            ``max_exp_avg_sq``; with `landscape.AdamW` also ``active``, the positions of the numbers
            that a schedule lets move. Decoupled weight decay is no part of P.

    Returns:
        An operator of the same size; P is read at every product.

    Raises:
        UserError: the optimiser has another state, no step yet, or other parameters.

    Cost: of the operator, and O(k). Source: Cohen et al. (2022), Adaptive gradient methods at the
    edge of stability, section 2 (P) and equation 4 (threshold).
    """
    return PreconditionedOperator(operator, optimizer)


def reference_rate(optimizer: Optimizer) -> float:
    """Return the learning rate of an optimiser's first group, which P is relative to."""
    return float(optimizer.param_groups[0]["lr"])


def stability_threshold(optimizer: Optimizer) -> float:
    """Return the largest eigenvalue of P^-1 H at which Adam is stable on a quadratic.

        (2 + 2 beta1) / ((1 - beta1) rate)

    >>> p = torch.nn.Parameter(torch.zeros(1))
    >>> round(stability_threshold(torch.optim.AdamW([p], lr=0.01, betas=(0.9, 0.99))))
    3800
    """
    beta1 = float(optimizer.param_groups[0]["betas"][0])
    return (2 + 2 * beta1) / ((1 - beta1) * reference_rate(optimizer))


def _inverse_root(state: Any, group: Any, reference: float) -> Tensor:
    """Return P^-1/2 of the numbers that have a state, in its shape, in float64."""
    second = state.get("max_exp_avg_sq", state["exp_avg_sq"])
    beta1, beta2 = group["betas"]
    step = torch.as_tensor(state["step"]).double().to(second.device)
    root = (second.double() / (1 - beta2**step)).sqrt() + group["eps"]
    P = (1 - beta1**step) * root * (reference / float(group["lr"]))
    return torch.where(step > 0, P.rsqrt(), 0.0)
