"""The grids of Xu & Zhang 2024 as data: what its artefacts share, so that they share runs.

"paper" is their protocol: three OPT models, eleven tasks with 1000 training examples, 5 epochs,
batches of 8, one mask for the three runs, the checkpoint of the lowest dev loss, every rate of
{1e-1, .., 1e-6}. "local" is three epochs on models and reviews that come as packages, and on SST-2,
small enough for an hour or two of two cores and ten minutes of a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit.presets import SMOKE
from landscape.sweep.grid import Grid
from landscape.sweep.rates import Rates

Shared = Mapping[str, Any]
Measure = Mapping[str, Mapping[str, Any]]

MINILM = {"model": "minilm-l6", "task": "rotten_tomatoes", "epochs": 3}
MINILM_SST2 = MINILM | {"task": "sst2"}
SMOLLM2 = MINILM | {"model": "smollm2-135m"}
SMOLLM2_SST2 = SMOLLM2 | {"task": "sst2"}
OPT = "facebook/opt-125m", "facebook/opt-1.3b", "facebook/opt-13b"
TASKS = (
    "sst2", "rte", "wsc", "wic", "cb", "boolq", "multirc", "copa", "record", "squad", "drop",
)  # fmt: skip

RATIOS: Mapping[str, tuple[float, ...]] = {
    "smoke": (1e-3, 1e-5),
    "local": (1e-2, 1e-3, 1e-4, 1e-5),
    "paper": (1e-1, 5e-2, 1e-2, 5e-3, 1e-3, 5e-4, 1e-4, 5e-5, 1e-5),
}
SEEDS: Mapping[str, tuple[int, ...]] = {
    "smoke": (0, 1), "local": (0, 1, 2, 3, 4), "paper": (0, 1, 2),
}  # fmt: skip
DECADES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""The paper's grid of rates, for every method."""
OVER_RATIO = Rates((3e-6, 1e-5, 3e-5), over_ratio=True, widen=6)
"""Of masks: half a decade apart from the best rates known here, and as far as three decades on."""
OF_BASELINES: Mapping[str, tuple[float, ...]] = {
    "full": (1e-5, 3e-5, 1e-4), "lora": (3e-4, 1e-3, 3e-3), "adalora": (1e-3, 3e-3, 1e-2),
    "adapter": (3e-4, 1e-3, 3e-3), "prefix": (3e-3, 1e-2, 3e-2), "bitfit": (1e-3, 3e-3, 1e-2),
}  # fmt: skip
#: methods with their options: the paper's
RANDOM: tuple[str, dict[str, Any]] = ("random", {})
STRUCTURED: tuple[str, dict[str, Any]] = ("structured", {"granularity": "columns"})
FIRST: tuple[str, dict[str, Any]] = ("structured", {"granularity": "columns", "order": "first"})
OPTIONS: Mapping[str, dict[str, Any]] = {
    "lora": {"rank": 8, "alpha": 16}, "adalora": {"rank": 8, "alpha": 16}, "adapter": {"width": 8},
    "prefix": {"length": 5},
}  # fmt: skip
SHARPNESS: Mapping[str, dict[str, Any]] = {
    "smoke": {"examples": 4, "tol": 0.1, "max_matvecs": 30},
    "local": {"examples": 32, "tol": 0.05, "max_matvecs": 30},
    "paper": {"examples": 128, "tol": 0.01, "max_matvecs": 60},
}


def cases(preset: str, local: Sequence[Shared], tasks: Sequence[str] = TASKS) -> list[Shared]:
    """Return what the runs of a preset share, by model and task.

    Args:
        preset: smoke, local or paper.
        local: the cases of the preset local.
        tasks: those of the preset paper.
    """
    if preset == "smoke":
        return [SMOKE]
    return list(local) if preset == "local" else [opt(m, task) for m in OPT for task in tasks]


def opt(model: str, task: str, paper_mask: bool = True) -> Shared:
    """Return the paper's own protocol for one of its models and tasks."""
    from landscape.tasks.protocol import reference_settings
    from landscape.tasks.sets import DATASETS

    settings = reference_settings(task)
    sizes = DATASETS[task].sizes
    return {
        "model": model, "task": task, "num_train": sizes.train, "num_dev": sizes.dev,
        "num_test": sizes.test, "epochs": settings.pop("epochs"),
        "batch_size": settings.pop("batch_size"), "settings": settings | {"bos": 0},
    } | ({"mask_seed": 42} if paper_mask else {})  # fmt: skip


