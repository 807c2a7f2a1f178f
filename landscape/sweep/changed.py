"""Inputs that have changed since a store's runs were computed from them: refused, not mixed.

A run's address names its model and its task; what these were, hashes in its row say. What this
machine has is compared before it computes, and rows that come from elsewhere as they come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landscape.errors import UserError
from landscape.models import PACKAGED
from landscape.sweep.config import RunConfig
from landscape.sweep.executors.executor import Job, Places
from landscape.sweep.preparing import asked_of, configuration_of, files_of, task_of
from landscape.sweep.rows import MODEL_FILES, TASK_FILES, Row
from landscape.sweep.store import RunStore
from landscape.training.inputs import digest_examples

ROWS = ("train rows", "dev rows", "test rows")
DRAWN_BY = ("num_train", "num_dev", "num_test", "seed")


def refuse_changed(jobs: Sequence[Job], store: RunStore, places: Places) -> None:
    """Refuse to compute runs beside finished ones of the same names and other contents.

    The loaded files of models in folders are compared, the revisions of those on the hub, and the
    files of tasks. Of a task that says no files, or now has others by name, the examples of one
    drawing are: one that a job shares, where there is such a one. Rows of older versions don't say
    their model's files.

    Args:
        jobs: that are left.
        store: whose finished runs they would stand beside.
        places: where inputs lie.

    Raises:
        UserError: a model's files or revision, or a task's examples, are not those of finished
            runs.

    Cost: reading the store's rows and a model's files; loading a task or two.
    """
    if not jobs:
        return
    known = _known(store)
    said = [*_models(jobs, known), *_tasks(jobs, known, places)]
    if said:
        raise UserError(
            f"{'; also '.join(said)}: new runs would be mixed with old ones under the same names; "
            "put the old files back, or name another store"
        )


class Arrivals:
    """Hold what finished runs were computed from, as rows from elsewhere join them.

    Args:
        store: whose runs they join; read once.
    """

    def __init__(self, store: RunStore) -> None:
        self._known = {one.inputs: one for one in reversed(_known(store))}

    def refuse_other(self, row: Row) -> None:
        """Refuse a row of a model or a task that has other contents here under the same name.

        Compared are the hashes of a model's folder, or its revision on the hub; of a task those of
        its files where both rows say them by the same names, and otherwise the examples of runs
        that drew them alike; all as far as both rows say them.

        Args:
            row: it is compared with from now on as well, unless it is refused.

        Raises:
            UserError: another run had other ones.
        """
        new = _Known.of(row)
        found = {what: one.address for one in self._known.values() for what in new.unlike(one)}
        if found:
            said = " and ".join(f"{what} than {address}" for what, address in found.items())
            raise UserError(
                f"expected the run {new.address} to be of the inputs of the others, got {said}: "
                "they would be mixed under the same names; put the same files there, or keep it in "
                "another store"
            )
        self._known.setdefault(new.inputs, new)


def refuse_unlike(row: Row, identity: Mapping[str, Any]) -> None:
    """Refuse to go on with a finished run from other inputs than its own.

    Args:
        row: of the run.
        identity: of the run as it would be computed now.

    Raises:
        UserError: its model's files or its examples were other ones.
    """
    ran = _Known.of(row)
    if said := _Known(ran.address, ran.config, identity).unlike(ran):
        raise UserError(
            f"expected the inputs that the run {ran.address} had, got {' and '.join(said)}; put "
            "the old files back, or name another store"
        )


def _known(store: RunStore) -> list[_Known]:
    return [_Known.of(row) for row in store.examined() if not isinstance(row, UserError)]


@dataclass(frozen=True)
class _Known:
    """Hold what is known of a finished run's inputs."""

    address: str
    config: Mapping[str, Any]
    identity: Mapping[str, Any]

    @classmethod
    def of(cls, row: Row) -> _Known:
        return cls(row["address"], row["config"], row["outcome"].get("identity") or {})

    def unlike(self, known: _Known) -> list[str]:
        """Say what this run had otherwise than another, under the same names."""
        model, task = self.config["model"], self.config["task"]
        said = []
        if model == known.config["model"] and not self._same_model(known):
            said.append(f"other files of the model {model}")
        if task == known.config["task"] and not self._same_task(known):
            said.append(f"other examples of {task}")
        return said

    def _same_model(self, known: _Known) -> bool:
        files = [one.identity.get(MODEL_FILES) for one in (self, known)]
        if None not in files:
            return bool(files[0] == files[1])
        return self._alike(known, "revisions")

    def _same_task(self, known: _Known) -> bool:
        same = _same_files(*(one.identity.get(TASK_FILES) for one in (self, known)))
        if same is None and self.drawing == known.drawing:
            return all(self._alike(known, name) for name in ROWS)
        return same is not False

    def _alike(self, known: _Known, name: str) -> bool:
        """Compare a hash, as far as both runs say it."""
        one, other = self.identity.get(name), known.identity.get(name)
        return one is None or other is None or bool(one == other)

    @property
    def inputs(self) -> str:
        """Return all that is compared: of runs that have it in common one will do."""
        names = (MODEL_FILES, "revisions", TASK_FILES, *ROWS)
        own = [self.identity.get(name) for name in names]
        return repr((self.config["model"], self.config["task"], self.drawing, own))

    @property
    def drawing(self) -> tuple[Any, ...]:
        return tuple(self.config[name] for name in DRAWN_BY)


