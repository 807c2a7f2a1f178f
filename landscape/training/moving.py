"""Moving masks: a schedule applied to a model while anybody's loop trains it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError
from landscape.masks import Mask
from landscape.models.targets import target_shapes
from landscape.models.tensors import is_sharded, num_parameters, tensors
from landscape.selection.best import Best
from landscape.selection.scores import Score, make_score
from landscape.subspace import attach, attached_mask, dense_gradients, move, positions, thetas
from landscape.training.adamw import AdamW
from landscape.training.budget import Budget, Counts
from landscape.training.ranking import Ranking
from landscape.training.schedule import Schedule


class MovingMask:
    """Apply a schedule to a model while it is trained, in any loop.

    >>> from landscape import AdamW, MovingMask, Schedule, trainable
    >>> model = nn.Sequential(nn.Linear(3, 2))
    >>> moving = MovingMask(Schedule("increment", count=4, targets="0"), model, total_steps=2)
    >>> moving.attach()
    >>> optimizer = AdamW(trainable(model).values(), lr=0.1)
    >>> for step in range(2):
    ...     optimizer.zero_grad()
    ...     with moving.step(step, optimizer):
    ...         model(torch.ones(1, 3)).sum().backward()
    ...     optimizer.step()
    ...     print(optimizer.count)
    2
    4

    Args:
        schedule: the schedule.
        model: a model without a mask; `attach` gives it an empty one, which grows and moves.
        total_steps: of the run, the schedule's `steps` where it names none; `steps` may be set
            later, before the first step.

    Raises:
        UserError: a budget that the targets cannot hold, or targets that are sharded.
    """

    def __init__(
        self, schedule: Schedule, model: nn.Module, total_steps: int | None = None
    ) -> None:
        schedule = schedule.on(model)
        shapes = target_shapes(model, schedule.targets)
        total = num_parameters(model)
        self._budget = Budget(schedule, shapes, total, total_steps)
        self._schedule, self._model, self._shapes = schedule, model, shapes
        self._score: Score = make_score(schedule.score, schedule.options)
        present = {tensor.name: tensor for tensor in tensors(model)}
        self._tensors = {name: present[name] for name in shapes}
        for name, tensor in self._tensors.items():
            if is_sharded(tensor.module._parameters.get(tensor.leaf)):
                raise UserError(
                    f"expected whole gradients for a schedule, got {name} sharded over processes; "
                    "make the mask on one process, and attach it to the sharded model"
                )
        empty = {name: torch.empty(0, dtype=torch.int64) for name in shapes}
        self._start = Mask(empty, shapes, total, {**schedule.as_dict(), "kind": schedule.kind})

    @property
    def budget(self) -> int:
        """Return how many weights the schedule selects in all."""
        return self._budget.count

    @property
    def steps(self) -> int | None:
        """Return over how many steps the budget is handed out, None while nobody has said it."""
        return self._budget.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self._budget.steps = checks.whole("steps", steps, least=1)

    def attach(self) -> None:
        """Attach the empty mask that the schedule starts from, and what is dense beside it.

        Raises:
            UserError: the model has a mask, or as `attach`.
        """
        attach(self._model, self._start, dense=self._schedule.dense)

    @contextmanager
    def step(
        self, step: int, optimizer: torch.optim.Optimizer, *, backwards: int = 1
    ) -> Iterator[None]:
        """Wrap the forward and backward of one step; select and move afterwards.

        On leaving, theta has the step's weights, with gradients for all of them (0 for frozen
        ones), and the optimizer's state has followed: clip and update then. One backward serves
        selection and update. A gradient that is not finite selects nothing.

        Args:
            step: counted from 0.
            optimizer: an `AdamW` of this package on `trainable(model)`, or what accelerate has
                made of one.
            backwards: the most backward passes in the step, whose gradients add up: above 1 where
                gradients are accumulated.

        Raises:
            UserError: another optimizer, a backward too many, or none that reached a masked tensor.

        Cost: where the step selects, the gradient products of full fine-tuning of the targets, and
        the memory of one tensor's gradient; with several backwards, of all.
        """
        optimizer = _following(optimizer)
        backwards = checks.whole("backwards", backwards, least=1)
        wanted = self._budget.at(step, {n: i.numel() for n, i in self.indices().items()})
        if wanted is None:
            yield
        else:
            dropped = self._dropped(wanted) if self._replaces(step) else {}
            anew = self._schedule.kind == "repeat"
            ranking = Ranking(
                self._model, self._tensors, self._score, wanted, anew=anew, backwards=backwards
            )
            with dense_gradients(self._model, ranking.receive):
                yield
            chosen = ranking.chosen()
            if chosen is not None:
                self._move(chosen, dropped, optimizer)
        self._freeze(optimizer)

    def go_to(self, indices: Mapping[str, Tensor]) -> None:
        """Move the mask to given indices, as a checkpoint holds them."""
        current = attached_mask(self._model)
        move(self._model, dataclasses.replace(current, indices=dict(indices)))

    def indices(self) -> dict[str, Tensor]:
        """Return the indices of all of theta by tensor name, those that are frozen included."""
        return dict(attached_mask(self._model).indices)

    def _replaces(self, step: int) -> bool:
        return self._schedule.kind == "drop_regrow" and step > 0

    def _dropped(self, counts: Counts) -> dict[str, Tensor]:
        """Return the indices of the weights that moved least; ties: the first."""
        least = Best(counts, list(self._shapes))
        indices = self.indices()
        for name, theta in thetas(self._model).items():
            least.add(name, -theta.detach().abs().cpu(), values=indices[name].cpu())
        return {name: gone for name, (_, gone) in least.chosen().items()}

    @torch.no_grad()
    def _move(
        self,
        chosen: Mapping[str, tuple[Tensor, Tensor]],
        dropped: Mapping[str, Tensor],
        optimizer: AdamW,
    ) -> None:
        own, before = thetas(self._model), self.indices()
        active = {n: _active(optimizer, p, before[n].to(p.device)) for n, p in own.items()}
        after = {}
        for name, held in before.items():
            new = chosen[name][0].to(held.device) if name in chosen else held[:0]
            kept = held[~torch.isin(held, dropped[name].to(held.device))] if dropped else held
            after[name] = torch.cat([kept, new]).unique()
        self.go_to(after)
        for name, theta in own.items():
            here = after[name].to(theta.device)
            if name in chosen:
                new, gradient = (t.to(theta.device) for t in chosen[name])
                if theta.grad is None:
                    theta.grad = torch.zeros_like(theta)
                theta.grad[torch.searchsorted(here, new)] = gradient.to(theta.dtype)
            if self._schedule.kind == "repeat":
                here = chosen[name][0].to(theta.device) if name in chosen else here[:0]
            known, place = positions(active[name], here)
            rows = torch.searchsorted(after[name].to(theta.device), here)
            every = here.numel() == theta.numel()
            optimizer.follow(theta, torch.where(known, place, -1), None if every else rows)

    @torch.no_grad()
    def _freeze(self, optimizer: AdamW) -> None:
        for theta in thetas(self._model).values():
            rows = optimizer.state[theta].get("active")
            if rows is not None and theta.grad is not None:
                kept = torch.zeros_like(theta.grad)
                kept[rows] = theta.grad[rows]
                theta.grad = kept


def _following(optimizer: torch.optim.Optimizer) -> AdamW:
    """Return the optimizer whose state follows, inside what accelerate wraps around it."""
    inner = getattr(optimizer, "optimizer", optimizer)
    if not isinstance(inner, AdamW):
        raise UserError(
            f"expected landscape.AdamW, whose state follows a moving mask, got "
            f"{type(inner).__module__}.{type(inner).__name__}; make one of trainable(model)"
        )
    return inner


def _active(optimizer: AdamW, theta: nn.Parameter, indices: Tensor) -> Tensor:
    rows = optimizer.state[theta].get("active")
    return indices if rows is None else indices[rows]
