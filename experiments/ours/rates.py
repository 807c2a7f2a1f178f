"""The rate predictor `landscape.suggest_lr` against grids of rates, and against c / ratio.

A cell is a model, a pattern of masked modules, an optimizer, a ratio and a seed. Its grid holds
half decades of rates; each rate trains for one short epoch from the pretrained weights. What the
predictor measures is stored raw, so that its constants can be fitted again without computing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import landscape as ls
from experiments.kit.artefact import Artefact
from experiments.kit.cells import Cell, key
from experiments.kit.measure import attached, load_pretrained, load_task
from experiments.kit.store import Store
from experiments.ours.rates_cases import CASES, Case
from experiments.ours.rates_figure import draw
from experiments.ours.rates_report import PAGE, check, tables

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from landscape.tasks.padding import Batch


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


def cells(config: Config) -> Iterator[Cell]:
    """List, for every case and seed, the start, then each grid after what predicts it."""
    for name in config.cases:
        case = CASES[name]
        for seed in [seed for seed in case.seeds if seed in config.seeds]:
            yield {"kind": "before", "case": name, "seed": seed}
            grids = [("adamw", ratio, case.rate_times_ratio) for ratio in case.ratios]
            grids += [("sgd", ratio, case.sgd_multiples) for ratio in case.sgd_ratios]
            for optimizer, ratio, multiples in grids:
                grid = {"case": name, "optimizer": optimizer, "ratio": ratio, "seed": seed}
                yield {"kind": "evidence", **grid}
                for multiple in multiples:
                    yield {"kind": "train", **grid, "scale": multiple}


@dataclass(frozen=True)
class Setup:
    """Hold what the measurements of a case and a seed share.

    Args:
        config: the artefact's configuration.
        store: its rows so far.
        case: what is trained.
        model: the pretrained model; every measurement leaves it as it was.
        tokenizer: the model's.
        task: with the examples of the seed.
        steps: the predictor's examples in batches of a step, each in parts of four rows.
        masks: those that were drawn, by ratio.
    """

    config: Config
    store: Store
    case: Case
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    task: ls.Task
    steps: list[list[Batch]]
    masks: dict[float, ls.Mask]

    def mask(self, ratio: float, seed: int) -> ls.Mask:
        """Draw or choose the mask of a ratio, once."""
        if ratio not in self.masks:
            self.masks[ratio] = choose_mask(self.case, self.model, self.steps, ratio, seed)
        return self.masks[ratio]


def load(config: Config, store: Store, cell: Cell) -> Setup:
    """Load the model and the examples of a case and a seed."""
    case, seed, size = CASES[cell["case"]], cell["seed"], config.batch_size
    task = load_task(config, seed, num_test=1)
    if case.head == "random":
        model, tokenizer = ls.load_model(case.model, num_labels=2, seed=seed)
    else:
        model, tokenizer = load_pretrained(case.model, task)
    seen = task.train[: config.examples]
    steps = [
        ls.make_batches(seen[i : i + size], tokenizer, 4, sort=True, loss=task.loss)
        for i in range(0, len(seen), size)
    ]
    return Setup(config, store, case, model, tokenizer, task, steps, {})


def choose_mask(
    case: Case, model: nn.Module, steps: list[list[Batch]], ratio: float, seed: int
) -> ls.Mask:
    """Return the mask of a case: random, or by its score on all examples of the predictor."""
    if not case.score:
        return ls.random_mask(model, ratio=ratio, targets=case.targets, seed=seed)
    batches = [part for step in steps for part in step]
    return ls.select_mask(
        model, score=case.score, batches=batches, ratio=ratio, targets=case.targets
    )


def before(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Evaluate the pretrained model."""
    return {"dev_losses": dev_losses(setup)}


def evidence(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Measure what the predictor looks at."""
    from landscape.advisor import measure_rates

    with attached(setup.model, setup.mask(cell["ratio"], cell["seed"])):
        found = measure_rates(setup.model, setup.steps, optimizer=cell["optimizer"])
    return {"measured": dataclasses.asdict(found)}


def train(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Train for an epoch at one rate of the grid, in the optimizer's own unit."""
    unit = 1 / cell["ratio"]
    if cell["optimizer"] == "sgd":
        start = {name: cell[name] for name in ("case", "optimizer", "ratio", "seed")}
        unit = 2 / setup.store[key({"kind": "evidence", **start})]["measured"]["eigenvalue"]
    rate = float(f"{cell['scale'] * unit:.3g}")
    trainer = {"adamw": _adamw, "sgd": _sgd}[cell["optimizer"]]
    with attached(setup.model, setup.mask(cell["ratio"], cell["seed"])):
        run = trainer(setup.config, setup.model, setup.tokenizer, setup.task, rate, cell["seed"])
        return {"rate": rate, **run, "dev_losses": dev_losses(setup)}


def dev_losses(setup: Setup) -> list[float | None]:
    """Return the loss of every development example, None where it is not finite."""
    import torch

    model, task = setup.model, setup.task
    model.eval()
    losses: list[float | None] = []
    with torch.no_grad():
        for batch in ls.make_batches(task.dev, setup.tokenizer, 32, sort=True, loss=task.loss):
            outputs, loss = ls.task_split(model, batch)
            found = loss(outputs)[0].tolist()
            losses += [round(t, 5) if math.isfinite(t) else None for t in found]
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
    import torch

    from landscape import seeds
    from landscape.training.mode import training_mode

    order = torch.randperm(len(task.train), generator=seeds.generator(seed)).tolist()
    batches = ls.make_batches(
        [task.train[i] for i in order], tokenizer, config.batch_size, loss=task.loss
    )
    stepper = ls.training.make_optimizer("sgd", ls.trainable(model).values(), lr=rate)
    loop = ls.training.Loop(model, stepper, ls.task_loss)
    with training_mode(model, seed):
        losses = [record["loss"] for record in loop.over(batches)]
    model.eval()
    return {"diverged": loop.diverged, "losses": losses,
            "distance": ls.distance(model).l2}  # fmt: skip


ARTEFACT = Artefact(
    name="rates",
    title="Learning rates predicted without training, against grids and a fixed rule",
    source="Xu & Zhang 2024, table 6: the best rate is about 1e-6 / ratio",
    config=Config, presets=PRESETS, cells=cells, setup=load,
    shared=("case", "seed"),
    measures={"before": before, "evidence": evidence, "train": train},
    check=check, tables=tables, draw=draw,
    page=PAGE,
)  # fmt: skip
