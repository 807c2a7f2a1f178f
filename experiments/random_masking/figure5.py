"""Figure 5 of Xu & Zhang 2024: structured against random masks, and what the landscape says of it.

The paper compares accuracies alone. The same runs here also give each mask's sharpness and
distance: whether a structured mask is worse because its landscape is another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import landscape as ls
from experiments.kit.artefact import Artefact
from experiments.kit.cells import Cell, chosen, tuned
from experiments.kit.draw import colors, curve, despine, over_ratio, panels
from experiments.kit.intervals import all_met, describe_margin, exponent, gains, interval, margins
from experiments.kit.judge import Finding, above, equal
from experiments.kit.measure import (
    ENDS,
    Setup,
    attached,
    file_of,
    hessian,
    largest,
    load_setup,
    tuned_run,
    zero_shot,
)
from experiments.kit.publish import Page
from experiments.kit.settings import PACKAGED, Tuned
from experiments.kit.store import Row
from experiments.kit.table import first, grouped, lines, paper, seeds, spread

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

KINDS = ("random", "structured")
#: SST-2 accuracy of OPT-125m in per cent by ratio: tables 5 and 8 of Xu & Zhang 2024
PAPER = {
    "random": {1e-1: 87.3, 1e-2: 87.6, 1e-3: 87.3, 1e-4: 86.1, 1e-5: 84.7},
    "structured": {1e-1: 87.2, 1e-2: 87.2, 1e-3: 87.2, 1e-4: 83.3, 1e-5: 79.0},
}
DIFFERENCES = (
    ("model {model}, the paper's smallest is OPT-125m", "other width, no biases, grouped queries"),
    ("task {task}; the paper's column here is SST-2", "levels differ, the order may not"),
    (
        "{num_train} training examples, {epochs} epochs; the paper takes 1000 and 5",
        "fewer steps favour masks that learn fast",
    ),
    (
        "masks hold exactly the budget and every seed draws its own; the paper keeps one Bernoulli "
        "mask for its three runs",
        "our deviation over seeds includes the mask's",
    ),
    (
        "a budget that ends inside a column takes a part of it; the reference drops the column",
        "matters at the smallest ratios, where a tensor has less than a column",
    ),
    ("rates chosen on dev with the first seed; the paper does not say", "none is expected"),
)


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


def cells(config: Tuned) -> Iterator[Cell]:
    """List each mask at every rate with the first seed, then at the best with the others."""
    for seed in config.seeds:
        yield {"kind": "zero-shot", "seed": seed}
        for ratio in config.ratios:
            for mask in KINDS:
                yield from tuned(training(mask, ratio), config.rates(ratio), seed, config.seeds[0])
                yield {"kind": "sharpness", "mask": mask, "ratio": ratio, "seed": seed}


def training(mask: str, ratio: float) -> Cell:
    """Return what the training cells of a mask have in common."""
    return {"kind": "train", "mask": mask, "ratio": ratio}


def mask_of(setup: Setup, cell: Cell) -> ls.Mask:
    """Draw a mask of exactly the budget: single weights, or whole columns (section 4.4)."""
    options = {"ratio": cell["ratio"], "targets": setup.config.targets, "seed": cell["seed"]}
    if cell["mask"] == "random":
        return ls.random_mask(setup.model, sampling="exact", **options)
    return ls.structured_mask(setup.model, granularity="columns", **options)


def train(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Train the mask of a cell and keep its delta."""
    with attached(setup.model, mask_of(setup, cell)):
        row = tuned_run(setup, setup.model, cell)
        ls.save_delta(setup.model, delta_of(setup, cell))
    return row


def delta_of(setup: Setup, cell: Cell) -> Path:
    """Return the delta file of a training cell."""
    return setup.store.folder / "deltas" / f"{file_of(cell)}.safetensors"


