"""Figure 4 a and c of Xu & Zhang 2024: sharpness and distance against the trainable ratio."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns

import landscape as ls
from experiments.cell import (
    best_on_dev,
    exponent,
    gains,
    hessian,
    largest,
    load_task,
    scaled_rates,
    train_cell,
    verdicts,
    zero_shot,
)
from experiments.harness import PACKAGED, Artefact, Row, Setting, Store
from experiments.settings import paper
from experiments.verdict import Finding, Verdict, above, every, settle
from landscape.report import format_table, mean_std, slope, write_page
from landscape.runs import write_whole


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


def compute(config: Config, store: Store) -> None:
    """Tune the rate of each ratio on dev with the first seed, then run every seed at the best."""
    model, tokenizer = ls.load_model(config.model)
    for seed in config.seeds:
        _one_seed(config, store, model, tokenizer, load_task(config, seed), seed)


def _one_seed(
    config: Config, store: Store, model: Any, tokenizer: Any, task: ls.Task, seed: int
) -> None:
    store.compute(f"zero-shot/seed={seed}", lambda: zero_shot(model, tokenizer, task, seed))
    for ratio in config.ratios:
        first = seed == config.seeds[0]
        for rate in scaled_rates(config, ratio) if first else [best_rate(config, store, ratio)]:
            _cell(config, store, model, tokenizer, task, ratio, rate, seed)
    store.compute(f"health/seed={seed}", lambda: _health(config, model, tokenizer, task, seed))
    for ratio in config.ratios:
        _sharpness_rows(config, store, model, tokenizer, task, ratio, seed)


def best_rate(config: Config, store: Store, ratio: float) -> float:
    """Return the rate that was best on dev with the first seed."""
    seed = config.seeds[0]
    keys = [_key("train", ratio, rate, seed) for rate in scaled_rates(config, ratio)]
    return float(best_on_dev([store[key] for key in keys])["rate"])


def expected(config: Config) -> list[str]:
    """List the keys that can be known before running."""
    first, *others = config.seeds
    tuning = [
        _key("train", r, rate, first) for r in config.ratios for rate in scaled_rates(config, r)
    ]
    once = [f"{kind}/seed={s}" for s in config.seeds for kind in ("zero-shot", "health")]
    return once + tuning + [
        f"sharpness/ratio={r:g}/seed={s}/{when}"
        for s in config.seeds for r in config.ratios for when in ("before", "after")
    ] + [f"train/ratio={r:g}/*/seed={s}" for s in others for r in config.ratios]  # fmt: skip


def _key(kind: str, ratio: float, rate: float, seed: int) -> str:
    return f"{kind}/ratio={ratio:g}/rate={rate:g}/seed={seed}"


def _attach(config: Config, model: Any, ratio: float, seed: int) -> ls.Mask:
    mask = ls.random_mask(model, ratio=ratio, targets=config.targets, seed=seed)
    ls.attach(model, mask)
    return mask


def _folder(store: Store, ratio: float, rate: float, seed: int) -> Path:
    return store.folder / "runs" / _key("train", ratio, rate, seed).replace("/", "_")


def _cell(
    config: Config, store: Store, model: Any, tokenizer: Any, task: ls.Task,
    ratio: float, rate: float, seed: int,
) -> None:  # fmt: skip
    key = _key("train", ratio, rate, seed)

    def train() -> dict[str, Any]:
        mask, folder = _attach(config, model, ratio, seed), _folder(store, ratio, rate, seed)
        try:
            row = train_cell(config, model, tokenizer, task, rate=rate, seed=seed, directory=folder)
            ls.save_delta(model, folder / "delta.safetensors")
        finally:
            ls.detach(model)
        return row | {"ratio": ratio, "density": mask.density}

    if key not in store:
        store.say(f"training at ratio {ratio:g}, rate {rate:g}, seed {seed}")
    store.compute(key, train)


def _sharpness_rows(
    config: Config, store: Store, model: Any, tokenizer: Any, task: ls.Task,
    ratio: float, seed: int,
) -> None:  # fmt: skip
    chosen = best_rate(config, store, ratio)
    for when in ("before", "after"):
        key = f"sharpness/ratio={ratio:g}/seed={seed}/{when}"
        if key not in store:
            store.say(f"sharpness {when} training at ratio {ratio:g}, seed {seed}")

        def measure(when: str = when) -> dict[str, Any]:
            if when == "before":
                _attach(config, model, ratio, seed)
            else:
                ls.load_delta(model, _folder(store, ratio, chosen, seed) / "delta.safetensors")
            try:
                H = hessian(config, model, tokenizer, task)
                values = largest(config, H) | {"loss": float(H.loss())}
            finally:
                ls.detach(model)
            rate = None if when == "before" else chosen
            return {"kind": "sharpness", "when": when, "ratio": ratio, "seed": seed,
                    "rate": rate, **values}  # fmt: skip

        store.compute(key, measure)


def _health(config: Config, model: Any, tokenizer: Any, task: ls.Task, seed: int) -> dict[str, Any]:
    """Check the operator once before the first number: finite, repeatable, symmetric."""
    _attach(config, model, config.ratios[0], seed)
    try:
        health = ls.health_check(hessian(config, model, tokenizer, task))
    finally:
        ls.detach(model)
    return {"kind": "health", "seed": seed, **dataclasses.asdict(health)}


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


def table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Summarise the final rows, one line a ratio, mean and standard deviation over seeds."""
    final = final_rows(rows)
    lines = []
    for ratio in sorted({row["ratio"] for row in final}, reverse=True):
        cell = [row for row in final if row["ratio"] == ratio]

        def column(key: str, form: str = ".3g", cell: Sequence[Row] = cell) -> str:
            return mean_std([row[key] for row in cell], form)

        lines.append({
            "ratio": f"{ratio:g}", "trainable": f"{fmean(r['count'] for r in cell):,.0f}",
            "rate": f"{cell[0]['rate']:g}", "seeds": str(len(cell)),
            "accuracy before": column("zero_shot", ".3f"),
            "accuracy after": column("test_accuracy", ".3f"), "sharpness before": column("before"),
            "sharpness after": column("after"), "distance": column("distance"),
        })  # fmt: skip
    return lines