def masks(
    preset: str, shared: Shared, *, kinds: Sequence[tuple[str, dict[str, Any]]] = (RANDOM,),
    ratios: Sequence[float] = (), rates: Rates | None = None, measure: Measure | None = None,
) -> Grid:  # fmt: skip
    """Return the runs of masks of a case, at every ratio with every seed.

    Args:
        preset: smoke, local or paper.
        shared: the case.
        kinds: methods with their options.
        ratios: the preset's, unless others are given.
        rates: how rates are found, unless it is the preset's way: on dev with the first seed.
        measure: what is measured on every run.
    """
    axes = {"ratio": tuple(ratios) or RATIOS[preset], "method+options": list(kinds),
            "seed": SEEDS[preset]}  # fmt: skip
    return Grid(shared, axes, rates or rates_of(preset, "random"), measure or {})


def baselines(preset: str, shared: Shared, names: Sequence[str]) -> list[Grid]:
    """Return the runs of baselines of a case, and of the pretrained model for "none"."""
    seeds = {"seed": SEEDS[preset]}
    plain = {k: v for k, v in shared.items() if k != "mask_seed"}
    return [
        Grid({**plain, "method": name, "options": OPTIONS.get(name, {})}, seeds,
             None if name == "none" else rates_of(preset, name))
        for name in names
    ]  # fmt: skip


def fitting(preset: str, shared: Shared) -> list[str]:
    """Return the baselines that are run on a case: BitFit needs biases, prefixes a prompt.

    Locally those of the appendix (adapter, AdaLoRA, prefix) are run on the packaged reviews alone.
    """
    small, prompted = shared["model"] == "minilm-l6", shared["model"] == "smollm2-135m"
    names = ["none", "full", "lora"] + ["bitfit"] * (not prompted)
    if preset == "paper":
        return [*names, "adapter", "adalora", "prefix"]
    if preset == "local" and shared["task"] == "rotten_tomatoes":
        names += ["adapter", "adalora"] * small + ["prefix"] * prompted
    return names


def named(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record's arm as tables and figures name it."""
    return {"arm": NAMES.get(record["method"], record["method"])}


NAMES: Mapping[str, str] = {
    "none": "before training", "random": "masks", "structured": "columns",
    "full": "full fine-tuning", "lora": "LoRA", "adalora": "AdaLoRA", "adapter": "adapters",
    "prefix": "prefixes", "bitfit": "BitFit",
}  # fmt: skip
METHODS: Mapping[str, str] = {name: method for method, name in NAMES.items()}
OWN = "masks, every seed's own rate"
"""The arm of masks whose every seed chooses its rate, so that the rate has seeds to vary over."""
DIFFERENCES = (
    ("models {model} instead of OPT-125m, 1.3b and 13b",
     "smaller, of other families; an encoder has a head that is fitted to the examples and frozen"),
    ("tasks {task}, {epochs} epochs; the paper has eleven tasks and 5 epochs",
     "levels differ, the order may not"),
    ("every seed draws its own mask, examples and order; the paper keeps one mask for three runs",
     "our deviation over seeds includes the mask's"),
    ("rates half a decade apart, chosen on dev with the first seed; the paper's are a decade apart,"
     " and by what they are chosen it does not say", "none is expected"),
    ("the checkpoint of the best dev accuracy; the paper's code keeps that of the lowest dev loss",
     "a few thousandths of accuracy"),
)  # fmt: skip
DEVICES = (
    "computed on {device}; where arms have one each, they differ by it as well",
    "a seed has the same examples, order and mask on all, but rounds, and may drop out, otherwise: "
    "scatter, and no bias that is known",
)
"""A further difference, of artefacts that compare runs of several devices."""


def rates_of(preset: str, method: str) -> Rates:
    """Return the rates that a preset tries for a method."""
    if preset == "paper":
        return Rates(DECADES, widen=0)
    if preset == "smoke":
        tried = OF_BASELINES.get(method, (1e-5,))[-1:]
        return Rates(tried, over_ratio=method not in OF_BASELINES)
    return Rates(OF_BASELINES[method]) if method in OF_BASELINES else OVER_RATIO