def sharpness(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Measure the largest magnitude of an eigenvalue before and after training."""
    config, cells_of = setup.config, training(cell["mask"], cell["ratio"])
    rates, first = config.rates(cell["ratio"]), config.seeds[0]
    trained = chosen(setup.store, cells_of, rates, cell["seed"], first)
    row: dict[str, Any] = {"rate": trained["rate"]}
    ends: list[ls.Mask | Path] = [mask_of(setup, cell), delta_of(setup, trained)]
    for when, at in zip(ENDS, ends, strict=True):
        with attached(setup.model, at):
            found = largest(config, hessian(setup))
        row |= {f"{name}_{when}": value for name, value in found.items()}
    return row


def final_rows(rows: Sequence[Row]) -> list[Row]:
    """Join, for every mask, ratio and seed, the run at the chosen rate with its sharpness."""
    measured = {(r["mask"], r["ratio"], r["seed"]): r for r in rows if r["kind"] == "sharpness"}
    joined = []
    for row in rows:
        found = measured.get((row.get("mask"), row.get("ratio"), row["seed"]))
        if row["kind"] == "train" and found is not None and found["rate"] == row["rate"]:
            joined.append(row | {
                "before": abs(found["sharpness_before"]), "after": abs(found["sharpness_after"]),
                "log_after": math.log(abs(found["sharpness_after"]) or math.nan),
                "certified": found["converged_before"] and found["converged_after"],
            })  # fmt: skip
    return sorted(joined, key=lambda row: (-row["ratio"], row["mask"], row["seed"]))


def check(rows: Sequence[Row]) -> list[Finding]:
    """Compare the rows with what the paper says of figure 5 and table 9."""
    final = final_rows(rows)
    gaps = margins(final, "mask", *KINDS, "test_accuracy")
    over_all = list(gaps.values())
    return [
        Finding("random masks are more accurate than structured ones, over all ratios",
                gains(over_all), f"random - structured: {describe_margin(over_all)}"),
        _decay(gaps), _rates(final), _equally_sharp(final),
        all_met("every sharpness met its residual tolerance", [r["certified"] for r in final]),
    ]  # fmt: skip


def _decay(gaps: Mapping[Any, float]) -> Finding:
    """Say whether the margin grows as the ratio falls: the difference of lowest and highest."""
    text = "structured masks lose accuracy faster as the ratio falls"
    ratios = sorted({ratio for ratio, _ in gaps})
    if len(ratios) < 2:
        return Finding(text, "undecided", f"{len(ratios)} ratios are too few")
    low, high = ratios[0], ratios[-1]
    grown = [gap - gaps[high, seed] for (ratio, seed), gap in gaps.items()
             if ratio == low and (high, seed) in gaps]  # fmt: skip
    evidence = f"margin at {low:g} minus at {high:g}: {describe_margin(grown)}"
    return Finding(text, gains(grown), evidence)


def _rates(final: Sequence[Row]) -> Finding:
    """Say whether the chosen rate of structured masks falls with the ratio (table 9)."""
    chosen = {r["ratio"]: r["rate"] for r in final if r["mask"] == "structured"}
    text = "the best rate of structured masks grows as the ratio falls"
    fit = exponent(list(chosen), list(chosen.values()))
    listed = ", ".join(f"{rate:g} at {ratio:g}" for ratio, rate in sorted(chosen.items()))
    if math.isnan(fit.low):
        return Finding(text, "undecided", f"{listed}: {len(chosen)} ratios are too few")
    evidence = (
        f"{listed}: exponent {fit.value:.2f}, 95 % interval [{fit.low:.2f}, {fit.high:.2f}]; the "
        "rates tried were scaled with 1/ratio"
    )
    return Finding(text, above(-fit.high, -fit.low), evidence)


def _equally_sharp(final: Sequence[Row]) -> Finding:
    """Say whether the two masks agree within a factor of 2, by the mean of their log ratio."""
    text = "random and structured masks of one ratio are equally sharp (the linear theory's mean)"
    found = margins(final, "mask", *KINDS[::-1], "log_after").values()
    logs = [x for x in found if not math.isnan(x)]
    mean, low, high = interval(logs) if logs else (math.nan,) * 3
    evidence = (
        f"structured / random after training: {math.exp(mean):.2f}, 95 % interval "
        f"[{math.exp(low):.2f}, {math.exp(high):.2f}], n={len(logs)}"
    )
    if high - low > 2 * math.log(2):
        evidence += ": undecided, wider than a factor of 2 either way"
    return Finding(text, equal(low, high, within=math.log(2)), evidence)


COLUMNS = {
    "ratio": first("ratio", "g"), "mask": first("mask"), "trainable": first("count", ","),
    "rate": first("rate", "g"), "seeds": seeds, "accuracy": spread("test_accuracy", ".3f"),
    "paper (OPT-125m, SST-2)": paper(PAPER, "mask"), "sharpness before": spread("before"),
    "sharpness after": spread("after"), "distance": spread("distance"),
}  # fmt: skip


def tables(rows: Sequence[Row]) -> dict[str, list[dict[str, str]]]:
    """Summarise one line a ratio and mask: ours, mean ± std over seeds, beside the paper's."""
    return {"Results": lines(grouped(final_rows(rows), "ratio", "mask"), COLUMNS)}


def draw(rows: Sequence[Row]) -> Figure:
    """Draw accuracy, sharpness and distance of both masks against the ratio."""
    figure, axes = panels((13.5, 4.2), 3)
    final = final_rows(rows)
    for mask, color in zip(KINDS, colors(), strict=False):
        own = [r for r in final if r["mask"] == mask]
        for axis, value in zip(axes, ("test_accuracy", "after", "distance"), strict=True):
            curve(axis, own, value, color, mask)
    zero = [r["test_accuracy"] for r in rows if r["kind"] == "zero-shot"]
    if zero:
        axes[0].axhline(fmean(zero), ls="--", color="0.5", lw=1.2, label="before training")
    over_ratio(axes[0], "test accuracy", "Accuracy")
    over_ratio(axes[1], "largest |Hessian eigenvalue|", "Sharpness after training")
    over_ratio(axes[2], "distance to initialisation", "Distance")
    axes[1].set_yscale("log")
    axes[2].set_yscale("log")
    despine(*axes)
    return figure


ARTEFACT = Artefact(
    name="figure5",
    title="Structured against random masks: accuracy, sharpness and distance against the ratio",
    source="Xu & Zhang 2024, figure 5 and table 8",
    config=Tuned, presets=PRESETS, cells=cells, setup=load_setup,
    measures={"zero-shot": zero_shot, "train": train, "sharpness": sharpness},
    rates=lambda config, cell: config.rates(cell["ratio"]),
    check=check, tables=tables, draw=draw,
    page=Page(
        title="Single weights against whole columns",
        lead=(
            "A pretrained language model is fine-tuned on a random set of single weights or on a "
            "random set of whole columns, of the same size. Accuracy is the paper's figure 5; "
            "sharpness and distance say in which landscape each of them moved."
        ),
        caption="Random and structured masks against the ratio; points are seeds",
        first=False,
        form="table",
        headings=False,
        differences=DIFFERENCES,
    ),
)  # fmt: skip
