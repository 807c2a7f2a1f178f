"""What is said of a training: where it begins, whether it was finished before, what it came to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from landscape.cli.shared import standard_error

if TYPE_CHECKING:
    from landscape.training import Training
    from landscape.training.run import Run


def begin(training: Training, metric: str, folder: str | None) -> dict[str, float] | None:
    """Say where a training begins: what the model scores on test before it, kept in its folder.

    Of one that goes on, or that is finished, this is read from there.
    """
    from landscape.folders import read_json, write_json
    from landscape.training.run import told_truncated

    kept = None if folder is None else Path(folder) / "before.json"
    if not training.done and not training.taken:
        before = training.evaluate("test")
        if kept:
            write_json(kept, before)
    else:
        before = read_json(kept) if kept and kept.is_file() else {}
    if not training.done and (cut := training.truncated):
        print(told_truncated(cut))
    if before:
        print(f"before training: test {metric} {_shown(metric, before)}")
    result = None if kept is None else kept.with_name("result.json")
    if result is not None and result.is_file():
        when = datetime.fromtimestamp(result.stat().st_mtime)
        print(f"already finished, {when:%Y-%m-%d %H:%M}: nothing is trained; --force starts anew")
    elif training.taken:
        print(f"goes on after step {training.taken} of {training.total}")
    return before or None


def tell_run(run: Run, metric: str, dev_size: int, before: Mapping[str, float] | None) -> None:
    """Print what a run came to, and whether that is worth anything."""
    dev, test = run.metrics["dev"] or {}, run.metrics["test"] or {}
    if run.diverged:
        print(f"diverged at step {run.metrics['steps']}: the loss is not finite; lower --lr")
    elif before and test and not _is_better(metric, test, before):
        print(
            f"no better than before training: test {metric} {before[metric]:.3f} to "
            f"{test[metric]:.3f}, loss {before['loss']:.4g} to {test['loss']:.4g}; try another "
            "--lr, such as `landscape suggest-lr` predicts, or more --epochs"
        )
    shown = f"dev {_shown(metric, dev and dev | {'n': dev_size})}, test {_shown(metric, test)}"
    took = "took" if run.stored else "in"
    print(
        f"{metric}: {shown}; distance {run.distance['l2']:.4g}, {run.metrics['steps']} steps "
        f"{took} {run.metrics['seconds']:.0f} s"
    )


def _is_better(metric: str, found: Mapping[str, float], before: Mapping[str, float]) -> bool:
    from landscape.tasks.metrics import METRICS

    now, then = found[metric], before[metric]
    return now > then if METRICS[metric].larger_is_better else now < then


def _shown(metric: str, found: Mapping[str, float]) -> str:
    """Return a value as it is printed, with its standard error and number of examples if known.

    >>> _shown("accuracy", {"accuracy": 0.5, "n": 100}), _shown("f1", {"f1": 0.5})
    ('0.500 ± 0.050 (n = 100)', '0.500')
    """
    value, n = found.get(metric, math.nan), found.get("n")
    if not n:
        return f"{value:.3f}"
    error = standard_error(metric, value, int(n))
    return f"{value:.3f}{'' if error is None else f' ± {error:.3f}'} (n = {int(n):,})"
