"""Judge and draw the rows of `figure5`: random against structured masks, beside the paper's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns

from experiments.cell import describe_margin, differences, exponent, gains, interval, verdicts
from experiments.harness import Row
from experiments.verdict import Finding, above, equal, settle
from landscape.report import format_table, mean_std, write_page
from landscape.runs import write_whole

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


def final_rows(rows: Sequence[Row]) -> list[Row]:
    """Join, for every mask, ratio and seed, the run at the chosen rate with its sharpness."""
    measured = {(r["mask"], r["ratio"], r["seed"]): r for r in rows if r["kind"] == "sharpness"}
    joined = []
    for row in rows:
        found = measured.get((row.get("mask"), row.get("ratio"), row["seed"]))
        if row["kind"] == "train" and found is not None and found["rate"] == row["rate"]:
            joined.append(row | {
                "before": abs(found["sharpness_before"]), "after": abs(found["sharpness_after"]),
                "certified": found["converged_before"] and found["converged_after"],
            })  # fmt: skip
    return sorted(joined, key=lambda row: (-row["ratio"], row["mask"], row["seed"]))


def pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Pair the final random and structured rows of each ratio and seed."""
    final = {(r["mask"], r["ratio"], r["seed"]): r for r in final_rows(rows)}
    return [
        (row, final["structured", ratio, seed])
        for (mask, ratio, seed), row in final.items()
        if mask == "random" and ("structured", ratio, seed) in final
    ]


def check(rows: Sequence[Row]) -> list[Finding]:
    """Compare the rows with what the paper says of figure 5 and table 9."""
    joined = pairs(rows)
    margins = [random["test_accuracy"] - other["test_accuracy"] for random, other in joined]
    text = "random masks are more accurate than structured ones, over all ratios"
    evidence = f"random - structured: {describe_margin(margins)}"
    findings = [Finding(text, gains(margins), evidence)]
    findings += [_decay(joined, margins), _rates(rows)]
    factors = [other["after"] / random["after"] for random, other in joined if random["after"]]
    logs = [math.log(f) for f in factors if f > 0]
    mean, low, high = interval(logs) if logs else (math.nan,) * 3
    evidence = (
        f"structured / random after training: {math.exp(mean):.2f}, 95 % interval "
        f"[{math.exp(low):.2f}, {math.exp(high):.2f}], n={len(logs)}"
    )
    text = "random and structured masks of one ratio are equally sharp (the linear theory's mean)"
    if high - low > 2 * math.log(2):
        evidence += ": undecided, wider than a factor of 2 either way"
    findings.append(Finding(text, equal(low, high, within=math.log(2)), evidence))
    certified = sum(row["certified"] for row in final_rows(rows))
    text = "every sharpness met its residual tolerance"
    total = len(final_rows(rows))
    return [*findings, Finding(text, settle(certified == total), f"{certified} of {total} pairs")]


def _decay(joined: Sequence[tuple[Row, Row]], margins: Sequence[float]) -> Finding:
    """Say whether the margin grows as the ratio falls: the difference of lowest and highest."""
    ratios = sorted({random["ratio"] for random, _ in joined})
    text = "structured masks lose accuracy faster as the ratio falls"
    if len(ratios) < 2:
        return Finding(text, "undecided", f"{len(ratios)} ratios are too few")
    ends = {
        ratio: {r["seed"]: m for (r, _), m in zip(joined, margins, strict=True)
                if r["ratio"] == ratio}
        for ratio in (ratios[0], ratios[-1])
    }  # fmt: skip
    grown = [m - ends[ratios[-1]][seed] for seed, m in ends[ratios[0]].items()
             if seed in ends[ratios[-1]]]  # fmt: skip
    evidence = f"margin at {ratios[0]:g} minus at {ratios[-1]:g}: {describe_margin(grown)}"
    return Finding(text, gains(grown), evidence)


def _rates(rows: Sequence[Row]) -> Finding:
    """Say whether the chosen rate of structured masks falls with the ratio (table 9)."""
    chosen = {r["ratio"]: r["rate"] for r in final_rows(rows) if r["mask"] == "structured"}
    text = "the best rate of structured masks grows as the ratio falls"
    fit = exponent(list(chosen), list(chosen.values()))
    listed = ", ".join(f"{rate:g} at {ratio:g}" for ratio, rate in sorted(chosen.items()))
    if fit is None:
        return Finding(text, "undecided", f"{listed}: {len(chosen)} ratios are too few")
    s, low, high = fit
    evidence = (
        f"{listed}: exponent {s:.2f}, 95 % interval [{low:.2f}, {high:.2f}]; the rates tried were "
        "scaled with 1/ratio"
    )
    return Finding(text, above(-high, -low), evidence)


