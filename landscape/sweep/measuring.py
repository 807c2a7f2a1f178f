"""Measuring a run: each measurement's parts are kept as they are found, and joined when all are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from landscape.folders import provenance, read_json, write_json
from landscape.sweep.executors.executor import Job
from landscape.sweep.measurements import Measurement, Point, key, measurement_named
from landscape.sweep.preparing import Prepared
from landscape.sweep.store import RunStore
from landscape.training.parts import Probe

PARTS, ENDS = ("before", "during", "after"), ("before", "after")


class Measuring:
    """Make the measurements of a run that its folder lacks.

    Args:
        job: the run, and what is to be measured on it.
        store: which has the run's folder.
        device: that measures; None where nothing will be.

    Raises:
        UserError: a measurement that is none.
    """

    def __init__(self, job: Job, store: RunStore, device: torch.device | None = None) -> None:
        self._job, self._store, self._device = job, store, device
        self._folder = store.path(job.config) / "measured"
        asked = {key(name, options): (measurement_named(name), options)
                 for name, options in job.measure.items()}  # fmt: skip
        self._lacking = {
            k: found for k, found in asked.items() if not (self._folder / f"{k}.json").exists()
        }
        self._made = asked.keys() - self._lacking.keys()

    def lacks(self, part: str) -> list[str]:
        """Return the keys of measurements whose part ("before", "during", "after") is not made."""
        return [
            k for k, (measurement, _) in self._lacking.items()
            if part in measurement.parts and not self._part(k, part).exists()
        ]  # fmt: skip

    @property
    def complete(self) -> bool:
        """Tell whether nothing is left to be made."""
        return not self._lacking

    def measure(self, part: str, made: Prepared) -> None:
        """Measure at an end of the run, "before" or "after", at which the model is."""
        for k in self.lacks(part):
            measurement, options = self._lacking[k]
            found = getattr(measurement, part)(self._point(made, options))
            self._keep(k, part, found)

    def probes(self, made: Prepared, keys: Collection[str]) -> list[Probe]:
        """Return the probes of what is measured during the training, of those keys."""
        found: list[Probe] = []
        for k in keys:
            measurement, options = self._lacking[k]
            assert measurement.during is not None
            found.append(_Noting(k, measurement.during(self._point(made, options))))
        return found

    def take(self, history: Sequence[Mapping[str, Any]], keys: Collection[str]) -> None:
        """Keep what probes have found, from the records of all steps, of those keys."""
        for k in keys:
            steps = [{"step": r["step"], **r[k]} for r in history if k in r]
            self._keep(k, "during", {"steps": steps})

    def join(self) -> None:
        """Write the measurements whose parts are all there, and remove the parts.

        Whatever the instant was at which a process was killed.
        """
        for k in self._made:
            for part in PARTS:
                self._part(k, part).unlink(missing_ok=True)
        for k, (measurement, _) in list(self._lacking.items()):
            places = [self._part(k, part) for part in measurement.parts]
            if all(place.exists() for place in places):
                self._store.write_measured(
                    self._job.config, k, _joined(measurement, places),
                    provenance=provenance(self._device),
                )  # fmt: skip
                for place in places:
                    place.unlink()
                del self._lacking[k]

    def _keep(self, k: str, part: str, values: Mapping[str, Any]) -> None:
        write_json(self._part(k, part), values)
        self.join()

    def _part(self, k: str, part: str) -> Path:
        return self._folder / f".{k}.{part}.json"  # hidden: no measurement yet

    def _point(self, made: Prepared, options: Mapping[str, Any]) -> Point:
        folder = self._store.path(made.config)
        return Point(made.config, made.model, made.tokenizer, made.task, folder, options)


class _Noting:
    """Note what a probe adds to the record of a step under a key of its own.

    So several probes of a kind don't mix, and a checkpoint has what they found so far.
    """

    def __init__(self, k: str, probe: Probe) -> None:
        self._key, self._probe = k, probe

    def start(self, optimizer: Optimizer) -> None:
        """Begin a run, or go on with one."""
        if hasattr(self._probe, "start"):
            self._probe.start(optimizer)

    def __call__(self, model: nn.Module, record: dict[str, Any]) -> None:
        """Call the probe after a step."""
        seen = dict(record)
        self._probe(model, seen)
        added = {name: value for name, value in seen.items() if name not in record}
        if added:
            record[self._key] = added


def _joined(measurement: Measurement, places: Sequence[Path]) -> dict[str, Any]:
    both = sum(part in ENDS for part in measurement.parts) > 1
    values: dict[str, Any] = {}
    for part, place in zip(measurement.parts, places, strict=True):
        found = read_json(place)
        end = f"_{part}" if both and part in ENDS else ""
        values |= {f"{name}{end}": value for name, value in found.items()}
    return values
