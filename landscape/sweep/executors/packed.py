"""The packed executor: runs that share a frozen model train together; the others alone."""

from __future__ import annotations

import gc
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from landscape import checks
from landscape.errors import UserError
from landscape.folders import Unwritable, json_object, write_json
from landscape.subspace import dense_parameters, is_attached
from landscape.sweep.changed import refuse_changed
from landscape.sweep.config import RunConfig
from landscape.sweep.executors.executor import Event, Executor, Job, Places
from landscape.sweep.executors.local import local
from landscape.sweep.inputs import refuse_lacking
from landscape.sweep.lock import Elsewhere, claimed
from landscape.sweep.measuring import Measuring
from landscape.sweep.preparing import Base, load_base, prepared
from landscape.sweep.running import FAILURES, TRAINING, is_done, said_of, settings_of
from landscape.sweep.store import PACKS, RunStore
from landscape.training.packed import Lane, finetune_packed, lane_of, why_not

_SHARED = ("model", "dtype", "head", "task", "num_train", "epochs", "batch_size", "settings")
"""What the runs of a pack have in common: all that makes them one forward, of one length."""
PACK = 8
"""Most runs together, unless one says how many: a GPU wants more."""
_ALONE = ("result.json", "checkpoint.safetensors")
"""What a training has that is finished, or was begun alone and goes on so: no step is lost."""


def packed(pack: int = PACK, workers: int = 1) -> Executor:
    """Return an executor that trains runs of one frozen model together, so many at a time.

    A run that cannot be packed (its method changes the model, its mask moves, it is measured while
    it trains) is computed alone, as by `local`. So are those of a pack that fails, as for want of
    memory, from their first steps on; it is told why. Which runs are together is written down
    before they begin: a pack that was killed goes on with the same, and ends bit for bit as one
    that was not. Results are those of the local executor to rounding, but for a model with dropout
    on a GPU: its lanes draw masks of their own, the same whichever runs are packed with them.

    Args:
        pack: most runs together, at least 1.
        workers: processes for the runs that are computed alone, and for measurements.

    Raises:
        UserError: a number below 1; called, as `local` does, or where a pack cannot be written.
    """
    return _Packed(checks.whole("pack", pack, least=1), local(workers))


@dataclass(frozen=True)
class _Packed:
    pack: int
    alone: Executor

    def __call__(
        self, jobs: Sequence[Job], store: RunStore, places: Places, tell: Callable[[Event], None]
    ) -> None:
        store.create()
        left = {job.config.address: job for job in jobs if not is_done(job, store)}
        refuse_lacking(list(left.values()), places)
        refuse_changed(list(left.values()), store, places)
        for group in self._groups(list(left.values()), store, places):
            try:
                _train(group, store, places, tell)
            except (*FAILURES, Elsewhere) as error:
                if isinstance(error, Unwritable) and error.everywhere:
                    raise
                if not isinstance(error, Elsewhere):  # else each waits for who computes it
                    tell(Event("alone", Job(group[0]), said=said_of(error)))
            finally:
                gc.collect()  # a pack refers to itself
                torch.cuda.empty_cache()  # for the processes of those that are computed alone
        self.alone(list(left.values()), store, places, tell)

    def _groups(
        self, jobs: Sequence[Job], store: RunStore, places: Places
    ) -> Iterator[list[RunConfig]]:
        """Give the runs of each pack: first those that were begun, then new ones."""
        begun: set[str] = set()
        wanted = {job.config.address for job in jobs}
        for path in sorted((store.folder / PACKS).glob("*/pack.json")):
            configs = _read(path)
            if wanted & {config.address for config in configs}:
                begun |= {config.address for config in configs}
                yield configs
        groups: dict[str, list[RunConfig]] = {}
        for job in jobs:
            config = job.config
            training = store.path(config) / TRAINING
            trained = any((training / name).exists() for name in _ALONE)
            if config.address in begun or trained or config.schedule or config.method == "none":
                continue
            if not Measuring(job, store).lacks("during"):
                shared = config.as_dict()
                together = str([shared[name] for name in _SHARED])
                groups.setdefault(together, []).append(config)
        for found in groups.values():
            yield from (found[i : i + self.pack] for i in range(0, len(found), self.pack))


def _train(
    configs: Sequence[RunConfig], store: RunStore, places: Places, tell: Callable[[Event], None]
) -> None:
    """Train the runs of a pack that can be packed; each leaves its training in its own folder."""
    base = load_base(configs[0], places)
    lanes: list[Lane] = []
    runs: list[RunConfig] = []
    for config in configs:
        try:
            lane = _lane(config, base, places)
        except FAILURES:
            continue
        if why_not(base.model, lane) is None:
            lanes.append(lane)
            runs.append(config)
    if len(lanes) < 2:
        return
    name = hashlib.sha256("\0".join(c.address for c in runs).encode()).hexdigest()[:16]
    folder = store.folder / PACKS / name
    with ExitStack() as stack:
        for config in runs:
            stack.enter_context(claimed(store.path(config), wait=False))
        write_json(folder / "pack.json", {"runs": [c.as_dict() for c in runs]})
        for config in runs:
            tell(Event("began", Job(config)))
            write_json(store.path(config) / "config.json", config.as_dict())
        finetune_packed(
            base.model, base.tokenizer, lanes, folder=folder,
            folders=[store.path(config) / TRAINING for config in runs],
            tell=lambda lane, taken, total: tell(Event("step", Job(runs[lane]), taken, total)),
        )  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)  # what is left of it names finished runs alone


def _lane(config: RunConfig, base: Base, places: Places) -> Lane:
    """Return a run as a lane: its mask, what it trains whole, and its own head."""
    settings: dict[str, Any] = settings_of(Job(config))
    with prepared(config, places) as made:
        held = dict(made.model.named_parameters())
        masked = made.mask.indices if made.mask is not None else {}
        # the base's head is that of the run before which it was loaded: each lane takes its own
        head = {
            name: value.detach().clone() for name, value in held.items()
            if name not in masked and any(name.startswith(f"{module}.") for module in base.head)
        }  # fmt: skip
        if not is_attached(made.model) or made.model is not base.model:
            lane = lane_of(base.model, made.model, made.task, **settings)
            lane.values.update((n, v) for n, v in head.items() if n not in lane.values)
            return lane
        return Lane(
            made.task, mask=made.mask, dense=list(dense_parameters(made.model)), values=head,
            **settings,
        )  # fmt: skip


def _read(path: Path) -> list[RunConfig]:
    """Return the runs of a pack that was begun.

    Raises:
        UserError: the file is damaged.
    """
    found = json_object(path.read_text(encoding="utf-8"), path).get("runs")
    if not isinstance(found, list):
        raise UserError(f"expected the runs of a pack in {path}, got none; remove its folder")
    return [RunConfig.of(given) for given in found]
