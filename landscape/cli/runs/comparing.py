"""``landscape runs compare``: two runs over their examples, two groups over their pairs."""

from __future__ import annotations

import argparse
import dataclasses
import math
from statistics import fmean
from typing import TYPE_CHECKING, Any

from landscape.cli.runs.listing import results_of, settings_of, written
from landscape.cli.runs.reading import Found, plain, read
from landscape.cli.runs.showing import print_curves
from landscape.cli.shared import Outcome
from landscape.errors import UserError
from landscape.shown import counted

if TYPE_CHECKING:
    from pandas import DataFrame

    from landscape.sweep import Row
    from landscape.sweep.comparison import Difference


def compare_runs(chosen: argparse.Namespace) -> Outcome:
    """Compare two runs, or two groups whose runs are paired: the second minus the first."""
    from landscape.sweep.comparison import paired

    found = read(chosen.source)
    first, fixed = _group(found, chosen.first)
    second, more = _group(found, chosen.second)
    found.tell()
    settings = settings_of(found.frame)
    differs = _print_differences(first, second, settings)
    keys, pairs = paired(first, second, settings, [*fixed, *more])
    rows = [(found.rows.at(a), found.rows.at(b)) for a, b in pairs]
    metric = _metric(rows)
    alone = [len(group) - len(pairs) for group in (first, second)]
    if any(alone):
        print(f"without a partner: {alone[0]} of the first, {alone[1]} of the second")
    result = {"differs": differs, "paired_by": keys, "metric": metric, "without_partner": alone,
              **found.as_dict()}  # fmt: skip
    if len(rows) == 1:
        return Outcome(result | _compare_two(found, *rows[0], metric))
    return Outcome(result | _compare_groups(found, rows, keys, metric))


def _group(found: Found, text: str) -> tuple[DataFrame, list[str]]:
    """Return the runs of a group, and the columns that make it."""
    from landscape.sweep.choosing import address_of, chosen, conditions

    if "=" not in text:
        address = address_of(text, list(found.frame["address"]))
        return found.frame[found.frame["address"] == address], []
    wanted = conditions([text])
    frame = chosen(found.frame, wanted)
    if frame.empty:
        raise UserError(
            f"expected finished runs with {text} in {found.source}, got none; see landscape runs "
            f"list {found.source}"
        )
    return frame, list(wanted)


def _print_differences(
    first: DataFrame, second: DataFrame, settings: list[str]
) -> dict[str, list[list[str]]]:
    """Print the settings that are not the same in both groups, and return them."""
    from landscape.sweep.choosing import shown

    found = {}
    for name in settings:
        values = [list(dict.fromkeys(map(shown, group[name]))) for group in (first, second)]
        if sorted(values[0]) != sorted(values[1]):
            found[name] = values
            print(f"{name}: {', '.join(values[0])} | {', '.join(values[1])}")
    if not found:
        print("the same settings")
    return found


def _metric(rows: list[tuple[Row, Row]]) -> str:
    names = {row["outcome"].get("metric") for pair in rows for row in pair}
    if len(names) != 1 or None in names:
        raise UserError(
            f"expected runs with one metric, got {', '.join(sorted(map(str, names)))}; compare "
            "runs of one task"
        )
    return str(names.pop())


def _compare_two(found: Found, first: Row, second: Row, metric: str) -> dict[str, Any]:
    from landscape.figures.table import format_table
    from landscape.sweep.comparison import over_examples

    frame = found.frame.set_index("address", drop=False)
    both = frame.loc[[first["address"], second["address"]]]
    names = results_of(both, settings_of(both))
    lines = {name: [written(name, value) for value in both[name]] for name in names}
    print(format_table(
        [{"": name, first["address"][:8]: a, second["address"][:8]: b}
         for name, (a, b) in lines.items()], plain=True,
    ))  # fmt: skip
    over = over_examples(first, second)
    if over is None:
        print("not paired over examples: the rows do not say that both saw the same test examples")
    else:
        print(f"test {metric}, second - first: {describe(over)}, over {over.n} examples")
    _print_two_curves([first], [second])
    values = {name: [plain(value) for value in both[name]] for name in names}
    return {"values": values, "over_examples": dataclasses.asdict(over) if over else None}


def _compare_groups(
    found: Found, rows: list[tuple[Row, Row]], keys: list[str], metric: str
) -> dict[str, Any]:
    from landscape.figures.table import format_table
    from landscape.sweep.choosing import shown
    from landscape.sweep.comparison import of_values, over_examples

    frame = found.frame.set_index("address", drop=False)
    lines, pairs = [], []
    for a, b in rows:
        values = [_score(one, metric) for one in (a, b)]
        over = over_examples(a, b)
        told = {key: shown(frame.loc[a["address"], key]) for key in keys}
        lines.append(told | {
            "first": shown(values[0]), "second": shown(values[1]),
            "second - first": f"{values[1] - values[0]:+.4g}",
            "over examples": describe(over) if over else "not paired",
        })  # fmt: skip
        pairs.append({"first": a["address"], "second": b["address"], "values": values,
                      "over_examples": dataclasses.asdict(over) if over else None})  # fmt: skip
    print(format_table(lines, plain=True))
    whole = [one["values"] for one in pairs if not any(map(math.isnan, one["values"]))]
    mean = of_values([a for a, _ in whole], [b for _, b in whole]) if whole else None
    if len(whole) < len(pairs):
        left = counted(len(pairs) - len(whole), "pair")
        print(f"{left} without {metric} on one side, left out")
    if mean:
        print(f"test {metric}, second - first: {describe(mean)}, over {mean.n} pairs of runs")
    _print_two_curves([a for a, _ in rows], [b for _, b in rows])
    return {"pairs": pairs, "over_pairs": dataclasses.asdict(mean) if mean else None}


def describe(found: Difference) -> str:
    """Write a difference with its interval, and the test where one was made."""
    said = f"{found.mean:+.4g}"
    if not math.isnan(found.low):
        said += f" [{found.low:+.4g}, {found.high:+.4g}]"
    if found.first is not None:
        said += f", {found.first} right in the first alone, {found.second} in the second alone"
    return said if math.isnan(found.p) else f"{said}, p {found.p:.3g}"


def _print_two_curves(first: list[Row], second: list[Row]) -> None:
    """Print the losses of both sides, means over runs where these have as many steps."""
    curves = {}
    for name, rows in (("train_loss, first ", first), ("train_loss, second", second)):
        losses = [row["outcome"].get("train_loss") or [] for row in rows]
        if len({len(one) for one in losses}) == 1:
            curves[name] = [
                None if None in at else fmean(at) for at in zip(*losses, strict=True)
            ]  # fmt: skip
    print_curves(curves)


def _score(row: Row, metric: str) -> float:
    value = (row["outcome"].get("test") or {}).get(metric)
    return math.nan if value is None else float(value)
