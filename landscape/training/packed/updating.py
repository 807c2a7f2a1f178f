"""The AdamW steps of all lanes of a stack at once."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from landscape.training.packed.course import Course
from landscape.training.packed.stacked import Stack

_MOMENTS = ("exp_avg", "exp_avg_sq")
_OTHERWISE = ("amsgrad", "maximize", "capturable", "differentiable", "fused")


def is_stacked(course: Course) -> bool:
    """Tell whether `StackedAdamW` updates a lane: torch's AdamW of masked weights alone."""
    optimizer = course.updates.optimizer
    plain = type(optimizer) is torch.optim.AdamW and len(optimizer.param_groups) == 1
    if not plain or course.dense or not course.masked:
        return False
    return not any(optimizer.param_groups[0].get(name) for name in _OTHERWISE)


class StackedAdamW:
    """Update the rows of a stack as ``torch.optim.AdamW`` does, each with its lane's settings.

    Every lane's optimizer keeps its state: its moments are views of what is held here.

    Args:
        stack: bound to its lanes.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        courses = list(stack.courses.values())
        self._own = [is_stacked(course) for course in courses]
        self._steps: list[Tensor] = []
        moments: dict[str, list[list[Tensor]]] = {key: [] for key in _MOMENTS}
        for course, own in zip(courses, self._own, strict=True):
            held = course.updates.optimizer.state
            thetas = [weight.theta for weight in course.masked.values()] if own else []
            known = [held.get(theta) or {} for theta in thetas]
            self._steps.append(_step_of(known))
            for key in _MOMENTS:
                pairs = zip(thetas, known, strict=True)
                moments[key].append([one.get(key, torch.zeros_like(t)) for t, one in pairs])
        self._mean, self._square = (stack.rows(moments[key]) for key in _MOMENTS)
        for i, (course, own) in enumerate(zip(courses, self._own, strict=True)):
            thetas = [weight.theta for weight in course.masked.values()] if own else []
            means = stack.views(thetas, self._mean[i])
            squares = stack.views(thetas, self._square[i])
            for theta, mean, square in zip(thetas, means, squares, strict=True):
                course.updates.optimizer.state[theta] = {
                    "step": self._steps[i], "exp_avg": mean, "exp_avg_sq": square
                }  # fmt: skip

    def release(self) -> None:
        """Give every lane's optimizer a state of its own, to be copied; this is not used on."""
        for course, own in zip(self._stack.courses.values(), self._own, strict=True):
            for weight in course.masked.values() if own else ():
                state = course.updates.optimizer.state[weight.theta]
                state.update({key: value.clone() for key, value in state.items()})

    @torch.no_grad()
    def step(self, norms: Tensor, fine: Mapping[int, bool]) -> None:
        """Clip each lane's gradient and update it.

        Args:
            norms: of the gradients, (R,).
            fine: lane -> whether it is updated; those that are not stay as they are.
        """
        stack = self._stack
        courses = list(stack.courses.items())
        taking = [own and fine[lane] for (lane, _), own in zip(courses, self._own, strict=True)]
        left = [i for i, takes in enumerate(taking) if not takes]
        for step, takes in zip(self._steps, taking, strict=True):
            step += int(takes)
        theta, mean, square = stack.theta, self._mean, self._square
        kept = [(held, held[left].clone()) for held in (theta, mean, square) if left]
        settings = [
            _settings(course, max(1, int(step)))
            for (_, course), step in zip(courses, self._steps, strict=True)
        ]
        made = torch.tensor(settings, dtype=torch.float64).to(theta.device, theta.dtype)
        most, decay, rest1, beta2, rest2, rate, root, eps = made.split(1, 1)
        scale = (most / (norms.unsqueeze(1) + 1e-6)).clamp(max=1.0)
        gradient = stack.gradient * scale
        mean.lerp_(gradient, rest1.expand_as(mean))
        square.mul_(beta2).add_(gradient.square_().mul_(rest2))
        below = square.sqrt().div_(root).add_(eps)
        theta.mul_(decay).sub_((mean * rate).div_(below))
        for held, before in kept:
            held[left] = before


def _step_of(states: list[dict[str, Tensor]]) -> Tensor:
    """Return the steps that were taken, as torch's optimizers hold them: one tensor for all."""
    if states and "step" in states[0]:
        return states[0]["step"].clone()
    wide = torch.get_default_dtype() == torch.float64
    return torch.tensor(0.0, dtype=torch.float64 if wide else torch.float32)


def _settings(course: Course, step: int) -> tuple[float, ...]:
    """Return what a lane's update needs: clipping norm, 1 - lr decay, and of AdamW's formula."""
    group, most = course.updates.optimizer.param_groups[0], course.lane.settings.max_gradient_norm
    if "betas" not in group:  # another optimizer, which takes its steps itself
        return (1.0,) * 8
    (beta1, beta2), lr = group["betas"], group["lr"]
    first, second = 1 - beta1**step, 1 - beta2**step
    decay = 1 - lr * group["weight_decay"]
    return most, decay, 1 - beta1, beta2, 1 - beta2, lr / first, math.sqrt(second), group["eps"]
