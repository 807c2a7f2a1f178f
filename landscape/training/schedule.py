"""Schedules: when a fine-tuning run selects weights, and how many."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import nn

from landscape import checks
from landscape.errors import UserError
from landscape.models.targets import AUTO, target_patterns
from landscape.selection.scores import make_score

Kind = Literal["static", "increment", "repeat", "drop_regrow"]
Scope = Literal["tensor", "global"]


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
        targets: shell patterns, as for `random_mask`; a run's configuration and mask name those
            that "auto" stands for.
        scope: "global" as in the paper, or "tensor", in proportion to the tensors' sizes.
        steps: T, over how many steps the budget is handed out; None is the whole run.
        increments: u_1 .. u_T for "increment"; None is uniform, round-robin where T does not
            divide B.
        every: steps between selections of "repeat" and "drop_regrow".
        drop: share of the selected weights that "drop_regrow" gives back.
        dense: shell patterns of parameters that are trained whole from the first step, as for
            `attach`: a classifier's head. They are no part of the budget.

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
    targets: str | Sequence[str] = AUTO
    scope: Scope = "global"
    steps: int | None = None
    increments: Sequence[int] | None = None
    every: int = 1
    drop: float = 0.3
    dense: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        checks.choice("kind", self.kind, get_args(Kind))
        checks.text("score", self.score)
        if make_score(self.score, self.options).source not in ("weights", "gradient"):
            raise UserError(
                f"expected a score of weights or of the batch's gradient in a schedule, got "
                f"{self.score}; use select_mask with it and attach the mask"
            )
        checks.choice("scope", self.scope, get_args(Scope))
        plain: dict[str, Any] = {"every": checks.whole("every", self.every, least=1)}
        if self.steps is not None:
            plain["steps"] = checks.whole("steps", self.steps, least=1)
        if self.count is not None:
            plain["count"] = checks.whole("count", self.count, least=1)
        plain["drop"] = checks.number("drop", self.drop, above=0, below=1)
        for name, value in plain.items():  # numpy's numbers become plain ones, as JSON has them
            object.__setattr__(self, name, value)
        if self.increments is not None:
            _check_increments(self)

    def on(self, model: nn.Module) -> Schedule:
        """Return the schedule whose targets are the patterns that "auto" stands for on a model.

        Raises:
            UserError: "auto" for a model whose query and value layers are not known.
        """
        if AUTO not in checks.patterns("targets", self.targets):
            return self
        patterns = target_patterns(model, self.targets)
        return dataclasses.replace(self, targets=patterns[0] if len(patterns) == 1 else patterns)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON has them; ``dense`` where it names any."""
        plain = dataclasses.asdict(self) | {"options": dict(self.options)}
        if not self.dense:
            del plain["dense"]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


def _check_increments(schedule: Schedule) -> None:
    budgets = (schedule.ratio, schedule.density, schedule.count, schedule.steps)
    if schedule.kind != "increment" or any(b is not None for b in budgets):
        raise UserError(
            f"expected increments alone and for kind 'increment', since they say the budget and "
            f"the steps, got kind {schedule.kind!r} with ratio, density, count and steps of "
            f"{', '.join(map(str, budgets))}; leave those out"
        )
    if min(schedule.increments or (), default=-1) < 0:
        raise UserError(
            f"expected increments to be numbers of weights, at least 0, got {schedule.increments}; "
            "give one for each step"
        )
