"""Training as an object: fine-tuning on a task that can be stepped, probed, stopped and resumed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from landscape import seeds
from landscape.errors import UserError
from landscape.models.placement import checked_device
from landscape.tasks import Task
from landscape.tasks.evaluation import evaluate
from landscape.tasks.outputs.scoring import task_loss
from landscape.tasks.padding import Batch
from landscape.tasks.task import SplitName
from landscape.training.best import BestOnDev
from landscape.training.interruption import held_back
from landscape.training.mode import training_mode
from landscape.training.pace import Pace
from landscape.training.parts import Probe, assemble, check_kinds
from landscape.training.point import go_to, is_point_of, point
from landscape.training.run import Run, run_of
from landscape.training.schedule import Schedule
from landscape.training.settings import Settings
from landscape.training.updates import Record

_ENTRIES = ("parameters", "best", "loop", "history", "seconds")


class Training:
    """Train a model's trainable parameters on a task, a step at a time.

        training = Training(model, tokenizer, task, lr=1e-2)
        for record in training:          # or training.step(), as often as you like
            ...                          # look at the model, training.evaluate(), state_dict()
        training.run                     # what `finetune` returns

    Going through it to the end finishes it, as `finish` does: the model gets the checkpoint that
    was best on dev. `finetune` explains what is computed, and all arguments. With a folder a
    training that was stopped goes on when it is made again, of a model as it was at first.

    Args:
        model, tokenizer, task, schedule, folder, overwrite, checkpoint_every, probes, device:
            as for `finetune`. A run that its folder holds is continued, or read if finished.
        settings: lr and the other keyword arguments of `finetune`.

    Raises:
        UserError: as `finetune`.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        task: Task,
        *,
        schedule: Schedule | None = None,
        folder: str | Path | None = None,
        overwrite: bool = False,
        checkpoint_every: int | None = None,
        probes: Sequence[Probe] = (),
        device: str | torch.device | None = None,
        **settings: object,
    ) -> None:
        self.settings = Settings.of(settings)
        self._pace = Pace(checkpoint_every)
        check_kinds(model, tokenizer, task, schedule, probes)
        if device is not None:
            model.to(checked_device("device", device))
        self._parts = parts = assemble(
            model, tokenizer, task, self.settings, self._loss,
            schedule=schedule, folder=folder, overwrite=overwrite,
        )  # fmt: skip
        self.model, self._tokenizer, self._task, self._probes = model, tokenizer, task, probes
        self._loop, self._folder, self._moving = parts.loop, parts.folder, parts.moving
        self.config, self.total = parts.config, self.settings.epochs * parts.epochs.steps
        self._start = point(parts.parameters, self._moving)
        self._best = BestOnDev(
            task, self.settings.select_by, dict(self._start), self.settings.patience
        )
        self.history: list[Record] = []
        self._seconds = 0.0
        self._run: Run | None = None
        self._resume()

    def __repr__(self) -> str:
        state = (
            "finished" if self._run is not None else "diverged" if self.diverged else "under way"
        )
        return f"training on {self._task.name}, {self.taken} of {self.total} steps, {state}"

    @property
    def taken(self) -> int:
        """Steps taken so far, those of the run that was resumed included."""
        return self._loop.taken

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the trainable parameters."""
        return self._loop.optimizer

    @property
    def diverged(self) -> bool:
        """Tell whether a loss or a parameter was not finite, which ends the training."""
        return self._loop.diverged

    @property
    def truncated(self) -> dict[str, int] | None:
        """The train rows that are too long, as in `Run.metrics`; None where none is."""
        return self._parts.epochs.truncated

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The evaluations on dev so far, as in `Run.evaluations`."""
        return self._best.evaluations

    @property
    def done(self) -> bool:
        """Tell whether no step is left: all taken, diverged, out of patience, or finished."""
        ended = self.taken >= self.total or self.diverged
        return ended or self._run is not None or self._best.is_final

    @property
    def run(self) -> Run:
        """Return the run.

        Raises:
            UserError: it is not finished.
        """
        if self._run is None:
            raise UserError(
                f"expected a finished training, got one after {self.taken} of {self.total} steps; "
                "go through it, or call finish()"
            )
        return self._run

    def __iter__(self) -> Iterator[Record]:
        """Take the steps left, then finish; with a folder Ctrl-C in a step writes a checkpoint."""
        alone = self._folder is not None and self._parts.processes.count == 1
        while not self.done:
            with held_back() if alone else nullcontext() as pressed:
                record = self.step()
                if pressed and pressed() and self._folder is not None:
                    self._folder.save(self.state_dict())
            yield record
        self.finish()

    def step(self) -> Record:
        """Take one step, and evaluate on dev and write a checkpoint where they are due.

        Returns:
            The step's record, as in `Run.history`.

        Raises:
            UserError: no step is left.
        """
        if self.done:
            raise UserError(f"expected a step that is left, got {self.taken} taken; call finish()")
        began, number = time.perf_counter(), self.taken
        batches, counted = self._parts.epochs.share(number)
        with training_mode(self.model, self._dropout_seed(number)):
            loss = self._loop.gradient(batches, counted=counted, inside=self._watch(number))
        record = self._loop.update(loss)
        self.history.append(record)
        for probe in self._probes:
            probe(self._parts.inner, record)
        due = self._parts.epochs.is_evaluation_due(self.taken)
        if due and not self.diverged:
            self._judge()
        self._seconds += time.perf_counter() - began
        if self._folder is not None and self._is_checkpoint_due(due):
            with self._pace.writing():
                self._folder.save(self.state_dict())
        return record

    def evaluate(self, split: SplitName = "dev") -> dict[str, float]:
        """Return what `landscape.evaluate` says of the model as it is now, changing nothing."""
        with nullcontext() if self._run is not None else self._loop.judged():
            return self._evaluate(split)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of where the training is: parameters, best point, optimizer, records.

        Loading it into a training that was made alike goes on bit for bit as this one.
        """
        return {
            "parameters": point(self._parts.parameters, self._moving),
            "best": self._best.state_dict(), "loop": self._loop.state_dict(),
            "history": [dict(record) for record in self.history],
            "seconds": self._seconds,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a state, of this training or of one that was made alike.

        Raises:
            UserError: it is no state of such a training, or this one is finished.
        """
        there = state.get("parameters", {})
        fits = state.keys() == set(_ENTRIES) and is_point_of(
            self._parts.parameters, there, self._moving
        )
        if self._run is not None or not fits:
            raise UserError(
                "expected the state of a training like this one, which is not finished, got "
                f"{', '.join(map(str, state)) or 'none'}; take it from state_dict() of one made "
                "alike"
            )
        go_to(self._parts.parameters, there, self._moving)
        self._best.load_state_dict(state["best"])
        self._loop.load_state_dict(state["loop"])
        self.history = [dict(record) for record in state["history"]]
        self._seconds = state["seconds"]

    def finish(self) -> Run:
        """End the training: go to the point that was best on dev, test it, write the folder.

        Raises:
            UserError: steps are left of a training with a folder, whose result would be taken for
                that of all.
        """
        if self._run is not None:
            return self._run
        if self._folder is not None and not self.done:
            raise UserError(
                f"expected all {self.total} steps of a training with a folder, got {self.taken}; "
                "take the others, or train without folder="
            )
        go_to(self._parts.parameters, self._best.point, self._moving)
        tested = self._evaluate("test") if self.settings.test else None
        metrics = {"diverged": self.diverged, "test": tested, "seconds": self._seconds,
                   "truncated": self.truncated}  # fmt: skip
        self._run = run_of(
            self._parts.inner, self._start, self._best, self.config, self.history, metrics,
            self._folder.path if self._folder else None,
        )  # fmt: skip
        if self._folder is not None:
            self._folder.finish(self._run, self._best.point)
        return self._run

    def _resume(self) -> None:
        """Read the run that the folder has finished, or go on from its checkpoint."""
        if self._folder is not None and self._folder.finished:
            self._run, best = self._folder.result()
            go_to(self._parts.parameters, best, self._moving)
            self.history, self._best.evaluations = self._run.history, self._run.evaluations
            self._loop.taken = len(self.history)
            return
        if self._folder is not None and (saved := self._folder.saved(_ENTRIES)):
            self.load_state_dict(saved)
        for probe in self._probes:
            if hasattr(probe, "start"):
                probe.start(self.optimizer)

    def _loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, float]:
        total, count = task_loss(model, batch)
        return (total / count, 1) if self.settings.loss_average == "batches" else (total, count)

    def _watch(self, step: int) -> AbstractContextManager[None]:
        """Return the context of a step's backwards: a mask that moves selects its weights there."""
        moving, most = self._moving, self.settings.accumulate
        return moving.step(step, self.optimizer, backwards=most) if moving else nullcontext()

    def _is_checkpoint_due(self, evaluated: bool) -> bool:
        """Tell whether a checkpoint is due, as the first of several processes says."""
        due = self._pace.is_due(self.taken, evaluated=evaluated, last=self.done)
        return self._parts.processes.first_says(due) if self._pace.by_clock else due

    def _dropout_seed(self, step: int) -> int:
        rank = self._parts.processes.rank
        purpose = ("dropout", step, rank) if rank else ("dropout", step)
        return seeds.derived(self.settings.seed, *purpose)

    def _judge(self) -> None:
        """Evaluate on dev, and keep the point if it is the best so far."""
        with self._loop.judged():
            if not all(bool(torch.isfinite(p).all()) for p in self._parts.parameters.values()):
                self._loop.diverged = True
                return
            here = partial(point, self._parts.parameters, self._moving)
            self._best.judge(self.taken, self._evaluate("dev"), here)

    def _evaluate(self, split: SplitName) -> dict[str, float]:
        return evaluate(
            self._parts.inner, self._tokenizer, self._task, split=split,
            max_length=self._parts.limit, bos=self.settings.bos,
        )  # fmt: skip
