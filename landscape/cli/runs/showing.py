"""``landscape runs show``: everything of a run, its losses as a curve."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from landscape.cli.shared import Outcome
from landscape.shown import size

_BLOCKS = 60
_CURVES = ("train_loss", "updated", "correct", "per_example", "evaluations", "identity")


def show_run(chosen: argparse.Namespace) -> Outcome:
    """Show a run."""
    from landscape.sweep import RunConfig, open_rows
    from landscape.sweep.choosing import address_of

    rows = open_rows(chosen.source)
    row = rows.at(address_of(chosen.address, rows.addresses()))
    outcome = row["outcome"]
    named = RunConfig.of(row["config"]).named()
    print(f"run {row['address']} in {Path(chosen.source)}")
    _section("set", named)
    _section("by default", {k: v for k, v in row["config"].items() if k not in named})
    _section("outcome", {k: v for k, v in outcome.items() if k not in _CURVES})
    if outcome.get("correct"):
        right = outcome["correct"]
        print(f"  {'correct':20} {right.count('1')} of {len(right)} test examples")
    for record in outcome.get("evaluations") or []:
        print(f"  {'evaluated':20} {_value(record)}")
    print_curves({"train_loss": outcome.get("train_loss") or []})
    for key, values in row["measured"].items():
        _section(f"measured: {key}", values)
    _section("provenance", row.get("provenance") or {})
    return Outcome(row)


def print_curves(curves: Mapping[str, Sequence[float | None]]) -> None:
    """Print losses over training, on one scale, with the numbers at the ends.

    Args:
        curves: what each is called -> its values, one a step.
    """
    from landscape.figures.curve import format_curve, means

    short = {name: means(values, _BLOCKS) for name, values in curves.items() if values}
    there = [v for values in short.values() for v in values if not math.isnan(v)]
    for name, values in short.items():
        line = format_curve(values, min(there, default=0.0), max(there, default=0.0))
        steps = len(curves[name])
        print(f"{name}: {values[0]:.4g} {line} {values[-1]:.4g} ({steps} steps)")


def _section(title: str, values: Mapping[str, Any]) -> None:
    if values:
        print(title)
    for name, value in values.items():
        told = size(value) if name == "peak_memory" and value else _value(value)
        print(f"  {name:20} {told}")


def _value(value: Any) -> str:
    """Return a JSON value in words: numbers to six digits, objects as their entries."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        some = " ".join(_value(one) for one in value[:8])
        return some if len(value) <= 8 else f"{some} … ({len(value)})"
    if isinstance(value, float):
        return f"{value:.6g}"
    return (value or "none") if isinstance(value, str) else json.dumps(value)
