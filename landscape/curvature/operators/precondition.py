"""The curvature that Adam feels: P^-1/2 H P^-1/2, with P read from the optimizer's live state."""

from __future__ import annotations

from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from landscape.curvature.operators.linear import LinearOperator
from landscape.curvature.operators.model import ModelOperator
from landscape.curvature.stability import (
    coupled_decay,
    reference_rate,
    step_divisor,
    unwrapped,
)
from landscape.errors import UserError


@final
class PreconditionedOperator(LinearOperator):
    """The symmetric matrix S (H + W) S for a diagonal S >= 0 that is read anew at every product.

    Made by `preconditioned`; similar to S^2 (H + W), hence with the same eigenvalues. W is the
    weight decay where it is a part of the gradient (Adam, not AdamW). The eigenvectors y are in
    scaled coordinates: ``S y`` is the direction in the weights.
    """

    def __init__(self, operator: ModelOperator, optimizer: Optimizer) -> None:
        self._operator, self._optimizer = operator, unwrapped(optimizer)
        self.scale()

    @property
    def size(self) -> int:
        return self._operator.size

    @property
    def dtype(self) -> torch.dtype:
        return self._operator.dtype

    @property
    def device(self) -> torch.device:
        return self._operator.device

    @property
    def description(self) -> dict[str, Any]:
        inner = self._operator.description
        return {**inner, "operator": f"preconditioned {inner['operator']}"}

    def scale(self) -> Float[Tensor, " size"]:
        """Return the diagonal of S = P^-1/2 at the optimizer's present state, shape (size,).

        It is 0 where the optimizer has not moved a parameter: one that a schedule froze, one that
        it has just selected, one without a gradient so far.
        """
        groups = self._groups()
        if not any(_has_second(state) for state in self._optimizer.state.values()):
            raise UserError(
                "expected an optimizer of Adam's family that has taken a step, got one without "
                "such a state; take a step first, or use the plain Hessian with another optimizer"
            )
        reference = reference_rate(self._optimizer)
        pieces = []
        for p in self._operator.parameters:
            state = self._optimizer.state.get(p, {})
            whole = torch.zeros(p.numel(), dtype=torch.float64, device=p.device)
            if state:
                moved = state.get("active", slice(None))
                root = _inverse_root(self._optimizer, state, groups[id(p)], reference)
                whole[moved] = root.reshape(-1)
            pieces.append(whole)
        return torch.cat(pieces).to(dtype=self.dtype, device=self.device)

    def _groups(self) -> dict[int, Any]:
        groups = {id(p): group for group in self._optimizer.param_groups for p in group["params"]}
        for name, p in zip(self._operator.names, self._operator.parameters, strict=True):
            if id(p) not in groups:
                raise UserError(
                    f"expected an optimizer of the operator's parameters, got one without {name}; "
                    "pass the optimizer that trains this model"
                )
        return groups

    def _decay(self) -> Tensor:
        """Return the diagonal of W, shape (size,)."""
        groups = self._groups()
        pieces = [
            p.new_full((p.numel(),), coupled_decay(self._optimizer, groups[id(p)]))
            for p in self._operator.parameters
        ]
        return torch.cat(pieces).to(dtype=self.dtype, device=self.device)

    def _push(self, v: Tensor) -> Tensor:
        return self.scale() * v

    def _pull(self, w: Tensor) -> Tensor:
        return self.scale() * w

    def _apply(self, v: Tensor) -> Tensor:
        scaled = self._push(v)
        return self._pull(self._operator._apply(scaled) + self._decay() * scaled)

    def _apply_rows(self, rows: Tensor) -> Tensor:
        scaled = self._push(rows)
        return self._pull(self._operator._apply_rows(scaled) + self._decay() * scaled)

    def _apply_afresh(self, v: Tensor) -> Tensor:
        scaled = self._push(v)
        return self._pull(self._operator._apply_afresh(scaled) + self._decay() * scaled)


def preconditioned(operator: ModelOperator, optimizer: Optimizer) -> PreconditionedOperator:
    """Precondition an operator by the state of the Adam (or kin) that trains its parameters.

        P = (1 - beta1^t) (sqrt(v_t / (1 - beta2^t)) + eps) * (reference lr / group's lr)

    so that a step of Adam is -lr * P^-1 m_t, with m_t the moving average of the gradients. On
    a quadratic with P held fixed it is stable while the largest eigenvalue of P^-1 H is below
    `stability_threshold`, (2 + 2 beta1) / ((1 - beta1) lr). RAdam and Adamax have their own
    second factor, NAdam the first factor that gives it the same threshold; weight decay that is
    not decoupled is added to H. The reference lr is `reference_rate`: the first group's.
    P^-1 H itself is not symmetric; P^-1/2 H P^-1/2 has its eigenvalues.

    Args:
        operator: a Hessian, Gauss-Newton or Fisher operator of a model.
        optimizer: ``torch.optim.Adam``, ``AdamW``, ``NAdam``, ``RAdam`` or ``Adamax`` after at
            least one step; any optimizer that steps as Adam does and whose state has ``step`` (a
            number, or one for each entry), ``exp_avg_sq`` and, with amsgrad, ``max_exp_avg_sq``;
            with `landscape.AdamW` also ``active``, the positions of the entries that a schedule
            lets move. Decoupled weight decay is no part of P.

    Returns:
        An operator of the same size; P is read at every product.

    Raises:
        UserError: the optimizer has another state, no step yet, or other parameters.

    Cost: of the operator, and O(k). Source: Cohen et al. (2022), Adaptive gradient methods at the
    edge of stability, section 2 (P) and equation 4 (threshold).
    """
    return PreconditionedOperator(operator, optimizer)


def _has_second(state: Any) -> bool:
    return "exp_avg_sq" in state or "exp_inf" in state


def _inverse_root(optimizer: Optimizer, state: Any, group: Any, reference: float) -> Tensor:
    """Return P^-1/2 of the entries that have a state, in its shape, in float64."""
    P = step_divisor(optimizer, group, state)
    share = float(group["lr"]) / reference if reference else 1.0
    moved = torch.as_tensor(state["step"]).to(P.device) > 0
    return torch.where(moved, share**0.5 * P.rsqrt(), 0.0)
