"""Inputs that have changed since a store's runs were computed from them: refused, not mixed.

A run's address names its model and its task; what lay in their folders, the row's hashes say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from landscape.errors import UserError
from landscape.sweep.config import RunConfig
from landscape.sweep.executors.executor import Job, Places
from landscape.sweep.preparing import MODEL_FILES, TASK_FILES, asked_of, files_of, task_of
from landscape.sweep.rows import Row
from landscape.sweep.store import RunStore
from landscape.training.inputs import digest_examples

SPLITS = ("train", "dev", "test")


def refuse_changed(jobs: Sequence[Job], store: RunStore, places: Places) -> None:
    """Refuse to compute runs beside finished ones of the same names and other contents.

    Of each task one drawing of examples is compared, where there is one that a finished run and a
    job share, else the first finished run's; of each model in a folder the files that are loaded.

    Args:
        jobs: that are left.
        store: whose finished runs they would stand beside.
        places: where inputs lie.

    Raises:
        UserError: a task's examples or a model's files are not those of finished runs.

    Cost: reading the store, 0.3 ms a run; a task is loaded, a model's files are hashed once.
    """
    if not jobs:
        return
    rows = [row for row in store.examined() if not isinstance(row, UserError)]
    said = [*_models(jobs, rows), *_tasks(jobs, rows, places)]
    if said:
        raise UserError(
            f"{'; also '.join(said)}: new runs would be mixed with old ones under the same names; "
            "put the old files back, or name another store"
        )


def _models(jobs: Iterable[Job], rows: Sequence[Row]) -> Iterator[str]:
    for model in dict.fromkeys(job.config.model for job in jobs):
        if (now := files_of(model)) is None:
            continue
        kept = (_identity(row).get(MODEL_FILES) for row in rows if row["config"]["model"] == model)
        if other := sum(was not in (None, now) for was in kept):
            yield f"expected the model in {model} as {_runs(other)} had it, got other files"


def _tasks(jobs: Iterable[Job], rows: Sequence[Row], places: Places) -> Iterator[str]:
    drawings = {_drawing(job.config): job.config for job in jobs}
    told: dict[str, Any] = {}
    for config in drawings.values():
        if config.task not in told:
            told[config.task] = task_of(*asked_of(config, places)).source.get("sha256")
    other: Counter[str] = Counter()
    unnamed: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        task, identity = row["config"]["task"], _identity(row)
        if TASK_FILES in identity:
            other[task] += task in told and identity[TASK_FILES] != told[task]
        elif "train rows" in identity:
            unnamed.setdefault(_drawing(RunConfig.of(row["config"])), []).append(row)
    for drawing in unnamed.keys() & drawings.keys():
        task = task_of(*asked_of(drawings[drawing], places))
        now = {f"{split} rows": digest_examples(task.split(split)) for split in SPLITS}
        changed = [any(_identity(row)[k] != v for k, v in now.items()) for row in unnamed[drawing]]
        other[drawings[drawing].task] += sum(changed)
    for name, number in sorted(other.items()):
        if number:
            yield f"expected the files of {name} that {_runs(number)} had, got others"


def _identity(row: Row) -> dict[str, Any]:
    return row["outcome"].get("identity") or {}


def _drawing(config: RunConfig) -> tuple[Any, ...]:
    """Return what a task's examples are drawn by."""
    return (config.task, config.num_train, config.num_dev, config.num_test, config.seed)


def _runs(number: int) -> str:
    return f"{number} finished run{'s' * (number > 1)} of the store"
