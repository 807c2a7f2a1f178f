"""Figure 4 a and c of Xu & Zhang 2024: sharpness and distance against the trainable ratio."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

import landscape as ls
from experiments.kit.artefact import Artefact
from experiments.kit.cells import Cell, chosen, tuned
from experiments.kit.draw import colors, curve, despine, guide, means, over_ratio, panels
from experiments.kit.intervals import all_met, exponent, gains
from experiments.kit.judge import Finding, Verdict, above, every
from experiments.kit.measure import (
    ENDS,
    Setup,
    attached,
    file_of,
    hessian,
    largest,
    load_setup,
    random_mask,
    tuned_run,
    zero_shot,
)
from experiments.kit.publish import Page
from experiments.kit.settings import PACKAGED, Tuned
from experiments.kit.store import Row
from experiments.kit.table import first, grouped, lines, seeds, spread

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": PACKAGED | {
        "epochs": 1,
        "ratios": (1e-2, 1e-3, 1e-4), "rate_times_ratio": (1e-5,), "seeds": (0,),
        "num_train": 192, "num_dev": 64, "num_test": 128, "hessian_examples": 8,
        "tolerance": 5e-2, "max_products": 16,
    },
    "local": PACKAGED | {
        "epochs": 1,
        "ratios": (1e-2, 1e-3, 1e-4, 1e-5), "rate_times_ratio": (3e-6, 1e-5, 3e-5),
        "max_rate": 1.0, "num_train": 640, "num_dev": 200, "num_test": 400,
        "hessian_examples": 16, "tolerance": 2e-2, "max_products": 30,
    },
    "paper": {},
}  # fmt: skip


def cells(config: Tuned) -> Iterator[Cell]:
    """List every ratio at every rate with the first seed, then at the best with the others."""
    for seed in config.seeds:
        yield {"kind": "zero-shot", "seed": seed}
        for ratio in config.ratios:
            yield from tuned(training(ratio), config.rates(ratio), seed, config.seeds[0])
        yield {"kind": "health", "seed": seed}
        for ratio in config.ratios:
            for when in ENDS:
                yield {"kind": "sharpness", "ratio": ratio, "seed": seed, "when": when}


def training(ratio: float) -> Cell:
    """Return what the training cells of a ratio have in common."""
    return {"kind": "train", "ratio": ratio}


def train(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Train a random mask; its delta and checkpoint lie in a folder of its own."""
    folder, mask = folder_of(setup, cell), random_mask(setup, cell)
    with attached(setup.model, mask):
        row = tuned_run(setup, setup.model, cell, directory=folder)
        ls.save_delta(setup.model, folder / "delta.safetensors")
    return row | {"density": mask.density}


def folder_of(setup: Setup, cell: Cell) -> Path:
    """Return the folder of a training cell."""
    return setup.store.folder / "runs" / file_of(cell)


