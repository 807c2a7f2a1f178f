"""The AdamW steps of all lanes of a stack at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from landscape.training.adamw import AdamW
from landscape.training.packed.course import Course
from landscape.training.packed.stacked import Stack

_STATE = ("exp_avg", "exp_avg_sq", "step")


def is_stacked(course: Course) -> bool:
    """Tell whether `StackedAdamW` updates a lane: AdamW of masked weights alone."""
    groups = course.updates.optimizer.param_groups
    own = type(course.updates.optimizer) is AdamW and "taken" not in groups[0]
    return own and len(groups) == 1 and not course.dense and bool(course.masked)


class StackedAdamW:
    """Update the rows of a stack by `landscape.training.AdamW`'s formula, each as its own settings.

    Every lane's optimizer keeps its state, as views of what is held here.

    Args:
        stack: bound to its lanes.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        courses = list(stack.courses.values())
        self._own = [is_stacked(course) for course in courses]
        state: list[dict[str, list[Tensor]]] = []
        for course, own in zip(courses, self._own, strict=True):
            held = course.updates.optimizer.state if own else {}
            rows: dict[str, list[Tensor]] = {key: [] for key in _STATE}
            for weight in course.masked.values():
                known = held.get(weight.theta) or {}
                for key in _STATE:
                    rows[key].append(known.get(key, torch.zeros_like(weight.theta)).detach())
            state.append(rows)
        self._state = {key: stack.rows([rows[key] for rows in state]) for key in _STATE}
        for i, (course, own) in enumerate(zip(courses, self._own, strict=True)):
            thetas = [weight.theta for weight in course.masked.values()] if own else []
            views = [stack.views(thetas, self._state[key][i]) for key in _STATE]
            for theta, *values in zip(thetas, *views, strict=True):
                course.updates.optimizer.state[theta] = dict(zip(_STATE, values, strict=True))
        self._known: tuple[list[tuple[float, ...]], Tensor] | None = None

    def release(self) -> None:
        """Give every lane's optimizer a state of its own, to be copied; these are not used on."""
        for course, own in zip(self._stack.courses.values(), self._own, strict=True):
            for weight in course.masked.values() if own else ():
                held = course.updates.optimizer.state[weight.theta]
                held.update({key: held[key].clone() for key in _STATE})

    @torch.no_grad()
    def step(self, norms: Tensor, fine: Mapping[int, bool]) -> None:
        """Clip each lane's gradient and update it.

        Args:
            norms: of the gradients, (R,).
            fine: lane -> whether it is updated; those that are not stay as they are.
        """
        stack = self._stack
        courses = list(stack.courses.values())
        left = [
            i
            for i, (lane, own) in enumerate(zip(stack.courses, self._own, strict=True))
            if not (own and fine[lane])
        ]
        if len(left) == len(courses):
            return
        theta, mean, square, age = stack.theta, *self._state.values()
        kept = [(held, held[left].clone()) for held in (theta, mean, square, age) if left]
        rates = self._columns([_settings(course) for course in courses])
        most, lr, decay, one1, log1, beta2, one2, log2, eps = rates.split(1, 1)
        scale = (most / (norms.unsqueeze(1) + 1e-6)).clamp(max=1.0)
        gradient = stack.gradient * scale
        age += 1
        mean.lerp_(gradient, one1.expand_as(mean))
        square.mul_(beta2).add_(gradient.square_().mul_(one2))
        ages = age[:, :1]
        second = -torch.expm1(ages * log2)
        first = -torch.expm1(ages * log1)
        below = (square / second).sqrt_().add_(eps)
        theta.mul_(decay)
        theta.sub_((mean * (lr / first)).div_(below))
        for held, before in kept:
            held[left] = before

    def _columns(self, settings: list[tuple[float, ...]]) -> Tensor:
        """Return settings of the lanes as (R, settings), made when they change."""
        if self._known is None or self._known[0] != settings:
            theta = self._stack.theta
            made = torch.tensor(settings, dtype=torch.float64).to(theta.device, theta.dtype)
            self._known = settings, made
        return self._known[1]


def _settings(course: Course) -> tuple[float, ...]:
    group, settings = course.updates.optimizer.param_groups[0], course.lane.settings
    (beta1, beta2), lr = group["betas"], group["lr"]
    most = settings.max_gradient_norm
    logs: Sequence[float] = [math.log(beta) if beta else -math.inf for beta in (beta1, beta2)]
    decay = 1 - lr * group["weight_decay"]
    return most, lr, decay, 1 - beta1, logs[0], beta2, 1 - beta2, logs[1], group["eps"]
