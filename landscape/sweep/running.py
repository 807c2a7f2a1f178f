"""Running: a job becomes a row, once; what a killed process has left is gone on with."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from landscape.errors import UserError
from landscape.folders import Unwritable, leftovers, provenance
from landscape.sweep.changed import refuse_unlike
from landscape.sweep.executors.executor import Event, Job, Places
from landscape.sweep.lock import claimed
from landscape.sweep.measuring import Measuring
from landscape.sweep.outcomes import outcome_of, outcome_of_none
from landscape.sweep.preparing import Prepared, prepared
from landscape.sweep.rows import Row
from landscape.sweep.store import RunStore
from landscape.sweep.watched import Watched
from landscape.training.point import way_back
from landscape.training.run import Run
from landscape.training.settings import Settings
from landscape.training.training import Training

Tell = Callable[[Event], None]

FAILURES = (UserError, RuntimeError, MemoryError, OSError)
"""What a job may fail by while others go on; torch raises RuntimeError for want of memory."""

TRAINING, AGAIN = "training", "training-again"
"""Folders of a run's training, and of another one that a new measurement needs."""


def run_job(
    job: Job,
    store: RunStore,
    places: Places | None = None,
    *,
    tell: Tell = lambda event: None,
    wait: bool = True,
) -> Row:
    """Compute a run and its measurements, as far as the store lacks them, and return its row.

    A run that was stopped goes on from its checkpoint, and ends bit for bit as one that was not.
    Measurements before and after the training that are asked for later are made from what the run
    has kept; those during it train again, beside it.

    Args:
        job: the run, and what is to be measured on it.
        store: where it lies; made where it is missing.
        places: where its inputs lie, and the device.
        tell: is told "began", and every step.
        wait: for another process that computes this run.

    Raises:
        Elsewhere: without `wait`, there is such a process.
        UserError: a method, option, measurement, model or task that is none, or a run whose files
            are damaged or cannot be written; no row is written then, but what was finished of it is
            kept.
    """
    store.create()
    with claimed(store.path(job.config), wait=wait):
        if not is_done(job, store):
            tell(Event("began", job))
            with prepared(job.config, places) as made:
                compute(job, made, store, tell)
    return store.row(job.config)


def attempt(
    job: Job, store: RunStore, places: Places, tell: Tell, *, wait: bool = True
) -> None:  # fmt: skip
    """Compute a run, and tell how it went: one that fails is told, and raises nothing.

    Args:
        job, store, places, wait: as of `run_job`.
        tell: is told "began", every step, and "finished", "diverged" or "failed".

    Raises:
        Elsewhere: as `run_job`.
    """
    try:
        row = run_job(job, store, places, tell=tell, wait=wait)
    except FAILURES as error:
        ends = isinstance(error, Unwritable) and error.everywhere
        tell(Event("failed", job, said=said_of(error), ends=ends))
    else:
        tell(Event("diverged" if row["outcome"]["diverged"] else "finished", job))
    finally:
        gc.collect()  # a training refers to itself: its weights and moments would outlast it


