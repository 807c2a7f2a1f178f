"""The rate predictor `landscape.suggest_lr` against grids of rates, and against c / ratio.

A cell is a model, a pattern of masked modules, an optimiser, a ratio and a seed. Its grid holds
half decades of rates; each rate trains for one short epoch from the pretrained weights. What the
predictor measures is stored raw, so that its constants can be fitted again without computing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

import landscape as ls
from experiments.cell import load_pretrained
from experiments.harness import Artefact, Store
from experiments.rates_report import check, render
from experiments.rates_rules import measure_alternatives
from landscape import seeds
from landscape.advisor import measure_rates
from landscape.training import Loop, make_optimizer
from landscape.training.mode import training_mode

BERT_ATTENTION = ("*.attention.self.query", "*.attention.self.value")


@dataclass(frozen=True)
class Case:
    """Say what is trained on which grid."""

    #: model: a packaged name, a hub name or a path
    model: str
    #: patterns of the masked modules
    targets: tuple[str, ...]
    #: ratios with AdamW; each multiple is a rate times the ratio
    ratios: tuple[float, ...]
    rate_times_ratio: tuple[float, ...]
    #: each seed draws its mask, its examples, their order, and a random head
    seeds: tuple[int, ...] = (0,)
    #: an encoder's head: fitted on the training examples, or random
    head: str = "fitted"
    #: score of `select_mask` that chooses the weights; none: a random mask
    score: str = ""
    #: ratios with SGD; each multiple is a rate in units of 2 / sharpness
    sgd_ratios: tuple[float, ...] = ()
    sgd_multiples: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)


DECADES = (1e-2, 1e-3, 1e-4, 1e-5)
HALF_DECADES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
WIDE = (3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4)
CASES: dict[str, Case] = {
    "encoder": Case(
        "minilm-l6", BERT_ATTENTION, HALF_DECADES, WIDE, seeds=(0, 1, 2), sgd_ratios=DECADES
    ),
    "encoder, random head": Case("minilm-l6", BERT_ATTENTION, DECADES, WIDE, head="random"),
    "encoder, all layers": Case("minilm-l6", ("bert.encoder.*.weight",), DECADES, WIDE),
    "encoder, last layer": Case("minilm-l6", ("bert.encoder.layer.5.*.weight",), DECADES[:3], WIDE),
    "encoder, largest gradients": Case(
        "minilm-l6", BERT_ATTENTION, DECADES[:3], (3e-8, 1e-7, *WIDE), score="gradient"
    ),
    "encoder, largest weights": Case(
        "minilm-l6", BERT_ATTENTION, DECADES[:3], WIDE, score="magnitude"
    ),
    "language model": Case(
        "smollm2-135m", ("*.[qv]_proj",), DECADES, (1e-6, 3e-6, 1e-5, 3e-5, 1e-4)
    ),
    "tiny": Case(
        "minilm-l6", BERT_ATTENTION, (1e-3,), (1e-5, 1e-4), sgd_ratios=(1e-3,), sgd_multiples=(0.3,)
    ),
    "opt": Case(
        "facebook/opt-125m", ("*.[qv]_proj",), (1e-1, *HALF_DECADES), WIDE, seeds=(0, 1, 2)
    ),
}


@dataclass(frozen=True)
class Config:
    """Say which cases are run, on how much data; the defaults are for the papers' own model."""

    #: names of the cases
    cases: tuple[str, ...] = ("opt",)
    #: task, by name, and the folder of its files instead of the hub
    task: str = "sst2"
    source: str = ""
    #: seeds, of those that a case has
    seeds: tuple[int, ...] = (0, 1, 2)
    #: training examples, in one epoch
    num_train: int = 320
    #: examples a step
    batch_size: int = 8
    #: development examples that judge a rate
    num_dev: int = 256
    #: training examples that the predictor sees
    examples: int = 64


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "cases": ("tiny",), "task": "rotten_tomatoes", "num_train": 32, "num_dev": 32,
        "examples": 24, "seeds": (0,),
    },
    "local": {
        "cases": (
            "encoder", "encoder, random head", "encoder, all layers", "encoder, last layer",
            "encoder, largest gradients", "encoder, largest weights", "language model",
        ),
        "task": "rotten_tomatoes", "num_dev": 128, "seeds": (0,),
    },
    "paper": {},
}  # fmt: skip


