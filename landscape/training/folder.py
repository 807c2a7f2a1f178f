"""The folder of a run: which run it holds, its checkpoints, its result."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape.errors import UserError
from landscape.folders import open_folder, read_json, write_json
from landscape.subspace import attached_mask, is_attached, trainable
from landscape.tasks import Task
from landscape.tensorfile import read_tensors, write_tensors
from landscape.training.baselines import method_of
from landscape.training.checkpoint import read_checkpoint, read_of_run, run_key, write_checkpoint
from landscape.training.inputs import run_identity
from landscape.training.point import Point, point
from landscape.training.processes import Processes
from landscape.training.run import Run
from landscape.training.schedule import Schedule

_RESULT = {"history": list, "evaluations": list, "metrics": dict, "distance": dict}


class RunFolder:
    """Hold a run's folder open; the first of several processes alone writes.

    Args:
        folder: the folder.
        config: the run's settings, as JSON.
        identity: hashes of its inputs, of `identity_of`.
        overwrite: start it anew, whatever run it holds.
        processes: that train together.
        device: that computes it.

    Raises:
        UserError: the folder holds another run, or something that is no run.
    """

    def __init__(
        self,
        folder: str | Path,
        config: Mapping[str, Any],
        identity: Mapping[str, Any],
        *,
        overwrite: bool,
        processes: Processes,
        device: torch.device,
    ) -> None:
        self._processes = processes
        if processes.first:
            open_folder(folder, config, identity=identity, overwrite=overwrite, device=device)
        processes.wait()
        self.path = open_folder(folder, config, identity=identity, device=device)
        self.config = read_json(self.path / "config.json")
        self.finished = (self.path / "result.json").exists()
        self._checkpoint = self.path / "checkpoint.safetensors"
        processes.wait()

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint; every process waits for it."""
        if self._processes.first:
            write_checkpoint(self._checkpoint, state, self.config)
        self._processes.wait()

    def saved(self, entries: Collection[str]) -> dict[str, Any] | None:
        """Return the state of the last checkpoint, None where there is none.

        Raises:
            UserError: the file is damaged, another run's, or holds other entries.
        """
        if not self._checkpoint.exists():
            return None
        state = read_checkpoint(self._checkpoint, self.config)
        if state.keys() != set(entries):
            raise UserError(
                f"expected the state of a run in {self._checkpoint}, got {', '.join(state)}, as in "
                "older versions; remove it, and the run starts again from its beginning"
            )
        return state

    def finish(self, run: Run, best: Point) -> None:
        """Write the chosen point and the result, which ends the run; remove the checkpoint."""
        if self._processes.first:
            write_tensors(self.path / "theta.safetensors", best, {"run": run_key(self.config)})
            write_json(self.path / "result.json", {key: getattr(run, key) for key in _RESULT})
            self._checkpoint.unlink(missing_ok=True)
        self._processes.wait()

    def result(self) -> tuple[Run, Point]:
        """Read a finished run and the point that it chose.

        Raises:
            UserError: a file is damaged, or is another run's.
        """
        path, cure = self.path / "result.json", "train again with overwrite=True (--force)"
        stored = read_json(path)
        wrong = [key for key, kind in _RESULT.items() if not isinstance(stored.get(key), kind)]
        if wrong or stored.keys() != _RESULT.keys() or "diverged" not in stored["metrics"]:
            raise UserError(
                f"expected a run's result in {path}, got {', '.join(stored) or 'an empty object'}; "
                f"{cure}"
            )
        best = read_of_run(self.path / "theta.safetensors", self.config, cure).tensors
        for record in stored["history"]:  # JSON has no NaN
            record |= {key: math.nan for key, value in record.items() if value is None}
        with contextlib.suppress(OSError):  # a folder that cannot be written can still be read
            self._checkpoint.unlink(missing_ok=True)
        return Run(self.config, path=self.path, stored=True, **stored), best


def identity_of(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    folder: str | Path,
    *,
    test: bool,
    schedule: Schedule | None,
    overwrite: bool,
) -> dict[str, Any]:
    """Return what a run depends on; a model that its own run has left counts as at the start.

    A stopped run of a schedule leaves a mask, which goes with the next call; a finished run leaves
    the parameters that its folder holds.

    Raises:
        UserError: a run of a schedule is asked for on a model with another mask.
    """
    folder = Path(folder).expanduser()
    if schedule is not None and is_attached(model):
        left = dict(attached_mask(model).rule) == schedule.as_dict()
        if not left or not (folder / "config.json").exists():
            raise UserError(
                "expected a model without a mask for a schedule, got one that has one; detach or "
                "merge it"
            )
    scheduled, method = schedule is not None, method_of(model).state_dict()
    found = run_identity(model, tokenizer, task, test=test, scheduled=scheduled, method=method)
    finished = not overwrite and not scheduled and (folder / "result.json").exists()
    if finished and (folder / "theta.safetensors").exists():
        end = read_tensors(folder / "theta.safetensors", "the tensors of a run").tensors
        here = point(trainable(model))
        if end.keys() == here.keys() and all(torch.equal(end[n], here[n].cpu()) for n in end):
            found |= dict.fromkeys(("starting values", "values of the method"))
    return found
