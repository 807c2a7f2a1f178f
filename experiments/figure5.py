"""Figure 5 of Xu & Zhang 2024: structured against random masks, and what the landscape says of it.

The paper compares accuracies alone. The same runs here also give each mask's sharpness and
distance: whether a structured mask is worse because its landscape is another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import landscape as ls
from experiments.cell import (
    best_on_dev,
    load_task,
    scaled_rates,
    sharpness,
    train_cell,
    zero_shot,
)
from experiments.figure5_report import check, render
from experiments.harness import PACKAGED, Artefact, Setting, Store
from experiments.settings import paper

KINDS = ("random", "structured")


@dataclass(frozen=True)
class Config(Setting):
    """The defaults are the paper's, the presets hold the deviations."""

    #: the learning rates tried are each of these over the ratio, at most max_rate
    rate_times_ratio: tuple[float, ...] = (1e-7, 1e-6, 1e-5)
    #: largest learning rate tried
    max_rate: float = paper(1e-1)
    #: passes over the training examples
    epochs: int = paper(5)
    #: examples a step
    batch_size: int = paper(8)
    #: training, development and test examples
    num_train: int = paper(1000)
    num_dev: int = paper(500)
    num_test: int = paper(1000)
    #: training examples that the Hessian averages over
    hessian_examples: int = 64
    #: relative residual at which Lanczos stops
    tolerance: float = 1e-2
    #: products after which Lanczos stops
    max_products: int = 60


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": PACKAGED | {
        "epochs": 1, "ratios": (1e-2, 1e-4), "rate_times_ratio": (1e-5,), "seeds": (0,),
        "num_train": 64, "num_dev": 32, "num_test": 64, "hessian_examples": 4,
        "tolerance": 5e-2, "max_products": 16,
    },
    "local": PACKAGED | {
        "epochs": 1, "ratios": (1e-2, 1e-3, 1e-4), "rate_times_ratio": (3e-6, 1e-5, 3e-5),
        "max_rate": 1.0, "num_train": 320, "num_dev": 128, "num_test": 256,
        "hessian_examples": 16, "tolerance": 2e-2, "max_products": 30,
    },
    "paper": {},
}  # fmt: skip


def compute(config: Config, store: Store) -> None:
    """Tune the rate of each mask on dev with the first seed, then run every seed at the best."""
    model, tokenizer = ls.load_model(config.model)
    for seed in config.seeds:
        task = load_task(config, seed)
        store.compute(f"zero-shot/seed={seed}", lambda: zero_shot(model, tokenizer, task, seed))  # noqa: B023
        for ratio in config.ratios:
            for mask in KINDS:
                for rate in _rates(config, store, mask, ratio, seed):
                    _train(config, store, model, tokenizer, task, mask, ratio, rate, seed)
                _sharpness(config, store, model, tokenizer, task, mask, ratio, seed)


def chosen_rate(config: Config, store: Store, mask: str, ratio: float) -> float:
    """Return the rate that was best on dev with the first seed."""
    seed = config.seeds[0]
    keys = [_key(mask, ratio, rate, seed) for rate in scaled_rates(config, ratio)]
    return float(best_on_dev([store[key] for key in keys])["rate"])


def expected(config: Config) -> list[str]:
    """List the keys that can be known before running, and a pattern for each of the others."""
    first, *others = config.seeds
    keys = [f"zero-shot/seed={seed}" for seed in config.seeds]
    for mask in KINDS:
        for ratio in config.ratios:
            keys += [_key(mask, ratio, rate, first) for rate in scaled_rates(config, ratio)]
            keys += [f"train/{mask}/ratio={ratio:g}/*/seed={seed}" for seed in others]
            keys += [f"sharpness/{mask}/ratio={ratio:g}/seed={seed}" for seed in config.seeds]
    return keys


def draw(model: Any, mask: str, ratio: float, targets: str, seed: int) -> ls.Mask:
    """Draw a mask of exactly the budget: single weights, or whole columns (section 4.4)."""
    if mask == "random":
        return ls.random_mask(model, ratio=ratio, targets=targets, seed=seed, sampling="exact")
    return ls.structured_mask(model, granularity="columns", ratio=ratio, targets=targets, seed=seed)


def _key(mask: str, ratio: float, rate: float, seed: int) -> str:
    return f"train/{mask}/ratio={ratio:g}/rate={rate:g}/seed={seed}"


def _rates(config: Config, store: Store, mask: str, ratio: float, seed: int) -> list[float]:
    if seed == config.seeds[0]:
        return scaled_rates(config, ratio)
    return [chosen_rate(config, store, mask, ratio)]


def _train(
    config: Config, store: Store, model: Any, tokenizer: Any, task: ls.Task,
    mask: str, ratio: float, rate: float, seed: int,
) -> None:  # fmt: skip
    key = _key(mask, ratio, rate, seed)

    def train() -> dict[str, Any]:
        ls.attach(model, draw(model, mask, ratio, config.targets, seed))
        try:
            row = train_cell(config, model, tokenizer, task, rate=rate, seed=seed)
            ls.save_delta(model, store.folder / "deltas" / f"{key.replace('/', '_')}.safetensors")
        finally:
            ls.detach(model)
        return row | {"mask": mask, "ratio": ratio}

    if key not in store:
        store.say(f"training a {mask} mask at ratio {ratio:g}, rate {rate:g}, seed {seed}")
    store.compute(key, train)


def _sharpness(
    config: Config, store: Store, model: Any, tokenizer: Any, task: ls.Task,
    mask: str, ratio: float, seed: int,
) -> None:  # fmt: skip
    key = f"sharpness/{mask}/ratio={ratio:g}/seed={seed}"
    rate = chosen_rate(config, store, mask, ratio)
    trained = _key(mask, ratio, rate, seed).replace("/", "_")

    def measure() -> dict[str, Any]:
        row = {"kind": "sharpness", "mask": mask, "ratio": ratio, "rate": rate, "seed": seed}
        for when in ("before", "after"):
            if when == "before":
                ls.attach(model, draw(model, mask, ratio, config.targets, seed))
            else:
                ls.load_delta(model, store.folder / "deltas" / f"{trained}.safetensors")
            try:
                found = sharpness(config, model, tokenizer, task)
            finally:
                ls.detach(model)
            row |= {f"{name}_{when}": value for name, value in found.items()}
        return row

    if key not in store:
        store.say(f"sharpness of a {mask} mask at ratio {ratio:g}, seed {seed}")
    store.compute(key, measure)


ARTEFACT = Artefact(
    name="figure5",
    title="Structured against random masks: accuracy, sharpness and distance against the ratio",
    source="Xu & Zhang 2024, figure 5 and table 8",
    config=Config,
    presets=PRESETS,
    rows=compute,
    render=render,
    check=check,
    expected=expected,
)
