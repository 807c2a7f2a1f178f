"""Schedules: when a fine-tuning run selects weights, and how many."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError
from landscape.masks import Mask, budget_density, share
from landscape.models.targets import QUERY_VALUE, target_shapes
from landscape.models.tensors import is_sharded, num_parameters, tensors
from landscape.selection.best import Best
from landscape.selection.scores import Score, make_score
from landscape.subspace import (
    attach,
    attached_mask,
    dense_gradients,
    move,
    positions,
    trainable,
)
from landscape.training.adamw import AdamW

Kind = Literal["static", "increment", "repeat", "drop_regrow"]


@dataclass(frozen=True)
class Schedule:
    """Say how a run selects the weights that it trains, by the gradients of its own batches.

    "static" selects the whole budget B at the first step. "increment" adds u_t weights at step t,
    the best of those not selected yet, and keeps all: B after `steps` steps, whatever follows.
    "repeat" selects B weights anew; those that drop out keep their trained values, frozen.
    "drop_regrow" selects B, then again and again gives back the `drop` share that moved least
    (their pretrained values return) and selects as many others, until step `steps`.
    Newly selected weights start with fresh moments.

    Args:
        kind: "static", "increment", "repeat" or "drop_regrow".
        score: a score of weights or of the batch's gradient, as for `select_mask`.
        options: of the score, such as {"eps": 1.0, "exp": 0.0} for id3.
        ratio, density, count: the budget B, exactly one; none where `increments` says it.
        targets: shell patterns, as for `random_mask`.
        scope: "global" as in the paper, or "tensor", in proportion to the tensors' sizes.
        steps: T, over how many steps the budget is handed out; None is the whole run.
        increments: u_1 .. u_T for "increment"; None is uniform, round-robin where T does not
            divide B.
        every: steps between selections of "repeat" and "drop_regrow".
        drop: share of the selected weights that "drop_regrow" gives back.

    Raises:
        UserError: an unknown kind or score, or settings that contradict each other.

    Source: Agarwal et al. 2024 (ID3), section 3; Evci et al. 2020 and Ansell et al. 2024 (drop
    and regrow).
    """

    kind: Kind
    score: str = "gradient"
    options: Mapping[str, Any] = field(default_factory=dict)
    ratio: float | None = None
    density: float | None = None
    count: int | None = None
    targets: str | Sequence[str] = QUERY_VALUE
    scope: Literal["tensor", "global"] = "global"
    steps: int | None = None
    increments: Sequence[int] | None = None
    every: int = 1
    drop: float = 0.3

    def __post_init__(self) -> None:
        kinds = ("static", "increment", "repeat", "drop_regrow")
        checks.choice("kind", self.kind, kinds)
        checks.text("score", self.score)
        if make_score(self.score, self.options).source not in ("weights", "gradient"):
            raise UserError(
                f"a schedule scores by weights and the batch's gradient, got {self.score}; "
                "use select_mask with it and attach the mask"
            )
        if self.scope not in ("tensor", "global"):
            raise UserError(f"scope is 'tensor' or 'global', got {self.scope!r}")
        plain: dict[str, Any] = {"every": checks.whole("every", self.every, least=1)}
        if self.steps is not None:
            plain["steps"] = checks.whole("steps", self.steps, least=1)
        if self.count is not None:
            plain["count"] = checks.whole("count", self.count, least=1)
        plain["drop"] = checks.number("drop", self.drop, above=0, below=1)
        for name, value in plain.items():  # numpy's numbers become plain ones, as JSON has them
            object.__setattr__(self, name, value)
        if self.increments is not None:
            budgets = (self.ratio, self.density, self.count, self.steps)
            if self.kind != "increment" or any(b is not None for b in budgets):
                raise UserError(
                    "increments are for kind 'increment' and say the budget and the steps "
                    "themselves; leave out ratio, density, count and steps"
                )
            if min(self.increments, default=-1) < 0:
                raise UserError(
                    f"increments must be numbers of weights, at least 0, got {self.increments}"
                )

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain numbers, texts and lists."""
        plain = dataclasses.asdict(self) | {"options": dict(self.options)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


def selected_after(budget: int, steps: int, step: int) -> int:
    """Return how many weights uniform increments have selected after some steps, at most budget.

    >>> [selected_after(5, 3, t) for t in range(6)]
    [0, 1, 3, 5, 5, 5]
    """
    return budget * min(step, steps) // steps


class MovingMask:
    """Apply a schedule to a model while it is trained.

    Args:
        schedule: the schedule.
        model: a model without a mask; `attach` gives it an empty one, which grows and moves.
        total_steps: of the run, the schedule's `steps` where it names none.

    Raises:
        UserError: a budget that the targets cannot hold, or targets that are sharded.
    """

    def __init__(self, schedule: Schedule, model: nn.Module, total_steps: int) -> None:
        shapes = target_shapes(model, schedule.targets)
        size = sum(int(np.prod(shape)) for shape in shapes.values())
        total = num_parameters(model)
        given = schedule.increments
        self.steps = len(given) if given is not None else schedule.steps or total_steps
        if given is None:
            budgets = (schedule.ratio, schedule.density, schedule.count)
            self.budget = round(budget_density(*budgets, size, total) * size)
        else:
            self.budget = sum(given)
            budget_density(None, None, self.budget, size, total)
        self._schedule, self._model, self._shapes = schedule, model, shapes
        self._score: Score = make_score(schedule.score, schedule.options)
        self._tensors = {t.name: t for t in tensors(model) if t.name in shapes}
        for name, tensor in self._tensors.items():
            if is_sharded(tensor.module._parameters.get(tensor.leaf)):
                raise UserError(
                    f"a schedule needs whole gradients, and {name} is sharded over processes; "
                    "make the mask on one process, and attach it to the sharded model"
                )
        self._turns = _turns(share(shapes, self.budget)) if schedule.scope == "tensor" else None
        empty = {name: torch.empty(0, dtype=torch.int64) for name in shapes}
        self._start = Mask(empty, shapes, total, {**schedule.as_dict(), "kind": schedule.kind})

    def attach(self) -> None:
        """Attach the empty mask that the schedule starts from.

        Raises:
            UserError: the model has a mask.
        """
        attach(self._model, self._start)

    @contextmanager
    def step(self, step: int, optimizer: AdamW) -> Iterator[None]:
        """Wrap the forward and backward of one step, counted from 0; select and move afterwards.

        On leaving, theta has the step's numbers, with gradients for all of them (0 for frozen
        ones), and the optimizer's state has followed. One backward serves selection and update.
        A gradient that is not finite selects nothing.
        """
        wanted = self._wanted(step)
        if wanted is None:
            yield
        else:
            dropped = self._dropped(wanted) if self._replaces(step) else {}
            best = Best(wanted, list(self._shapes))
            finite: dict[str, bool] = {}
            with dense_gradients(self._model, lambda n, g: self._receive(best, finite, n, g)):
                yield
            for name in self._shapes.keys() - finite.keys():  # the loss does not use this tensor
                theta = trainable(self._model)[name]
                self._receive(best, finite, name, theta.new_zeros(self._shapes[name]))
            if all(finite.values()):
                self._move(best.chosen(), dropped, optimizer)
        self._freeze(optimizer)

    def go_to(self, indices: Mapping[str, Tensor]) -> None:
        """Move the mask to given indices, as a checkpoint holds them."""
        current = attached_mask(self._model)
        move(self._model, dataclasses.replace(current, indices=dict(indices)))

    def indices(self) -> dict[str, Tensor]:
        """Return the indices of all numbers in theta, those that are frozen included."""
        return dict(attached_mask(self._model).indices)

    def _replaces(self, step: int) -> bool:
        return self._schedule.kind == "drop_regrow" and step > 0

    def _wanted(self, step: int) -> dict[str, int] | int | None:
        """Return how many weights a step selects, in all or by tensor; None when none."""
        schedule, budget = self._schedule, self.budget
        if schedule.kind == "increment":
            first, last = self._selected_after(step), self._selected_after(step + 1)
            return self._split(first, last) if last > first else None
        if step == 0 or (schedule.kind == "repeat" and step % schedule.every == 0):
            return self._split(0, budget)
        if schedule.kind == "drop_regrow" and step % schedule.every == 0 and step < self.steps:
            return self._given_back()
        return None

    def _selected_after(self, step: int) -> int:
        given = self._schedule.increments
        if given is not None:
            return sum(given[:step])
        return selected_after(self.budget, self.steps, step)

    def _split(self, first: int, last: int) -> dict[str, int] | int:
        if self._turns is None:
            return last - first
        counts = np.bincount(self._turns[first:last], minlength=len(self._shapes))
        return {name: int(n) for name, n in zip(self._shapes, counts, strict=True)}

    def _given_back(self) -> dict[str, int] | int | None:
        """Return how many weights to exchange: never more than there are others."""
        held = {name: i.numel() for name, i in self.indices().items()}
        free = {name: int(np.prod(self._shapes[name])) - k for name, k in held.items()}
        drop = self._schedule.drop
        if self._schedule.scope == "global":
            return min(int(drop * sum(held.values())), sum(free.values())) or None
        counts = {name: min(int(drop * k), free[name]) for name, k in held.items()}
        return counts if any(counts.values()) else None

    def _dropped(self, counts: Mapping[str, int] | int) -> dict[str, Tensor]:
        """Return the indices of the weights that moved least; ties: the first."""
        least = Best(counts, list(self._shapes))
        indices = self.indices()
        for name, theta in trainable(self._model).items():
            least.add(name, -theta.detach().abs().cpu(), values=indices[name].cpu())
        return {name: gone for name, (_, gone) in least.chosen().items()}

    def _weight(self, name: str) -> Tensor:
        """Return the weight that a forward computes with: theta is beside a quantised one."""
        tensor = self._tensors[name]
        if not tensor.quantised:
            return tensor.values()
        theta = trainable(self._model)[name].detach()
        indices = attached_mask(self._model).indices[name].to(theta.device)
        flat = tensor.values().to(theta.dtype).reshape(-1)
        return flat.index_add(0, indices, theta).view(tensor.shape)

    @torch.no_grad()
    def _receive(self, best: Best, finite: dict[str, bool], name: str, gradient: Tensor) -> None:
        gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        scores = self._score.of(lambda: self._weight(name), gradient).reshape(-1)
        finite[name] = bool(torch.isfinite(scores).all())
        if not finite[name]:
            return
        if self._schedule.kind != "repeat":
            scores[attached_mask(self._model).indices[name].to(scores.device)] = -torch.inf
        best.add(name, scores, values=gradient)

    @torch.no_grad()
    def _move(
        self,
        chosen: Mapping[str, tuple[Tensor, Tensor]],
        dropped: Mapping[str, Tensor],
        optimizer: AdamW,
    ) -> None:
        thetas, before = trainable(self._model), self.indices()
        active = {n: _active(optimizer, p, before[n].to(p.device)) for n, p in thetas.items()}
        after = {}
        for name, held in before.items():
            new = chosen[name][0].to(held.device) if name in chosen else held[:0]
            kept = held[~torch.isin(held, dropped[name].to(held.device))] if dropped else held
            after[name] = torch.cat([kept, new]).unique()
        self.go_to(after)
        for name, theta in thetas.items():
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
        for theta in trainable(self._model).values():
            rows = optimizer.state[theta].get("active")
            if rows is not None and theta.grad is not None:
                kept = torch.zeros_like(theta.grad)
                kept[rows] = theta.grad[rows]
                theta.grad = kept


def watch(moving: MovingMask | None, step: int, optimizer: Any) -> Any:
    """Return the context of one training step, which does nothing without a moving mask."""
    return nullcontext() if moving is None else moving.step(step, optimizer)


def _active(optimizer: AdamW, theta: nn.Parameter, indices: Tensor) -> Tensor:
    rows = optimizer.state[theta].get("active")
    return indices if rows is None else indices[rows]


def _turns(quota: Mapping[str, int]) -> np.ndarray:
    """Order the B selections over the tensors, so that every prefix is shared in proportion.

    The j-th weight of a tensor with quota q has its turn at (j + 1/2) / q: counts only grow
    from one prefix to the next, which largest remainders do not promise.
    """
    turns = [(np.arange(q) + 0.5) / max(q, 1) for q in quota.values()]
    tensors = np.repeat(np.arange(len(quota)), list(quota.values()))
    return tensors[np.argsort(np.concatenate(turns), kind="stable")]