def compute(config: Config, store: Store) -> None:
    """Measure and train every cell."""
    for name in config.cases:
        case = CASES[name]
        for seed in _seeds(config, case):
            if all(key in store for key in _keys(name, case, seed)):
                continue
            task = ls.load_task(
                config.task, source=config.source or None, num_train=config.num_train,
                num_dev=config.num_dev, num_test=1, seed=seed,
            )  # fmt: skip
            _seed_rows(config, store, name, task, seed, *_load(case, task, seed))


def expected(config: Config) -> list[str]:
    """List the keys of all rows."""
    return [
        key for name in config.cases for seed in _seeds(config, CASES[name])
        for key in _keys(name, CASES[name], seed)
    ]  # fmt: skip


def _seeds(config: Config, case: Case) -> list[int]:
    return [seed for seed in case.seeds if seed in config.seeds]


def _cells(case: Case) -> Iterator[tuple[str, float, tuple[float, ...]]]:
    """List (optimiser, ratio, multiples of the unit of its rates)."""
    yield from (("adamw", ratio, case.rate_times_ratio) for ratio in case.ratios)
    yield from (("sgd", ratio, case.sgd_multiples) for ratio in case.sgd_ratios)


def _keys(name: str, case: Case, seed: int) -> list[str]:
    keys = [f"before/{name}/seed={seed}"]
    for optimizer, ratio, multiples in _cells(case):
        keys += _cell_keys(f"{name}/{optimizer}/ratio={ratio:g}/seed={seed}", multiples)
    return keys


def _cell_keys(cell: str, multiples: tuple[float, ...]) -> list[str]:
    trained = [f"train/{cell}/scale={multiple:g}" for multiple in multiples]
    return [f"evidence/{cell}", f"alternatives/{cell}", *trained]


def _load(case: Case, task: ls.Task, seed: int) -> tuple[Any, Any]:
    if case.head == "random":
        return ls.load_model(case.model, num_labels=2, seed=seed)
    return load_pretrained(case, task)


def _seed_rows(
    config: Config, store: Store, name: str, task: ls.Task, seed: int, model: Any, tokenizer: Any
) -> None:
    case, where = CASES[name], {"case": name, "seed": seed}
    dev = ls.make_batches(task.dev, tokenizer, 32, sort=True, loss=task.loss)
    groups = _groups(config, task, tokenizer)
    store.compute(
        f"before/{name}/seed={seed}",
        lambda: {"kind": "before", **where, "dev_losses": dev_losses(model, dev)},
    )

    def trained(masked: _Masked, optimizer: str, rate: float) -> dict[str, Any]:
        with masked:
            run = _TRAINERS[optimizer](config, model, tokenizer, task, rate, seed)
            return {**run, "dev_losses": dev_losses(model, dev)}

    def measured(masked: _Masked, optimizer: str, measure: Any) -> dict[str, Any]:
        with masked:
            return {"measured": dataclasses.asdict(measure(model, groups, optimizer=optimizer))}

    for optimizer, ratio, multiples in _cells(case):
        row = where | {"optimizer": optimizer, "ratio": ratio}
        cell = f"{name}/{optimizer}/ratio={ratio:g}/seed={seed}"
        if all(key in store for key in _cell_keys(cell, multiples)):
            continue
        masked = _Masked(model, _mask(case, model, groups, ratio, seed))
        for kind, measure in _MEASURES.items():
            said = partial(measured, masked, optimizer, measure)
            _row(store, f"{kind}/{cell}", row | {"kind": kind}, said)
        unit = 1 / ratio
        if optimizer == "sgd":
            unit = 2 / store[f"evidence/{cell}"]["measured"]["eigenvalue"]
        for multiple in multiples:
            rate = float(f"{multiple * unit:.3g}")
            kept = row | {"kind": "train", "rate": rate, "scale": multiple}
            key = f"train/{cell}/scale={multiple:g}"
            _row(store, key, kept, partial(trained, masked, optimizer, rate))


