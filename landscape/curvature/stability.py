"""Where gradient descent with an optimizer turns unstable, and what it divides a step by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam

from landscape.errors import UserError
from landscape.training.adamw import AdamW as MaskedAdamW

Family: TypeAlias = Literal["sgd", "adam", "nadam", "radam", "adamax"]
"""Optimizers whose step on a quadratic is known here."""

Group: TypeAlias = dict[str, Any]
"""One of an optimizer's ``param_groups``: its learning rate, momentum, decay."""
State: TypeAlias = dict[str, Any]
"""An optimizer's state of one parameter: its step and moments."""

_FAMILIES: tuple[tuple[Any, Family], ...] = (
    (SGD, "sgd"), (NAdam, "nadam"), (RAdam, "radam"), (Adamax, "adamax"),
    ((Adam, AdamW, MaskedAdamW), "adam"),
)  # fmt: skip


def family(optimizer: Optimizer) -> Family:
    """Tell the family of an optimizer, whose threshold is one number for all its groups.

    Raises:
        UserError: it is of another kind, ascends, or its groups differ in what the threshold
            needs: momentum, and for SGD the learning rate.
    """
    optimizer = unwrapped(optimizer)
    known = next((name for kind, name in _FAMILIES if isinstance(optimizer, kind)), None)
    if known is None:
        raise UserError(
            "expected SGD, Adam, AdamW, NAdam, RAdam or Adamax of torch, or landscape.AdamW, whose "
            f"threshold of stability is known, got {type(optimizer).__name__}; measure its "
            "sharpness by itself (lanczos of a HessianOperator)"
        )
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise UserError(
            "expected an optimizer that descends, got one with maximize=True; minimise the "
            "negative instead"
        )
    shared = ("lr", "momentum", "dampening", "nesterov") if known == "sgd" else ("betas",)
    for key in shared:
        values = {_first(group[key]) for group in optimizer.param_groups if group["params"]}
        if len(values) > 1:
            raise UserError(
                f"expected groups of one {key} for one threshold of stability, got "
                f"{sorted(values)}; measure each group with an operator of its own (parameters=)"
            )
    return known


def unwrapped(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer inside what a trainer wraps around it."""
    inner = getattr(optimizer, "optimizer", None)
    return unwrapped(inner) if isinstance(inner, Optimizer) else optimizer


def reference_rate(optimizer: Optimizer) -> float:
    """Return the learning rate that P is relative to: the first that is not zero, else zero."""
    lrs = (float(group["lr"]) for group in optimizer.param_groups)
    return next((lr for lr in lrs if lr), 0.0)


def stability_threshold(optimizer: Optimizer) -> float:
    """Return the largest eigenvalue at which an optimizer is stable on a quadratic.

    With learning rate r, momentum b and weight decay w, of the Hessian H for SGD:

        2 (1 + b) / (r (1 - dampening)) - w,    with Nesterov 2 (1 + b) / (r (1 + 2 b)) - w

    of P^-1 H for Adam's family (see `preconditioned`), P held fixed: with b = beta1 and, where
    weight decay is decoupled from the gradient, w, else 0,

        (1 + b) (2 - r w) / (r (1 - b))

    Where groups differ in their weight decay the largest is taken. Infinite while the learning
    rate is 0.

    Raises:
        UserError: an optimizer of another kind, or groups that differ in momentum.

    Source: both are the condition that the roots of z^2 - trace z + det are inside the unit
    circle, trace + det > -1; Cohen et al. (2021) section 2, (2022) equation 4 for w = 0.

    >>> p = torch.nn.Parameter(torch.zeros(1))
    >>> round(stability_threshold(torch.optim.AdamW([p], lr=0.01, betas=(0.9, 0.99))))
    3800
    >>> round(stability_threshold(torch.optim.SGD([p], lr=0.1, momentum=0.9)), 6)
    38.0
    """
    kind, optimizer = family(optimizer), unwrapped(optimizer)
    group, lr = optimizer.param_groups[0], reference_rate(optimizer)
    if lr == 0:
        return float("inf")
    if kind == "sgd":
        b = float(group["momentum"])
        w = max(float(g["weight_decay"]) for g in optimizer.param_groups)
        # the first buffer is the gradient itself: without momentum there is no dampening
        share = 1 + 2 * b if group["nesterov"] else 1 - float(group["dampening"]) * bool(b)
        return 2 * (1 + b) / (lr * share) - w
    b = float(group["betas"][0])
    w = max(float(g["weight_decay"]) for g in _decoupled(optimizer))
    return (1 + b) * (2 - lr * w) / ((1 - b) * lr)


def coupled_decay(optimizer: Optimizer, group: Group) -> float:
    """Return the weight decay that is a part of the gradient, and so of the curvature."""
    adaptive = isinstance(optimizer, Adam | NAdam | RAdam | Adamax)
    return float(group["weight_decay"]) if adaptive and not _is_decoupled(optimizer, group) else 0.0


def step_divisor(optimizer: Optimizer, group: Group, state: State) -> Tensor:
    """Return P of the entries that have a state, in its shape, in float64, for equal rates.

    P is such that stability is the same condition for every member of the family. For all but
    NAdam a step is -lr P^-1 m_t with m_t the moving average of the gradients.
    """
    beta1, beta2 = (float(b) for b in group["betas"])
    held = state["exp_inf"] if "exp_inf" in state else state["exp_avg_sq"]
    # landscape.AdamW with shared ages corrects every entry by the steps of its group
    step = torch.as_tensor(group.get("taken", state["step"])).double().to(held.device)
    warm, clear = 1 - beta1**step, 1 - beta2**step
    second = torch.as_tensor(state.get("max_exp_avg_sq", held)).double()
    if isinstance(optimizer, Adamax):
        return warm * second
    if isinstance(optimizer, RAdam):
        return warm * _rectified(second.sqrt() + group["eps"], clear, beta2, step)
    root = (second / clear).sqrt() + group["eps"]
    if isinstance(optimizer, NAdam):
        return _nesterov_share(group, state, beta1, float(step)) * root
    return warm * root


def _rectified(root: Tensor, clear: Tensor, beta2: float, step: Tensor) -> Tensor:
    """Return RAdam's divisor: 1 in its first steps, then Adam's over the rectification."""
    limit = 2 / (1 - beta2) - 1
    length = limit - 2 * step * beta2**step / clear
    grown = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
    early = torch.ones_like(root)
    return torch.where(length > 5, root / (grown.clamp(min=0) * clear).sqrt(), early)


def _nesterov_share(group: Group, state: State, beta1: float, step: float) -> float:
    """Return (1 - b) / ((1 + b) a + (1 - b) c) for NAdam's step -lr (a g + c m)."""
    decay = float(group["momentum_decay"])
    now, following = (beta1 * (1 - 0.5 * 0.96 ** (t * decay)) for t in (step, step + 1))
    reached = float(state["mu_product"])
    a, c = (1 - now) / (1 - reached), following / (1 - reached * following)
    return (1 - beta1) / ((1 + beta1) * a + (1 - beta1) * c)


def _decoupled(optimizer: Optimizer) -> Iterable[Any]:
    groups = [g for g in optimizer.param_groups if _is_decoupled(optimizer, g)]
    return groups or [{"weight_decay": 0.0}]


def _is_decoupled(optimizer: Optimizer, group: Group) -> bool:
    return isinstance(optimizer, AdamW | MaskedAdamW) or bool(group.get("decoupled_weight_decay"))


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, tuple | list) else value)
