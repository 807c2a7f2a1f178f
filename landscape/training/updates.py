"""Updates of parameters from their gradients: clipped, stepped, told, and ended by divergence."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from landscape.errors import UserError
from landscape.training.adamw import AdamW
from landscape.training.baselines import Method, Stateless

Record = dict[str, Any]
"""What a step did: its number, counted from 1, the loss before it, and more."""


class Updates:
    """Update parameters from the gradients that they hold, whoever computed them.

    A loss or gradient that is not finite, or a loss beyond the ceiling, ends the updates as
    diverged; the parameters stay as they are then.

    Args:
        parameters: all that are trained, at least one entry of them.
        optimizer: of the parameters.
        lr_schedule: stepped after every update; None for a constant learning rate.
        max_gradient_norm: Euclidean norm to which gradients are clipped, ``math.inf`` for none;
            None does not compute the norm.
        ceiling: diverged at a loss above this many times the first; None for never.
        method: that the model was made with.

    Raises:
        UserError: there is no parameter.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        optimizer: Optimizer,
        *,
        lr_schedule: LRScheduler | None = None,
        max_gradient_norm: float | None = None,
        ceiling: float | None = None,
        method: Method | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.taken = 0
        """Steps taken so far."""
        self.diverged = False
        self._lr_schedule, self._max_norm, self._ceiling = lr_schedule, max_gradient_norm, ceiling
        self._first_loss: float | None = None
        self._parameters = list(parameters)
        refuse_nothing(len(self._parameters))
        self._method = method or Stateless()

    def clear(self) -> None:
        """Begin a step: without gradients, and at the point where they are to be taken."""
        if hasattr(self.optimizer, "train"):  # schedule-free
            self.optimizer.train()
        self.optimizer.zero_grad(set_to_none=True)

    def update(self, loss: float) -> Record:
        """Clip the gradients and step, unless the loop has diverged."""
        norm = None
        if self._max_norm is not None:
            norm = float(nn.utils.clip_grad_norm_(self._parameters, self._max_norm))
        if self.is_fine(loss, norm):
            self.optimizer.step()
        return self.note(loss, norm)

    def is_fine(self, loss: float, norm: float | None) -> bool:
        """Tell whether a step of such a loss and gradient norm is to be taken."""
        fine = math.isfinite(loss) and (norm is None or math.isfinite(norm))
        if self._ceiling is not None:
            first = loss if self._first_loss is None else self._first_loss
            fine = fine and loss <= self._ceiling * first
        return fine

    def note(self, loss: float, norm: float | None) -> Record:
        """Count a step that was taken, where it `is_fine`; return its record."""
        record: Record = {"loss": loss}
        fine = self.is_fine(loss, norm)
        self._first_loss = loss if self._first_loss is None else self._first_loss
        if norm is not None:
            record["gradient_norm"] = norm
        lr = self.optimizer.param_groups[0]["lr"]
        if fine:
            if self._lr_schedule is not None:
                self._lr_schedule.step()
            torch.clear_autocast_cache()  # of weights as they were, inside a user's autocast
        self.diverged = not fine
        self._method.step(self.taken)
        if isinstance(self.optimizer, AdamW):
            record["updated"] = self.optimizer.count
        self.taken += 1
        record["step"] = self.taken
        if self._lr_schedule is not None:
            record["lr"] = lr
        return record

    @contextmanager
    def judged(self) -> Iterator[None]:
        """Hold the parameters that are to be evaluated; then restore those that train.

        Schedule-free optimizers take gradients at one point and give another, an average, as their
        result: inside, the model has the average. With all others it stays as it is.
        """
        optimizer: Any = self.optimizer
        if not hasattr(optimizer, "eval"):
            yield
            return
        before = [p.detach().clone() for p in self._parameters]
        optimizer.eval()
        try:
            yield
        finally:
            optimizer.train()
            with torch.no_grad():  # there and back is not exact
                for parameter, value in zip(self._parameters, before, strict=True):
                    parameter.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all but the parameters: steps taken, optimizer, schedule, method."""
        schedule = None if self._lr_schedule is None else self._lr_schedule.state_dict()
        state = {
            "taken": self.taken, "diverged": self.diverged, "first_loss": self._first_loss,
            "optimizer": self.optimizer.state_dict(), "lr_schedule": schedule,
            "method": self._method.state_dict(),
        }  # fmt: skip
        return copy.deepcopy(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a state; the parameters are there already."""
        state = copy.deepcopy(dict(state))
        self.taken, self.diverged = state["taken"], state["diverged"]
        self._first_loss = state["first_loss"]
        saved, groups = state["optimizer"], self.optimizer.param_groups
        for mine, other in zip(groups, saved["param_groups"], strict=True):  # JSON has no tuples
            pairs = {k: tuple(v) for k, v in other.items() if isinstance(mine.get(k), tuple)}
            other.update(pairs)
        saved["state"] = {int(i): values for i, values in saved["state"].items()}
        self.optimizer.load_state_dict(saved)
        if self._lr_schedule is not None:
            self._lr_schedule.load_state_dict(state["lr_schedule"])
        self._method.load_state_dict(state["method"])


def refuse_nothing(count: int) -> None:
    """Refuse a model without trainable parameters.

    Raises:
        UserError: their number is 0.
    """
    if not count:
        raise UserError(
            "expected a model with trainable parameters, got none; attach a mask first, of one "
            "weight at least, or take a method of landscape.baselines"
        )