def check(rows: Sequence[Row]) -> list[Finding]:
    """Compare the rows with the paper's statements and with the linear theory's exponents."""
    final = final_rows(rows)
    ratios = sorted({row["ratio"] for row in final})
    findings = []
    for key, claim, sign, law in (
        ("before", "a smaller ratio has a smaller Hessian norm before training", 1, 1.0),
        ("after", "a smaller ratio has a smaller Hessian norm after training", 1, 1.0),
        ("distance", "a smaller ratio has a more distant solution", -1, -0.5),
    ):
        power, error = slope([r["ratio"] for r in final], [r[key] for r in final])
        spread = f" ± {error:.2f}" if math.isfinite(error) else ""
        fitted = f"fitted exponent {power:.2f}{spread} in the ratio, linear theory {law:g}"
        findings.append(Finding(claim, _grows(final, key, sign), fitted))
    text = "every ratio is more accurate on test after training than before"
    gained = [[r["test_accuracy"] - r["zero_shot"] for r in final if r["ratio"] == ratio]
              for ratio in ratios]  # fmt: skip
    smallest = min(min(cell) for cell in gained)
    findings.append(Finding(text, every(map(gains, gained)), f"smallest gain {smallest:.3f}"))
    certified = sum(row["certified"] for row in final)
    positive = sum(row["positive"] for row in final)
    text = "the eigenvalue of largest magnitude is positive, before and after training"
    findings.append(
        Finding(text, settle(positive == len(final)), f"{positive} of {len(final)} pairs")
    )
    text = "every sharpness met its residual tolerance"
    met = settle(certified == len(final))
    findings.append(Finding(text, met, f"{certified} of {len(final)} pairs"))
    return findings


def _grows(final: Sequence[Row], key: str, sign: int) -> Verdict:
    """Judge whether sign x a number grows with the ratio: by its exponent, over several seeds.

    It holds where the exponent's interval is on the right side and the means are in order too.
    """
    ratios = sorted({row["ratio"] for row in final})
    fit = exponent([r["ratio"] for r in final], [r[key] for r in final])
    if fit is None or len({r["seed"] for r in final}) < 2:
        return "undecided"
    _, *ends = fit
    verdict = above(*sorted(sign * end for end in ends))
    means = [sign * fmean(r[key] for r in final if r["ratio"] == ratio) for ratio in ratios]
    in_order = all(low < high for low, high in pairwise(means))
    return verdict if in_order or verdict == "fails" else "undecided"


