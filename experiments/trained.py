"""A mask at its two ends: at the pretrained weights, and after training; for landscapes at both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import landscape as ls
from experiments.harness import Row, Setting, Store
from experiments.settings import paper

ENDS = ("before", "after")


@dataclass(frozen=True)
class TrainedSetting(Setting):
    """Add to the shared setting how a mask is trained: AdamW at a rate that goes like 1 / ratio."""

    #: each seed draws its mask, its examples and their order
    seeds: tuple[int, ...] = (0,)
    #: the learning rate is this over the ratio, at most max_rate
    rate_times_ratio: float = 1e-6
    #: largest learning rate
    max_rate: float = 1.0
    #: passes over the training examples
    epochs: int = paper(5)
    #: examples a step
    batch_size: int = paper(8)
    #: training examples
    num_train: int = paper(1000)
    #: development examples, on which the checkpoint is chosen
    num_dev: int = paper(500)


def load_examples(config: Any, seed: int) -> ls.Task:
    """Load the configuration's examples of a seed; test is not used."""
    return ls.load_task(
        config.task, source=config.source or None, num_train=config.num_train,
        num_dev=config.num_dev, num_test=8, seed=seed,
    )  # fmt: skip


def train_key(ratio: float, seed: int) -> str:
    """Return the key of the row of `train`."""
    return f"train/ratio={ratio:g}/seed={seed}"


def train(
    config: TrainedSetting, store: Store, model: Any, tokenizer: Any, task: ls.Task,
    ratio: float, seed: int, *, probes: Sequence[Any] = (),
    conclude: Callable[[], dict[str, Any]] = dict,
) -> Row:  # fmt: skip
    """Train a random mask once; its row says how, its delta file lies in the store's folder.

    Args:
        probes: as `landscape.finetune`.
        conclude: called at the chosen checkpoint; what it returns joins the row.
    """
    key = train_key(ratio, seed)
    rate = min(config.rate_times_ratio / ratio, config.max_rate)

    def run() -> dict[str, Any]:
        mask = ls.random_mask(model, ratio=ratio, targets=config.targets, seed=seed)
        ls.attach(model, mask)
        try:
            done = ls.finetune(
                model, tokenizer, task, lr=rate, epochs=config.epochs,
                batch_size=config.batch_size, seed=seed, test=False, probes=probes, progress=True,
            )  # fmt: skip
            ls.save_delta(model, delta_path(store, ratio, seed))
            concluded = conclude()
        finally:
            ls.detach(model)
        dev = done.metrics["dev"] or {}
        return {
            "kind": "train", "ratio": ratio, "seed": seed, "rate": rate, "count": mask.count,
            "density": mask.density, "dev_accuracy": dev.get(task.metric),
            "distance": done.distance["l2"], "diverged": done.diverged,
            "train_loss": [record["loss"] for record in done.history], **concluded,
        }  # fmt: skip

    if key not in store:
        store.say(f"training at ratio {ratio:g}, rate {rate:.3g}, seed {seed}")
    return store.compute(key, run)


def delta_path(store: Store, ratio: float, seed: int) -> Path:
    """Return where the trained numbers of a mask lie."""
    return store.folder / "runs" / f"ratio={ratio:g}_seed={seed}.safetensors"


@contextmanager
def at_end(
    config: TrainedSetting, store: Store, model: Any, ratio: float, seed: int, when: str
) -> Iterator[None]:
    """Attach a mask before or after training, and detach it at the end."""
    if when == "before":
        mask = ls.random_mask(model, ratio=ratio, targets=config.targets, seed=seed)
        ls.attach(model, mask)
    else:
        ls.load_delta(model, delta_path(store, ratio, seed))
    try:
        yield
    finally:
        ls.detach(model)
