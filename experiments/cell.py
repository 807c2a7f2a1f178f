"""One cell of an artefact: a run with its numbers, its sharpness, the best rate on dev."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy import stats

import landscape as ls
from experiments.harness import Row
from experiments.verdict import Finding, Verdict, above
from landscape.models import num_labels_for
from landscape.report import slope
from landscape.runs import read_json


def load_task(config: Any, seed: int) -> ls.Task:
    """Load a configuration's task with the examples of one seed."""
    return ls.load_task(
        config.task, source=config.source or None, num_train=config.num_train,
        num_dev=config.num_dev, num_test=config.num_test, seed=seed,
    )  # fmt: skip


def load_pretrained(config: Any, task: ls.Task) -> tuple[Any, Any]:
    """Load the model of a configuration; an encoder gets a head for the task's labels.

    The head is fitted to the training examples on the pretrained features and frozen, so every
    way of fine-tuning starts from the same linear probe and differs in the body alone.
    """
    candidates = max(len(example.candidates) for example in task.train)
    num_labels = num_labels_for(config.model, candidates)
    model, tokenizer = ls.load_model(config.model, num_labels=num_labels)
    if num_labels is None:
        return model, tokenizer
    ls.fit_head(model, ls.make_batches(task.train, tokenizer, 32, sort=True))
    return model, tokenizer


def train_cell(
    config: Any, model: Any, tokenizer: Any, task: ls.Task, *, rate: float, seed: int,
    schedule: ls.Schedule | None = None, directory: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train the model's trainable numbers and return what a row says of the chosen checkpoint.

    A run that diverged before its first evaluation has accuracy -1 on dev, below every other.
    With a directory a run that was stopped goes on where it was.
    """
    run = ls.finetune(
        model, tokenizer, task, lr=rate, epochs=config.epochs, batch_size=config.batch_size,
        seed=seed, schedule=schedule, directory=directory, progress=True,
    )  # fmt: skip
    dev, test = run.metrics["dev"] or {}, run.metrics["test"]
    updated = {"updated": [h["updated"] for h in run.history]} if schedule else {}
    return {
        "kind": "train", "rate": rate, "seed": seed, "count": run.config["trainable"],
        "dev_accuracy": dev.get(task.metric, -1.0), "dev_loss": dev.get("loss", 1e9),
        "test_accuracy": test[task.metric], "test_loss": test["loss"],
        "distance": run.distance.get("l2"), "relative_distance": run.distance.get("relative"),
        "diverged": run.diverged, "select_by": run.config["select_by"],
        "steps": run.metrics["steps"], "train_loss": [h["loss"] for h in run.history], **updated,
    }  # fmt: skip


def zero_shot(model: Any, tokenizer: Any, task: ls.Task, seed: int) -> dict[str, Any]:
    """Evaluate the pretrained model on test."""
    scores = ls.evaluate(model, tokenizer, task, split="test", progress=True)
    return {"kind": "zero-shot", "seed": seed, "test_accuracy": scores[task.metric],
            "test_loss": scores["loss"], "n": scores["n"]}  # fmt: skip


def hessian(config: Any, model: Any, tokenizer: Any, task: ls.Task) -> ls.HessianOperator:
    """Average over the first training examples, in small batches of similar length."""
    examples = task.train[: config.hessian_examples]
    return ls.HessianOperator(
        model, ls.make_batches(examples, tokenizer, 4, sort=True, loss=task.loss)
    )


def sharpness(config: Any, model: Any, tokenizer: Any, task: ls.Task) -> dict[str, Any]:
    """Measure the Hessian's eigenvalue of largest magnitude on the trainable numbers."""
    return largest(config, hessian(config, model, tokenizer, task))


def largest(config: Any, H: ls.HessianOperator) -> dict[str, Any]:
    """Return the eigenvalue of largest magnitude with its residual and what it cost."""
    top = ls.lanczos(
        H, k=1, which="LM", tol=config.tolerance, max_matvecs=config.max_products, seed=0
    )
    return {"sharpness": float(top.eigenvalues[0]), "residual": float(top.residuals[0]),
            "products": top.num_matvecs, "converged": bool(top.converged)}  # fmt: skip


def best_on_dev(rows: Sequence[Row]) -> Row:
    """Return the row with the best dev accuracy; ties go to the lower loss."""
    return max(rows, key=lambda row: (row["dev_accuracy"], -row["dev_loss"]))


def scaled_rates(config: Any, ratio: float) -> list[float]:
    """List the learning rates tried at a ratio, rounded to two digits."""
    tried = {float(f"{min(c / ratio, config.max_rate):.2g}") for c in config.rate_times_ratio}
    return sorted(tried)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean and Student's 95 % interval; without an interval for fewer than two.

    >>> interval([1.0])
    (1.0, nan, nan)
    """
    mean = fmean(values)
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def gains(differences: Sequence[float]) -> Verdict:
    """Judge whether a mean difference is above zero, by its interval.

    >>> gains([0.1, 0.2, 0.15]), gains([0.1, -0.2, 0.15]), gains([0.1])
    ('holds', 'undecided', 'undecided')
    """
    _, low, high = interval(differences) if differences else (math.nan,) * 3
    return above(low, high)


def exponent(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float] | None:
    """Fit y ~ x^s; return s and its 95 % interval, or None with fewer than three points."""
    if len(x) < 3 or len(set(x)) < 2:
        return None
    s, error = slope(x, y)
    half = float(stats.t.ppf(0.975, len(x) - 2)) * error
    return s, s - half, s + half


def describe_margin(values: Sequence[float]) -> str:
    """Write a mean difference with its interval and what it decides."""
    mean, low, high = interval(values)
    if math.isnan(low):
        return f"{mean:+.3f}, n=1, no interval"
    verdict = "" if low > 0 or high < 0 else ", which contains 0: undecided"
    return f"{mean:+.3f}, 95 % interval [{low:+.3f}, {high:+.3f}]{verdict}, n={len(values)}"


def differences(folder: Path, paper: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """List where the setting of a folder's run differs from the paper's, and what may follow.

    Args:
        folder: an artefact's folder; its configuration fills the names in braces.
        paper: (difference, what it may cause).
    """
    config = read_json(folder / "config.json")
    return [{"difference": t.format(**config), "what it may cause": why} for t, why in paper]


def verdicts(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Return the lines of a table of statements."""
    return [
        {"statement": f.statement, "verdict": f.marked, "evidence": f.evidence} for f in findings
    ]
