"""Judge `bridge`: how many measurements lie in the linear model's intervals, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from experiments.kit.judge import Finding, settle
from experiments.kit.records import Record, grouped, present
from experiments.ours.bridge_laws import LAWS, LEVEL, NEVER, cases, predictions

#: a law without verdict: AdamW's path is longer than the least norm in a linear model, too
BESIDE = "distance, AdamW"
#: a verdict needs at least so many measurements
FEWEST = 5
#: a value of each measurement, and what it is
MEASURED = {
    "predicted_ratios": "predictions, all ratios", "start_sharpness": "first step and descents",
    "sgd_threshold": "SGD's unstable rate",
}  # fmt: skip


def coverage_table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return one line a law, prediction and model: how many lie inside, ratio by ratio."""
    found, ratios = [], sorted({key[1] for key in predictions(records)}, reverse=True)
    for law in LAWS:
        every = cases(records, law)
        for model in dict.fromkeys(c.model for c in every):
            own = [c for c in every if c.model == model]
            line = {"number": law.name, "interval from": law.by, "model": model}
            line["inside, all ratios"] = f"{sum(c.inside for c in own)} of {len(own)}"
            for ratio in ratios:
                here = [c for c in own if c.ratio == ratio]
                line[f"ratio {ratio:g}"] = (
                    f"{sum(c.inside for c in here)}/{len(here)}" if here else "-"
                )
            over = [c.value / c.linear for c in own if c.linear < NEVER]
            line["measured / linear"] = _written(over)
            found.append(line)
    return found


def mask_table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return one line a number, model and ratio: measured, the interval, and closed forms."""
    found, told = [], predictions(records)
    for law in LAWS:
        if law.certified:
            continue
        every = cases(records, law)
        for key in dict.fromkeys((c.model, c.ratio) for c in every):
            own = [c for c in every if (c.model, c.ratio) == key]
            whole = told[key]["law"].get(law.predicted)
            found.append({
                "number": law.name, "interval from": law.by, "model": key[0],
                "ratio": f"{key[1]:g}", "measured": _written([c.value for c in own]),
                "interval's low": _one(own[0].low), "interval's high": _one(own[0].high),
                "closed form": "-" if whole is None else _one(whole),
            })  # fmt: skip
    return found


def bound_table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return one line a model and ratio: SGD's unstable rates over the mean square's bound.

    The bound holds for the mean square over orders: in one order SGD may grow below it, in a
    linear model, too, whose rates stand beside the network's for the same masks.
    """
    found, told = [], predictions(records)
    own = [r for r in present(records, "sgd_threshold") if (r["model"], r["sgd_ratio"]) in told]
    for (model, ratio), group in grouped(own, "model", "sgd_ratio").items():
        masks = [told[model, ratio]["masks"][r["sgd_mask"]] for r in group]
        over = [r["sgd_threshold"] / r["sgd_bound"] for r in group]
        linear = [m["sgd"] / m["bound"] for m in masks]
        found.append({
            "model": model, "ratio": f"{ratio:g}", "network": _written(over),
            "linear model": _written(linear),
            "below the bound": f"{_below(over)} and {_below(linear)} of {len(over)}",
        })  # fmt: skip
    return found


def _below(over: Sequence[float]) -> int:
    return sum(one < 1 for one in over)


def cost_table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return one line a measurement and model: how often it was made, and for how long.

    Rows from before the time was kept have none.
    """
    found = []
    for name, what in MEASURED.items():
        for (model,), own in grouped(present(records, name), "model").items():
            taken = [r[key] for r in own if (key := f"{name.partition('_')[0]}_seconds") in r]
            found.append({
                "measurement": what, "model": model, "made": str(len(own)),
                "with its time": str(len(taken)),
                "processor seconds": _written(taken) if taken else "-",
            })  # fmt: skip
    return found


def _one(value: float) -> str:
    return "none" if value >= NEVER else f"{value:.3g}"


def _written(values: Sequence[float]) -> str:
    finite = [v for v in values if v < NEVER]
    if not finite:
        return "never"
    text = f"{median(values):.3g}" if median(values) < NEVER else "never"
    return f"{text} ({min(values):.2g} to {max(finite):.2g})" if len(values) > 1 else text


def check(records: Sequence[Record]) -> list[Finding]:
    """Say of every law and model whether as many measurements lie inside as should."""
    found = []
    for law in LAWS:
        if law.name == BESIDE:
            continue
        every = cases(records, law)
        for model in dict.fromkeys(c.model for c in every):
            own = [c for c in every if c.model == model]
            text = f"{model}: {law.name} lies in its 95 % interval ({law.by})"
            found.append(_enough(text, sum(c.inside for c in own), len(own)))
    return found


def _enough(text: str, inside: int, count: int) -> Finding:
    """Judge a number of successes against `LEVEL`, by its binomial lower tail at 2.5 %."""
    tail = sum(
        math.comb(count, k) * LEVEL**k * (1 - LEVEL) ** (count - k) for k in range(inside + 1)
    )
    verdict = "undecided" if count < FEWEST else settle(tail >= 0.025)
    return Finding(text, verdict, f"{inside} of {count} inside, {LEVEL:.0%} expected")