def render(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw the figure, write the table and the page."""
    lines, findings = table(rows), check(rows)
    figure = folder / "figure.png"
    write_whole(figure, lambda path: _draw(final_rows(rows), path))
    text = format_table(lines)
    judged = "\n".join(
        f"- {line['verdict']}: {line['statement']} ({line['evidence']})"
        for line in verdicts(findings)
    )
    write_whole(folder / "table.md", lambda path: path.write_text(f"{text}\n\n{judged}\n"))
    first = rows[0]["provenance"]
    page = write_page(
        folder / "index.html",
        title="Masking flattens the landscape and moves the solution away",
        lead=(
            "A pretrained language model is fine-tuned on film reviews, training only a random "
            "fraction of its weights. The smaller the fraction (ratio), the smaller the largest "
            "eigenvalue, in magnitude, of the Hessian on the trainable weights (sharpness), the "
            "larger the learning rate that works, and the further the solution from the "
            "pretrained weights."
        ),
        figures={"Sharpness, distance, accuracy against the ratio; dashed: linear theory": figure},
        tables={"Results": lines, "Statements": verdicts(findings)},
        details={"Provenance": "\n".join(f"{k}: {v}" for k, v in first.items())},
    )  # fmt: skip
    print(text, judged, sep="\n\n")
    return [figure, folder / "table.md", page]


def _draw(final: Sequence[Row], path: Path) -> None:
    sns.set_theme(style="ticks", context="notebook", palette="colorblind")
    blue, orange, green, *_ = sns.color_palette("colorblind")
    figure, axes = plt.subplots(1, 3, figsize=(13.5, 4.2), layout="constrained")
    ratios = sorted({row["ratio"] for row in final})

    def curve(axis: Any, key: str, color: Any, label: str) -> list[float]:
        cells = [[r[key] for r in final if r["ratio"] == ratio] for ratio in ratios]
        means = [fmean(cell) for cell in cells]
        axis.plot(ratios, means, "o-", color=color, label=label)
        for ratio, cell in zip(ratios, cells, strict=True):
            if len(cell) > 1:
                axis.plot([ratio] * len(cell), cell, ".", color=color, alpha=0.5)
        return means

    def law(axis: Any, means: list[float], power: float, label: str) -> None:
        middle = len(ratios) // 2
        guide = [means[middle] * (r / ratios[middle]) ** power for r in ratios]
        axis.plot(ratios, guide, "--", color="0.5", lw=1.2, label=label, zorder=0)

    before = curve(axes[0], "before", blue, "before training")
    curve(axes[0], "after", orange, "after training")
    law(axes[0], before, 1.0, "linear theory: ∝ ratio")
    distances = curve(axes[1], "distance", green, "chosen checkpoint")
    law(axes[1], distances, -0.5, "linear theory: ∝ ratio$^{-1/2}$")
    curve(axes[2], "test_accuracy", orange, "after training")
    curve(axes[2], "zero_shot", blue, "before training")
    labels = (
        ("sharpness (largest |Hessian eigenvalue|)", "a. A sparser mask is flatter"),
        ("distance to initialisation", "c. A sparser mask moves further"),
        ("test accuracy", "Accuracy on held-out films"),
    )
    for axis, (label, title) in zip(axes, labels, strict=True):
        axis.set(xscale="log", xlabel="ratio (trainable / all parameters)", ylabel=label)
        axis.set_title(title, loc="left", fontsize=12, fontweight="bold")
        axis.legend(frameon=False, fontsize=9)
    axes[0].set_yscale("log")
    axes[1].set_yscale("log")
    sns.despine()
    figure.savefig(path, dpi=160, format="png")
    plt.close(figure)


ARTEFACT = Artefact(
    name="figure4",
    title="Sharpness before and after training, and distance, against the ratio",
    source="Xu & Zhang 2024, figure 4 a and c",
    config=Config,
    presets=PRESETS,
    rows=compute,
    render=render,
    check=check,
    expected=expected,
)
