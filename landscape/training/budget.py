"""Budgets: how many weights a schedule selects at each step, in all or tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from landscape.errors import UserError
from landscape.masks import budget_density, share
from landscape.training.schedule import Schedule

Counts = Mapping[str, int] | int
"""How many weights of each tensor, or of all of them together."""


class Budget:
    """Say how many weights each step of a run selects.

    Args:
        schedule: the schedule.
        shapes: tensor name -> shape of the target tensors.
        total: parameters of the whole model.
        steps: of the run, T where the schedule names none; it may be set later, before it counts.

    Raises:
        UserError: a budget that the targets cannot hold.
    """

    def __init__(
        self,
        schedule: Schedule,
        shapes: Mapping[str, tuple[int, ...]],
        total: int,
        steps: int | None,
    ) -> None:
        sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
        size, given = sum(sizes.values()), schedule.increments
        self.steps = len(given) if given is not None else schedule.steps or steps
        if given is None:
            forms = (schedule.ratio, schedule.density, schedule.count)
            self.count = round(budget_density(*forms, size, total) * size)
        else:
            self.count = sum(given)
            budget_density(None, None, self.count, size, total)
        self._schedule, self._sizes = schedule, sizes
        self._turns = turns(share(shapes, self.count)) if schedule.scope == "tensor" else None

    def at(self, step: int, held: Mapping[str, int]) -> Counts | None:
        """Return how many weights a step selects; None where it selects none.

        Args:
            step: counted from 0.
            held: tensor name -> how many weights of it the mask has now.

        Raises:
            UserError: neither the schedule nor the run says the number of steps.
        """
        kind, every = self._schedule.kind, self._schedule.every
        if kind == "increment":
            first, last = self._selected_after(step), self._selected_after(step + 1)
            return self._shared(first, last) if last > first else None
        if step == 0 or (kind == "repeat" and step % every == 0):
            return self._shared(0, self.count)
        if kind == "drop_regrow" and step % every == 0 and step < self._horizon():
            return self._exchanged(held)
        return None

    def _selected_after(self, step: int) -> int:
        given = self._schedule.increments
        if given is not None:
            return sum(given[:step])
        return selected_after(self.count, self._horizon(), step)

    def _horizon(self) -> int:
        if self.steps is None:
            raise UserError(
                "expected the number of steps of a schedule, got none in it and none of the run; "
                "give Schedule(steps=) or MovingMask(total_steps=)"
            )
        return self.steps

    def _shared(self, first: int, last: int) -> Counts:
        if self._turns is None:
            return last - first
        counts = np.bincount(self._turns[first:last], minlength=len(self._sizes))
        return {name: int(n) for name, n in zip(self._sizes, counts, strict=True)}

    def _exchanged(self, held: Mapping[str, int]) -> Counts | None:
        """Return how many weights to exchange: never more than there are others."""
        free = {name: self._sizes[name] - k for name, k in held.items()}
        drop = self._schedule.drop
        if self._schedule.scope == "global":
            return min(int(drop * sum(held.values())), sum(free.values())) or None
        counts = {name: min(int(drop * k), free[name]) for name, k in held.items()}
        return counts if any(counts.values()) else None


def selected_after(budget: int, steps: int, step: int) -> int:
    """Return how many weights uniform increments have selected after some steps, at most budget.

    >>> [selected_after(5, 3, t) for t in range(6)]
    [0, 1, 3, 5, 5, 5]
    """
    return budget * min(step, steps) // steps


def turns(quota: Mapping[str, int]) -> np.ndarray:
    """Order the B selections over the tensors, so that every prefix is shared in proportion.

    The j-th weight of a tensor with quota q has its turn at (j + 1/2) / q: counts only grow
    from one prefix to the next, which largest remainders do not promise.

    Args:
        quota: tensor name -> how many of the B selections it has.

    Returns:
        The position of the tensor in `quota` that each selection belongs to, shape (B,).

    >>> turns({"a": 3, "b": 1}).tolist()
    [0, 0, 1, 0]
    """
    at = [(np.arange(q) + 0.5) / max(q, 1) for q in quota.values()]
    tensors = np.repeat(np.arange(len(quota)), list(quota.values()))
    return tensors[np.argsort(np.concatenate(at), kind="stable")]