def said_of(error: BaseException) -> str:
    """Return what is said of a job that failed: a sentence, or what torch or the system raised."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def is_done(job: Job, store: RunStore) -> bool:
    """Tell whether the store has a run with all that is to be measured on it."""
    return job.config in store and Measuring(job, store).complete


def compute(job: Job, made: Prepared, store: RunStore, tell: Tell = lambda event: None) -> None:
    """Train a run that is prepared, and finish it.

    Args:
        job: the run.
        made: at its start; its model is left at the chosen checkpoint.
        store: where it lies.
        tell: is told of every step.
    """
    folder, measuring = store.path(job.config), begin(job, made, store)
    if job.config.method == "none":
        finish(job, made, None, store)
        return
    during, main = set(measuring.lacks("during")), Watched(folder / TRAINING)
    again, unseen = Watched(folder / AGAIN), during - (main.keys if main.begun else during)
    if unseen and main.finished:
        if again.begun and not again.keys.issuperset(unseen):
            again.remove()
        _train_beside(job, made, again, unseen, measuring, tell)
    elif unseen:
        main.remove()
    again.remove()
    finish(job, made, _train(job, made, main, during, measuring, tell), store)


def begin(job: Job, made: Prepared, store: RunStore) -> Measuring:
    """Write a run's configuration, and measure before its training: the half before it.

    Raises:
        UserError: a measurement that cannot be made, or one on a finished run from other inputs.
    """
    if job.config in store:
        refuse_unlike(store.row(job.config), made.identity)
    folder, measuring = store.begin(job.config), Measuring(job, store, made.device)
    for path in (*leftovers(folder), *leftovers(folder / "measured")):
        path.unlink()
    measuring.join()
    if job.config.method == "none":
        _refuse_during(measuring)
    measuring.measure("before", made)
    return measuring


def finish(job: Job, made: Prepared, run: Run | None, store: RunStore) -> None:
    """Measure and judge a run that is trained, and write its row: the half after the training.

    Args:
        job: the run.
        made: its model is at the chosen checkpoint, and stays there.
        run: of the training; None for the pretrained model.
        store: where it lies.

    Raises:
        UserError: a measurement that cannot be made; the row is written before.
    """
    failed: UserError | None = None
    try:
        Measuring(job, store, made.device).measure("after", made)
    except UserError as error:
        failed = error
    if job.config not in store:
        found = outcome_of_none(made) if run is None else outcome_of(made, run)
        store.write(job.config, found, provenance=provenance(made.device))
    if failed is not None:
        raise failed


def _train(
    job: Job, made: Prepared, watched: Watched, keys: set[str], measuring: Measuring, tell: Tell
) -> Run:
    """Train, or go on, or read what was trained; the model is at the chosen checkpoint."""
    keys = watched.begin(keys)
    training = Training(
        made.model, made.tokenizer, made.task, schedule=made.schedule, folder=watched.folder,
        probes=measuring.probes(made, sorted(keys)), **settings_of(job),
    )  # fmt: skip
    for _ in training:
        tell(Event("step", job, training.taken, training.total))
    measuring.take(training.run.history, sorted(keys))
    return training.run


def _train_beside(
    job: Job, made: Prepared, watched: Watched, keys: set[str], measuring: Measuring, tell: Tell
) -> None:
    """Train for measurements alone; the model is at its start again afterwards.

    On another device, or with other threads, this training ends elsewhere than the run's own.
    """
    if made.schedule is not None:  # the next training detaches the mask that this one leaves
        _train(job, made, watched, keys, measuring, tell)
        return
    go_back = way_back(made.model)
    _train(job, made, watched, keys, measuring, tell)
    go_back()


def settings_of(job: Job) -> dict[str, Any]:
    """Return the settings of a run's training; its test is made with every example's own result.

    Raises:
        UserError: no learning rate, a setting that the configuration says itself, or one that is
            none of the training's.
    """
    config = job.config
    if config.lr is None:
        raise UserError(
            f"expected a learning rate for {config.method}, got none; give lr, or let the sweep "
            "choose one"
        )
    own = {"lr": config.lr, "epochs": config.epochs, "batch_size": config.batch_size,
           "seed": config.seed, "test": False}  # fmt: skip
    for name in config.settings:
        if name in own:
            raise UserError(
                f"expected settings beside those of the run itself, got {name!r}; give it as the "
                "run's own"
            )
    found = own | dict(config.settings)
    Settings.of(found)  # of these `Training` has others beside: folders, probes, a device
    return found


def _refuse_during(measuring: Measuring) -> None:
    if lacking := measuring.lacks("during"):
        raise UserError(
            f"expected a run that trains for {lacking[0]}, got one that trains nothing; leave the "
            "measurement out"
        )