def _models(jobs: Iterable[Job], known: Sequence[_Known]) -> Iterator[str]:
    for model in dict.fromkeys(job.config.model for job in jobs):
        own = [one for one in known if one.config["model"] == model]
        if (now := files_of(model)) is None:
            yield from _revisions(model, own)
        elif other := [one for one in own if one.identity.get(MODEL_FILES, now) != now]:
            yield f"expected the model in {model} as {_runs(other)} had it, got other files"


def _revisions(model: str, known: Sequence[_Known]) -> Iterator[str]:
    """Compare a model's revision on the hub with that of finished runs, where both are known."""
    known = [one for one in known if one.identity.get("revisions") is not None]
    if model in PACKAGED or not known:
        return
    try:
        now = getattr(configuration_of(model), "_commit_hash", None)
    except (OSError, ValueError):  # whoever loads the model says what is wrong
        return
    if other := [one for one in known if now is not None and one.identity["revisions"] != now]:
        had = other[0].identity["revisions"]
        yield (
            f"expected the model {model} of the revision {had} on the hub, which {_runs(other)} "
            f"had, got {now}"
        )


def _tasks(jobs: Iterable[Job], known: Sequence[_Known], places: Places) -> Iterator[str]:
    drawings: dict[str, dict[tuple[Any, ...], RunConfig]] = {}
    for config in (job.config for job in jobs):
        drawing = tuple(getattr(config, name) for name in DRAWN_BY)
        drawings.setdefault(config.task, {}).setdefault(drawing, config)
    for task, asked in drawings.items():
        now = task_of(*asked_of(next(iter(asked.values())), places)).source.get("sha256")
        other, unclear = [], dict[tuple[Any, ...], list[_Known]]()
        for one in known:
            same = _same_files(one.identity.get(TASK_FILES), now)
            if one.config["task"] != task or same:
                continue
            if same is False:
                other.append(one)
            elif all(name in one.identity for name in ROWS):
                unclear.setdefault(one.drawing, []).append(one)
        if unclear:
            drawing = next((d for d in asked if d in unclear), next(iter(unclear)))
            drawn = _drawn(RunConfig.of(unclear[drawing][0].config), places)
            other += [one for one in unclear[drawing]
                      if any(one.identity[k] != drawn.get(k) for k in ROWS)]  # fmt: skip
        if other:
            yield f"expected the files of {task} that {_runs(other)} had, got others"


def _same_files(was: Any, now: Any) -> bool | None:
    """Compare a task's files, hash by name; None where they are not known, or named otherwise."""
    if was is not None and was == now:
        return True
    named = isinstance(was, dict) and isinstance(now, dict) and was.keys() == now.keys()
    return False if named else None


def _drawn(config: RunConfig, places: Places) -> dict[str, Any]:
    """Return the digests of the examples that a run draws now; none where it cannot."""
    try:
        task = task_of(*asked_of(config, places))
    except UserError:
        return {}
    return {name: digest_examples(task.split(name.partition(" ")[0])) for name in ROWS}


def _runs(known: Sequence[_Known]) -> str:
    number = len(known)
    return f"{number} finished run{'s' * (number > 1)} of the store ({known[0].address} first)"
