"""A lane under way: what it has of its own, its updates, its best point, its records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from landscape import seeds
from landscape.subspace.dense import find_dense
from landscape.tasks.encoding import length_limit
from landscape.tasks.fitting import refuse_unfit
from landscape.training.best import BestOnDev
from landscape.training.epochs import Epochs
from landscape.training.groups import grouped
from landscape.training.packed.lane import Lane
from landscape.training.packed.products import MaskedWeight
from landscape.training.parts import run_config, stepping
from landscape.training.point import Point, go_to, point
from landscape.training.processes import Processes
from landscape.training.run import Run
from landscape.training.updates import Record, Updates


class Course:
    """Hold what one lane of a pack has of its own.

    Args:
        model: the frozen one that the lanes share.
        tokenizer: of the model.
        lane: the run.

    Raises:
        UserError: as `finetune`, before anything is computed.
    """

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, lane: Lane) -> None:
        refuse_unfit(model, lane.task.train)
        self.lane, settings = lane, lane.settings
        held = dict(model.named_parameters())
        masked = dict(lane.mask.indices) if lane.mask is not None else {}
        self.dense_names = list(find_dense(model, lane.dense, masked))
        self.masked = {name: _masked_weight(held[name], masked[name]) for name in masked}
        whole = {
            n: (lane.values[n].to(p.device, p.dtype) if n in lane.values else p.detach()).clone()
            for n, p in held.items()
            if n in lane.values or n in self.dense_names
        }
        self.dense = {name: nn.Parameter(whole.pop(name)) for name in self.dense_names}
        self.own = whole
        self.parameters: dict[str, nn.Parameter] = {
            name: weight.theta for name, weight in self.masked.items()
        } | self.dense
        self.limit = length_limit(model, settings.max_length)
        self.epochs = Epochs(lane.task, tokenizer, settings, self.limit, Processes())
        self.total = settings.epochs * self.epochs.steps
        count = sum(p.numel() for p in self.parameters.values())
        self.config = run_config(
            model, lane.task, settings, self.limit, mask=lane.mask, count=count
        )
        beside = self.dense if self.masked else {}
        groups = grouped(self.parameters, beside, lr=settings.lr, dense_lr=settings.dense_lr)
        optimizer, lr_schedule = stepping(groups, settings, self.total)
        self.updates = Updates(
            list(self.parameters.values()), optimizer, lr_schedule=lr_schedule,
            max_gradient_norm=settings.max_gradient_norm,
        )  # fmt: skip
        self.start = point(self.parameters)
        self.best = BestOnDev(lane.task, settings.select_by, dict(self.start), settings.patience)
        self.history: list[Record] = []
        self.seconds = 0.0
        self.run: Run | None = None

    @property
    def done(self) -> bool:
        """Tell whether no step is left: all taken, diverged, or out of patience."""
        return self.updates.taken >= self.total or self.updates.diverged or self.best.is_final

    @property
    def dropout_seed(self) -> int:
        """Return the seed of the masks of the step that comes."""
        return seeds.derived(self.lane.settings.seed, "dropout", self.updates.taken)

    def is_finite(self) -> bool:
        """Tell whether all that it trains is finite."""
        return all(bool(torch.isfinite(p).all()) for p in self.parameters.values())

    def point(self) -> Point:
        """Copy what it trains."""
        return point(self.parameters)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of where it is."""
        return {
            "parameters": self.point(), "best": self.best.state_dict(),
            "updates": self.updates.state_dict(), "seconds": self.seconds,
            "history": [dict(record) for record in self.history],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where another, made alike, was."""
        go_to(self.parameters, state["parameters"])
        self.best.load_state_dict(state["best"])
        self.updates.load_state_dict(state["updates"])
        self.history = [dict(record) for record in state["history"]]
        self.seconds = state["seconds"]


def _masked_weight(weight: Tensor, indices: Tensor) -> MaskedWeight:
    flat = indices.to(weight.device)
    rows, cols = weight.shape
    return MaskedWeight(flat, (rows, cols), weight.detach().view(-1)[flat].clone())
