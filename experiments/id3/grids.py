"""The grids of Agarwal et al. 2024 (ID3) as data: what its artefacts share, so they share runs.

"paper" is DeBERTa-v3-base on GLUE and CoNLL-2003, at their epochs, batches of 16 and four rates.
"local" is MiniLM on three tasks of GLUE and on CoNLL-2003, 1000 training examples, two epochs: too
few for a head that starts at random, at full fine-tuning's small rate, so that it is fitted and
frozen. A budget of 25,728 weights is as many as the encoder has biases, like 103K of DeBERTa's, and
80,000 stands to it as 320K to 103K.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from landscape.sweep.grid import Grid
from landscape.sweep.rates import Rates

Shared = Mapping[str, Any]
Options = dict[str, Any]

LAYERS = ("query", "key", "value", "dense")
"""The layers of table 7a: LoRA's, and those that masks choose from."""
LOCAL = {
    "model": "minilm-l6", "targets": tuple(f"bert.encoder.*.{layer}" for layer in LAYERS),
    "head": "fitted", "epochs": 2, "batch_size": 16,
}  # fmt: skip
SMOKE = LOCAL | {
    "head": "trained",
    "task": "rotten_tomatoes",
    "num_train": 16,
    "num_dev": 8,
    "num_test": 16,
    "epochs": 1,
    "batch_size": 8,
}
DEBERTA = {
    "model": "microsoft/deberta-v3-base", "head": "trained",
    "targets": tuple(f"deberta.encoder.*.{layer}"
                     for layer in ("query_proj", "key_proj", "value_proj", "dense")),
}  # fmt: skip
#: training and dev examples of the official training splits; tested on the official validation
GLUE: Mapping[str, tuple[int, int, int]] = {
    "rte": (2000, 490, 277), "mrpc": (3168, 500, 408), "cola": (7551, 1000, 1043),
    "stsb": (4749, 1000, 1500), "sst2": (66_349, 1000, 872), "qnli": (103_743, 1000, 5463),
    "qqp": (362_846, 1000, 40_430), "mnli": (391_702, 1000, 9815),
    "mnli_mm": (391_702, 1000, 9832), "conll2003": (13_041, 1000, 3250),
}  # fmt: skip
SEEDS: Mapping[str, tuple[int, ...]] = {
    "smoke": (0, 1), "local": (0, 1, 2, 3, 4), "paper": (6, 7, 8, 9),
}  # fmt: skip
#: preset -> budgets as counts: about as many as the biases, and three times as many
SMALL: Mapping[str, int] = {"smoke": 25_728, "local": 25_728, "paper": 103_000}
LARGE: Mapping[str, int] = {"smoke": 80_000, "local": 80_000, "paper": 320_000}
SCORE: Mapping[str, float] = {"eps": 1.0, "exp": 2.0}
"""Of table 7a; the text and figure 4b recommend an exponent of -1."""

#: arm -> method, schedule, options
ARMS: Mapping[str, tuple[str, str, Options]] = {
    "ID3": ("id3", "increment", dict(SCORE)),
    "ID3, repeated": ("id3", "repeat", dict(SCORE)),
    "ID3, static": ("id3", "static", dict(SCORE)),
    "PaFi": ("magnitude_smallest", "", {"scope": "global"}),
    "Fisher": ("fisher", "", {"scope": "global", "examples": 1024}),
    "gradient": ("gradient", "", {"scope": "global"}),
    "random": ("random", "", {"sampling": "exact"}),
    "BitFit": ("bitfit", "", {}),
    "full": ("full", "", {}),
    "LoRA": ("lora", "", {"rank": 8, "alpha": 8}),
    "ID3 + LoRA": ("id3", "increment", {**SCORE, "on": "lora", "rank": 8, "alpha": 8}),
    "PaFi + LoRA": ("magnitude_smallest", "",
                    {"on": "lora", "rank": 8, "alpha": 8, "scope": "tensor"}),
    "adapter": ("adapter", "", {"width": 64, "start": "near identity"}),
    "ID3 + adapter": ("id3", "increment",
                      {**SCORE, "on": "adapter", "width": 64, "start": "near identity"}),
    "SparseAdapter": ("snip", "", {"on": "adapter", "width": 64, "start": "near identity",
                                   "scope": "global"}),
}  # fmt: skip
WHOLE = ("BitFit", "full", "LoRA", "adapter")
"""Arms that have a size of their own instead of a budget."""
RATES: Mapping[str, tuple[float, ...]] = {
    "random": (3e-3, 1e-2),
    "full": (3e-5, 1e-4),
    "BitFit": (3e-3, 1e-2),
    "PaFi": (3e-3, 9e-3),
}
"""Tried locally, half a decade apart; the other arms' are `USUAL`. PaFi's best may be 0.03."""
USUAL = (1e-3, 3e-3)
PAPERS: Mapping[str, tuple[float, ...]] = {"full": (5e-6, 7e-6, 1e-5, 3e-5)}
OF_PAPER = (1e-4, 3e-4, 5e-4, 7e-4)

