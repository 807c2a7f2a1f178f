"""The core of a training loop: steps of an optimizer on the mean loss of batches of any kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from landscape.losses import Loss, default_loss
from landscape.subspace import refuse_unseen_readers, trainable
from landscape.subspace.attachable import unwrapped
from landscape.training.baselines import method_of
from landscape.training.processes import Processes
from landscape.training.updates import Record, Updates


class Loop(Updates):
    """Take steps on the mean loss of batches; it knows of no task, folder or file.

        g = grad (sum_i S_i / sum_i n_i),       (S_i, n_i) = loss(model, batch_i)

    over the batches i of a step, in all processes: several small batches give the gradient of the
    one large batch, however many loss terms each has. A loss or gradient that is not finite, or a
    loss beyond the ceiling, ends the loop as diverged without an update.

    Args:
        model: with trainable parameters; in the mode, training or evaluation, that it is in. It may
            be wrapped by ``torch.compile`` or ``DistributedDataParallel``.
        optimizer: of the trainable parameters.
        loss: (model, batch) -> (sum over the loss terms, their number).
        lr_schedule: stepped after every update; None for a constant learning rate.
        max_gradient_norm: Euclidean norm to which gradients are clipped, ``math.inf`` for none;
            None does not compute the norm.
        ceiling: the loop has diverged at a loss above this many times its first; None for never.
        autocast: whether losses are computed in bfloat16 where torch's autocast says so.

    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> _ = torch.nn.init.constant_(model.weight, 4.0)
    >>> def half_square(model, x): return model(x).square().sum() / 2, len(x)
    >>> loop = Loop(model, torch.optim.SGD(model.parameters(), lr=0.5), half_square)
    >>> [round(record["loss"], 3) for record in loop.over([torch.ones(2, 1)] * 3)]
    [8.0, 2.0, 0.5]
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss: Loss = default_loss,
        *,
        lr_schedule: LRScheduler | None = None,
        max_gradient_norm: float | None = None,
        ceiling: float | None = None,
        autocast: bool = False,
    ) -> None:
        super().__init__(
            list(trainable(unwrapped(model)).values()), optimizer, lr_schedule=lr_schedule,
            max_gradient_norm=max_gradient_norm, ceiling=ceiling,
            method=method_of(unwrapped(model)),
        )  # fmt: skip
        self.model, self._loss, self._autocast = model, loss, autocast
        self._processes = Processes.of(model)

    def over(self, batches: Iterable[object]) -> Iterator[Record]:
        """Take a step on each batch until they end or the loop has diverged."""
        for batch in batches:
            yield self.step([batch])
            if self.diverged:
                return

    def step(self, batches: Sequence[object]) -> Record:
        """Take one step on the mean loss of some batches.

        Args:
            batches: at least one; this process's share, where there are several processes.

        Returns:
            ``loss`` (before the step), ``gradient_norm`` (before clipping, where it is computed),
            ``step`` and, with a schedule, ``lr``.
        """
        return self.update(self.gradient(batches))

    def gradient(
        self,
        batches: Sequence[object],
        *,
        counted: bool = True,
        inside: AbstractContextManager[None] | None = None,
    ) -> float:
        """Put the gradient of the mean loss of some batches into the parameters; return the loss.

        Args:
            batches: as for `step`.
            counted: False in a process that has no rows left in this step: it runs any batch with
                weight 0, so that collective operations match.
            inside: entered for the forwards and backwards: a mask that moves.
        """
        self.clear()
        with inside or nullcontext():
            if len(batches) == 1 and self._processes.count == 1:
                total, count = self._sum(batches[0])
                mean = total / count
                (mean + self._method.penalty()).backward()
                return float(mean.detach())
            loss, terms = self._accumulate(batches, float(counted))
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad /= terms / self._processes.count  # they were averaged over those
        penalty = self._method.penalty()
        if isinstance(penalty, Tensor):
            penalty.backward()
        return loss / terms

    def _precision(self) -> AbstractContextManager[Any]:
        if not self._autocast:
            return nullcontext()  # inside a user's own autocast, too
        return torch.autocast(self._parameters[0].device.type, torch.bfloat16)

    def _sum(self, batch: object) -> tuple[Tensor, float]:
        count = 0.0

        def total() -> Tensor:
            nonlocal count
            with self._precision():
                value, count = self._loss(self.model, batch)
            return value

        inner = unwrapped(self.model)
        if self.taken:
            return total(), count
        if inner is self.model:
            return refuse_unseen_readers(inner, total), count
        with torch.random.fork_rng():  # a forward of its own: graphs of wrappers show no tensors
            refuse_unseen_readers(inner, lambda: self._loss(inner, batch)[0])
        return total(), count

    def _accumulate(self, batches: Sequence[object], weight: float) -> tuple[float, float]:
        """Add up the gradients of the sums; return the sum of the losses and of their terms."""
        loss, terms = 0.0, 0.0
        for i, batch in enumerate(batches):
            with self._processes.accumulating(last=i == len(batches) - 1):
                total, count = self._sum(batch)
                (total if weight else total * weight).backward()
            loss, terms = loss + float(total.detach()) * weight, terms + float(count) * weight
        loss, terms = self._processes.total(loss, terms)
        return loss, terms