def _row(store: Store, key: str, row: dict[str, Any], values: Callable[[], dict[str, Any]]) -> None:
    if key not in store:
        store.say(key)
    store.compute(key, lambda: row | values())


def _mask(case: Case, model: Any, groups: list[Any], ratio: float, seed: int) -> ls.Mask:
    if not case.score:
        return ls.random_mask(model, ratio=ratio, targets=case.targets, seed=seed)
    batches = [part for group in groups for part in group]
    return ls.select_mask(
        model, score=case.score, batches=batches, ratio=ratio, targets=case.targets
    )


class _Masked:
    """Attach a cell's mask, and detach it whatever happens."""

    def __init__(self, model: Any, mask: ls.Mask) -> None:
        self._model, self._mask = model, mask

    def __enter__(self) -> None:
        ls.attach(self._model, self._mask)

    def __exit__(self, *_: object) -> None:
        ls.detach(self._model)


def _groups(config: Config, task: ls.Task, tokenizer: Any) -> list[Any]:
    """Cut the predictor's examples into batches of a step, each in parts of four rows."""
    size, chosen = config.batch_size, task.train[: config.examples]
    return [
        ls.make_batches(chosen[i : i + size], tokenizer, 4, sort=True, loss=task.loss)
        for i in range(0, len(chosen), size)
    ]


@torch.no_grad()
def dev_losses(model: Any, batches: Any) -> list[float | None]:
    """Return the loss of every development example, None where it is not finite."""
    model.eval()
    losses: list[float | None] = []
    for batch in batches:
        outputs, loss = ls.task_split(model, batch)
        losses += [round(t, 5) if math.isfinite(t) else None for t in loss(outputs)[0].tolist()]
    return losses


def _adamw(
    config: Config, model: Any, tokenizer: Any, task: ls.Task, rate: float, seed: int
) -> dict[str, Any]:
    """Train with `finetune` and leave the model at the end of the epoch, diverged or not."""
    single = dataclasses.replace(task, dev=task.dev[:1])
    run = ls.finetune(
        model, tokenizer, single, lr=rate, epochs=1, batch_size=config.batch_size, seed=seed,
        test=False,
    )  # fmt: skip
    return {"diverged": run.diverged, "losses": [h["loss"] for h in run.history],
            "distance": run.distance["l2"]}  # fmt: skip


def _sgd(
    config: Config, model: Any, tokenizer: Any, task: ls.Task, rate: float, seed: int
) -> dict[str, Any]:
    """Take plain steps without clipping, in the same number; stop where a loss is not finite."""
    order = torch.randperm(len(task.train), generator=seeds.generator(seed)).tolist()
    batches = ls.make_batches(
        [task.train[i] for i in order], tokenizer, config.batch_size, loss=task.loss
    )
    loop = Loop(model, make_optimizer("sgd", ls.trainable(model).values(), lr=rate), ls.task_loss)
    with training_mode(model, seed):
        losses = [record["loss"] for record in loop.over(batches)]
    model.eval()
    return {"diverged": loop.diverged, "losses": losses,
            "distance": ls.distance(model).l2}  # fmt: skip


_TRAINERS = {"adamw": _adamw, "sgd": _sgd}
_MEASURES: dict[str, Callable[..., Any]] = {
    "evidence": measure_rates, "alternatives": measure_alternatives,
}  # fmt: skip

ARTEFACT = Artefact(
    name="rates",
    title="Learning rates predicted without training, against grids and a fixed rule",
    source="Xu & Zhang 2024, table 6: the best rate is about 1e-6 / ratio",
    config=Config,
    presets=PRESETS,
    rows=compute,
    render=render,
    check=check,
    expected=expected,
)
