"""Outcomes: what a run found, in plain types, with every test example's own result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from landscape.folders import peak_memory
from landscape.sweep.preparing import Prepared
from landscape.tasks.encoding import length_limit
from landscape.tasks.evaluation import evaluate, judge
from landscape.tasks.forms import form_of
from landscape.tasks.forms.form import Encoding, Judging
from landscape.tasks.metrics import METRICS
from landscape.training.run import Run

DIGITS = 5
"""Significant digits of a step's training loss."""


def outcome_of(made: Prepared, run: Run) -> dict[str, Any]:
    """Return the outcome of a run whose model is at its chosen checkpoint.

    Args:
        made: the run.
        run: of its training; its evaluation on test, if it has one, is made anew here.

    Cost: one evaluation on test.
    """
    metrics = run.metrics
    dev = metrics["dev"] and _named(made, metrics["dev"], len(made.task.dev))
    found = {
        **_size(made, run.config["trainable"]), "dev": dev, **tested(made),
        "distance": run.distance["l2"], "relative_distance": run.distance["relative"],
        "diverged": run.diverged, "best_step": metrics["best_step"], "steps": metrics["steps"],
        "train_loss": [float(f"{h['loss']:.{DIGITS}g}") for h in run.history],
        "evaluations": [dict(e) for e in run.evaluations],
        "identity": dict(made.identity),
        "seconds": metrics["seconds"], "peak_memory": metrics["peak_memory"],
    }  # fmt: skip
    if made.schedule is not None:
        found["updated"] = [h["updated"] for h in run.history]
    return found


def outcome_of_none(made: Prepared) -> dict[str, Any]:
    """Return the outcome of a run that trains nothing: the pretrained model's.

    Cost: an evaluation on dev and one on test.
    """
    told = {name: made.config.settings[name] for name in ("max_length", "bos")
            if name in made.config.settings}  # fmt: skip
    dev = evaluate(made.model, made.tokenizer, made.task, split="dev", **told)
    return {
        **_size(made, 0), "dev": _named(made, dev, len(made.task.dev)), **tested(made),
        "distance": 0.0, "relative_distance": 0.0, "diverged": False, "best_step": 0, "steps": 0,
        "train_loss": [], "evaluations": [], "identity": dict(made.identity), "seconds": 0.0,
        "peak_memory": peak_memory(),
    }  # fmt: skip


def tested(made: Prepared) -> dict[str, Any]:
    """Evaluate a run's model on test, as `landscape.evaluate` does, and keep every example's own.

    Returns:
        ``test``: the metric under its name, loss and n. ``correct``: "1" or "0" for each test
        example in the task's order, where the metric is a share of right ones; ``per_example``:
        the scores that the metric is the mean of, where it is one. A correlation (STS-B) and
        entities' F1 (CoNLL-2003) are of all examples at once: rows have neither.
    """
    task, settings = made.task, made.config.settings
    metric = METRICS[task.metric]
    limit = length_limit(made.model, settings.get("max_length"))
    encoding = Encoding(limit, settings.get("bos", "tokenizer"))
    judging = Judging(metric, task.loss, made.tokenizer, encoding, task.generation)
    form, examples = form_of(task.test), task.test
    answers = [form.answers(metric, example) for example in examples]
    judged = judge(made.model, examples, judging)
    found: dict[str, Any] = {
        "test": {
            metric.name: metric(judged.predictions, answers),
            "loss": math.fsum(judged.losses) / judged.terms, "n": len(examples),
        }
    }  # fmt: skip
    if metric.each is not None:
        each = [metric([p], [a]) for p, a in zip(judged.predictions, answers, strict=True)]
        right = metric.each == "right"
        found |= (
            {"correct": "".join(str(int(value)) for value in each)} if right
            else {"per_example": each}
        )  # fmt: skip
    return found


def _size(made: Prepared, count: int) -> dict[str, Any]:
    return {"metric": made.task.metric, "count": count, "ratio": count / made.size}


def _named(made: Prepared, found: Mapping[str, Any], n: int) -> dict[str, Any]:
    return {made.task.metric: found[made.task.metric], "loss": found["loss"], "n": n}