#: how runs of the preset local differ from the paper's, beside what an artefact says itself
DIFFERENCES = (
    ("{num_train} training examples, {epochs} epochs, locally 1000 test rows at most; the paper "
     "has whole training splits, 3 to 30 epochs and whole test splits",
     "levels are lower; a growing mask has all of its budget at the last of few steps only"),
    ("dev chooses the rate with the first seed, and the checkpoint, and test is of the official "
     "validation split; the paper averages the best three of four rates on that split",
     "its scores are selected"),
    ("locally the head is fitted to the training examples on pretrained features, then frozen, but "
     "full fine-tuning trains it and BitFit its biases; in the paper's code it starts at random "
     "and competes for the budget",
     "smaller gains, and no method starves its head by a small rate"),
    ("masks choose among the linear layers of the encoder", "no embeddings, no norms"),
    ("AdamW counts a weight's steps from its own first, clips what is selected, has no decay, and "
     "forgets a weight that leaves a repeated mask; the paper's toolkit sets gradients to zero, by "
     "which AdamW still moves weights that left", "growing and static masks hardly, repeated more"),
)  # fmt: skip

#: of artefacts whose arms are near each other
CHOSEN = (
    "a rate is chosen by {num_dev} dev rows of one seed",
    "it may miss an arm's best, which no interval over seeds shows",
)
#: of artefacts whose runs were not all computed in one place
DEVICES = (
    "runs are of the devices that the tables name; a CPU and a GPU draw dropout differently",
    "arms of two devices share a seed's data and its random mask, but no dropout: their "
    "differences scatter more, and lie on neither side",
)


def cases(
    preset: str, local: Sequence[str], tasks: Sequence[str] = tuple(GLUE)[:-1]
) -> list[Shared]:
    """Return what the runs of a preset share, by task.

    Args:
        preset: smoke, local or paper.
        local: the tasks of the preset local.
        tasks: those of the preset paper.
    """
    if preset == "smoke":
        return [SMOKE]
    if preset == "local":
        return [LOCAL | {"task": task} for task in local]
    return [deberta(task) for task in tasks]


def deberta(task: str) -> Shared:
    """Return the paper's own protocol for one of its tasks."""
    from landscape.tasks.protocol import reference_settings

    settings = {"epochs": 20, **reference_settings(task, "id3")}
    train, dev, test = GLUE[task]
    return {
        **DEBERTA, "task": task, "num_train": train, "num_dev": dev, "num_test": test,
        "epochs": settings.pop("epochs"), "batch_size": settings.pop("batch_size"),
        "settings": settings,
    }  # fmt: skip


def arms(
    preset: str, shared: Shared, names: Sequence[str], budgets: Sequence[int] = (),
    *, measure: Mapping[str, Mapping[str, Any]] | None = None, lr: float | None = None,
    options: Options | None = None,
) -> list[Grid]:  # fmt: skip
    """Return the runs of some arms of a case, with every budget and seed; "none" is untrained.

    Args:
        preset: smoke, local or paper.
        shared: the case.
        names: of `ARMS`.
        budgets: weights; the small one of the preset unless others are given.
        measure: what is measured on every run.
        lr: the learning rate; None chooses it on dev with the first seed.
        options: other options of the arms' scores.
    """
    found = []
    for name in names:
        method, schedule, usual = ("none", "", {}) if name == "none" else ARMS[name]
        one = {**shared, "method": method, "schedule": schedule, "options": usual | (options or {})}
        axes: dict[str, Sequence[Any]] = {"seed": SEEDS[preset]}
        if name not in (*WHOLE, "none"):
            axes = {"count": tuple(budgets) or (SMALL[preset],), **axes}
        if lr is not None:
            one["lr"] = lr
        rates = None if lr is not None or name == "none" else rates_of(preset, name)
        found.append(Grid(one, axes, rates, measure or {}))
    return found


def rates_of(preset: str, arm: str) -> Rates:
    """Return the rates that a preset tries for an arm."""
    if preset == "paper":
        return Rates(PAPERS.get(arm, OF_PAPER), widen=0)
    tried = RATES.get(arm, USUAL)
    return Rates(tried[-1:] if preset == "smoke" else tried, widen=2)


def named(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the name of a record's arm."""
    return {"arm": arm_of(record)}


def arm_of(record: Mapping[str, Any]) -> str:
    """Find the arm of a record's method, schedule and options."""
    asked = (record["method"], record["schedule"], bool(record["options"].get("on")))
    for name, (method, schedule, options) in ARMS.items():
        if asked == (method, schedule, "on" in options):
            if "on" in options and options["on"] != record["options"]["on"]:
                continue
            return name
    return "before training"