def sharpness(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Measure the paper's Hessian norm before training, or after it at the chosen rate."""
    config, ratio, rate = setup.config, cell["ratio"], None
    at: ls.Mask | Path = random_mask(setup, cell)
    if cell["when"] == "after":
        rates, first = config.rates(ratio), config.seeds[0]
        trained = chosen(setup.store, training(ratio), rates, cell["seed"], first)
        rate, at = trained["rate"], folder_of(setup, trained) / "delta.safetensors"
    with attached(setup.model, at):
        H = hessian(setup)
        return {"rate": rate, **largest(config, H), "loss": float(H.loss())}


def health(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Check the operator once before the first number: finite, repeatable, symmetric."""
    mask = random_mask(setup, cell | {"ratio": setup.config.ratios[0]})
    with attached(setup.model, mask):
        return dataclasses.asdict(ls.health_check(hessian(setup)))


def final_rows(rows: Sequence[Row]) -> list[Row]:
    """Join, for every ratio and seed, the run at the chosen rate with its sharpness.

    Sharpness here is the paper's Hessian norm: the largest magnitude of an eigenvalue.
    """
    joined = []
    after = {(r["ratio"], r["seed"]): r for r in rows if r.get("when") == "after"}
    before = {(r["ratio"], r["seed"]): r for r in rows if r.get("when") == "before"}
    zero = {r["seed"]: r for r in rows if r["kind"] == "zero-shot"}
    for row in rows:
        place = (row.get("ratio"), row["seed"])
        if row["kind"] == "train" and place in after and row["rate"] == after[place]["rate"]:
            joined.append(row | {
                "before": abs(before[place]["sharpness"]),
                "after": abs(after[place]["sharpness"]),
                "positive": min(before[place]["sharpness"], after[place]["sharpness"]) > 0,
                "zero_shot": zero[row["seed"]]["test_accuracy"],
                "certified": before[place]["converged"] and after[place]["converged"],
            })  # fmt: skip
    return sorted(joined, key=lambda row: (-row["ratio"], row["seed"]))


COLUMNS = {
    "ratio": first("ratio", "g"),
    "trainable": lambda group: f"{fmean(r['count'] for r in group):,.0f}",
    "rate": first("rate", "g"), "seeds": seeds,
    "accuracy before": spread("zero_shot", ".3f"),
    "accuracy after": spread("test_accuracy", ".3f"), "sharpness before": spread("before"),
    "sharpness after": spread("after"), "distance": spread("distance"),
}  # fmt: skip


def tables(rows: Sequence[Row]) -> dict[str, list[dict[str, str]]]:
    """Summarise the final rows, one line a ratio, mean and standard deviation over seeds."""
    return {"Results": lines(grouped(final_rows(rows), "ratio"), COLUMNS)}


def check(rows: Sequence[Row]) -> list[Finding]:
    """Compare the rows with the paper's statements and with the linear theory's exponents."""
    final = final_rows(rows)
    findings = []
    for key, claim, sign, law in (
        ("before", "a smaller ratio has a smaller Hessian norm before training", 1, 1.0),
        ("after", "a smaller ratio has a smaller Hessian norm after training", 1, 1.0),
        ("distance", "a smaller ratio has a more distant solution", -1, -0.5),
    ):
        fit = exponent([r["ratio"] for r in final], [r[key] for r in final])
        spread = f" ± {fit.error:.2f}" if fit.error == fit.error else ""
        fitted = f"fitted exponent {fit.value:.2f}{spread} in the ratio, linear theory {law:g}"
        findings.append(Finding(claim, _grows(final, key, sign), fitted))
    gained = [[r["test_accuracy"] - r["zero_shot"] for r in cell]
              for cell in grouped(final, "ratio")]  # fmt: skip
    return [
        *findings,
        Finding("every ratio is more accurate on test after training than before",
                every(map(gains, gained)), f"smallest gain {min(map(min, gained)):.3f}"),
        all_met("the eigenvalue of largest magnitude is positive, before and after training",
                [r["positive"] for r in final]),
        all_met("every sharpness met its residual tolerance", [r["certified"] for r in final]),
    ]  # fmt: skip


def _grows(final: Sequence[Row], key: str, sign: int) -> Verdict:
    """Judge whether sign x a number grows with the ratio: by its exponent, over several seeds.

    It holds where the exponent's interval is on the right side and the means are in order too.
    """
    if len({r["seed"] for r in final}) < 2:
        return "undecided"
    fit = exponent([r["ratio"] for r in final], [r[key] for r in final])
    verdict = above(*sorted((sign * fit.low, sign * fit.high)))
    in_order = all(sign * low < sign * high for low, high in pairwise(means(final, key)[1]))
    return verdict if in_order or verdict == "fails" else "undecided"


def draw(rows: Sequence[Row]) -> Figure:
    """Draw sharpness, distance and accuracy against the ratio, beside the linear theory's laws."""
    final = final_rows(rows)
    blue, orange, green, *_ = colors()
    figure, axes = panels((13.5, 4.2), 3)
    curve(axes[0], final, "before", blue, "before training")
    curve(axes[0], final, "after", orange, "after training")
    guide(axes[0], *means(final, "before"), 1.0, "linear theory: ∝ ratio")
    curve(axes[1], final, "distance", green, "chosen checkpoint")
    guide(axes[1], *means(final, "distance"), -0.5, "linear theory: ∝ ratio$^{-1/2}$")
    curve(axes[2], final, "test_accuracy", orange, "after training")
    curve(axes[2], final, "zero_shot", blue, "before training")
    over_ratio(axes[0], "sharpness (largest |Hessian eigenvalue|)", "a. A sparser mask is flatter")
    over_ratio(axes[1], "distance to initialisation", "c. A sparser mask moves further")
    over_ratio(axes[2], "test accuracy", "Accuracy on held-out films")
    axes[0].set_yscale("log")
    axes[1].set_yscale("log")
    despine(*axes)
    return figure


ARTEFACT = Artefact(
    name="figure4",
    title="Sharpness before and after training, and distance, against the ratio",
    source="Xu & Zhang 2024, figure 4 a and c",
    config=Tuned, presets=PRESETS, cells=cells, setup=load_setup,
    measures={"zero-shot": zero_shot, "train": train, "health": health, "sharpness": sharpness},
    rates=lambda config, cell: config.rates(cell["ratio"]),
    check=check, tables=tables, draw=draw,
    page=Page(
        title="Masking flattens the landscape and moves the solution away",
        lead=(
            "A pretrained language model is fine-tuned on film reviews, training only a random "
            "fraction of its weights. The smaller the fraction (ratio), the smaller the largest "
            "eigenvalue, in magnitude, of the Hessian on the trainable weights (sharpness), the "
            "larger the learning rate that works, and the further the solution from the "
            "pretrained weights."
        ),
        caption="Sharpness, distance, accuracy against the ratio; dashed: linear theory",
        first=False,
        headings=False,
    ),
)  # fmt: skip