def table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Summarise one line a ratio and mask: ours, mean ± std over seeds, beside the paper's."""
    final, lines = final_rows(rows), []
    for ratio in sorted({row["ratio"] for row in final}, reverse=True):
        for mask in KINDS:
            cell = [r for r in final if (r["ratio"], r["mask"]) == (ratio, mask)]
            if not cell:
                continue
            paper = next((v for p, v in PAPER[mask].items() if math.isclose(p, ratio)), None)
            lines.append({
                "ratio": f"{ratio:g}", "mask": mask, "trainable": f"{cell[0]['count']:,}",
                "rate": f"{cell[0]['rate']:g}", "seeds": str(len(cell)),
                "accuracy": mean_std([r["test_accuracy"] for r in cell], ".3f"),
                "paper (OPT-125m, SST-2)": "-" if paper is None else f"{paper / 100:.3f}",
                "sharpness before": mean_std([r["before"] for r in cell]),
                "sharpness after": mean_std([r["after"] for r in cell]),
                "distance": mean_std([r["distance"] for r in cell]),
            })  # fmt: skip
    return lines


def render(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw the figure, write the table and the page."""
    lines, judged = table(rows), verdicts(check(rows))
    listed = differences(folder, DIFFERENCES)
    figure = folder / "figure.png"
    write_whole(figure, lambda path: _draw(rows, path))
    text = "\n\n".join(format_table(part) for part in (lines, judged, listed))
    write_whole(folder / "table.md", lambda path: path.write_text(text + "\n"))
    page = write_page(
        folder / "index.html",
        title="Single weights against whole columns",
        lead=(
            "A pretrained language model is fine-tuned on a random set of single weights or on a "
            "random set of whole columns, of the same size. Accuracy is the paper's figure 5; "
            "sharpness and distance say in which landscape each of them moved."
        ),
        figures={"Random and structured masks against the ratio; points are seeds": figure},
        tables={"Results": lines, "Statements": judged, "Differences from the paper": listed},
        details={"Provenance": "\n".join(f"{k}: {v}" for k, v in rows[0]["provenance"].items())},
    )
    print(text)
    return [figure, folder / "table.md", page]


def _draw(rows: Sequence[Row], path: Path) -> None:
    sns.set_theme(style="ticks", context="notebook", palette="colorblind")
    figure, axes = plt.subplots(1, 3, figsize=(13.5, 4.2), layout="constrained")
    final = final_rows(rows)
    for mask, color in zip(KINDS, sns.color_palette("colorblind"), strict=False):
        own = [r for r in final if r["mask"] == mask]
        for axis, key in zip(axes, ("test_accuracy", "after", "distance"), strict=True):
            _curve(axis, own, key, color, mask)
    zero = [r["test_accuracy"] for r in rows if r["kind"] == "zero-shot"]
    if zero:
        axes[0].axhline(fmean(zero), ls="--", color="0.5", lw=1.2, label="before training")
    for axis, label, title in zip(
        axes,
        ("test accuracy", "largest |Hessian eigenvalue|", "distance to initialisation"),
        ("Accuracy", "Sharpness after training", "Distance"),
        strict=True,
    ):
        axis.set(xscale="log", xlabel="ratio (trainable / all parameters)", ylabel=label)
        axis.set_title(title, loc="left", fontsize=12, fontweight="bold")
        axis.legend(frameon=False, fontsize=9)
    axes[1].set_yscale("log")
    axes[2].set_yscale("log")
    sns.despine()
    figure.savefig(path, dpi=160, format="png")
    plt.close(figure)


def _curve(axis: Any, rows: Sequence[Row], key: str, color: Any, label: str) -> None:
    ratios = sorted({row["ratio"] for row in rows})
    means = [fmean(r[key] for r in rows if r["ratio"] == ratio) for ratio in ratios]
    axis.plot(ratios, means, "o-", color=color, label=label)
    axis.plot([r["ratio"] for r in rows], [r[key] for r in rows], ".", color=color, alpha=0.5)
