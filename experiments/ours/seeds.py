"""Variance over masks against variance over data: every mask seed with every seed of the data.

A seed of the data draws the test examples too, and a thousand of these move accuracy by a point
whatever was trained. So what they alone give is taken off before the data's part is compared.

`films.json` has the films of the reviews that the local preset's data seeds draw, as numbers in the
order of the test rows, by the hash of their texts that every run keeps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from experiments.kit import columns, panels
from experiments.kit.cases import apart
from experiments.kit.judge import Finding, above
from experiments.kit.presets import SMOKE
from experiments.kit.records import Record, matching
from experiments.kit.statements import Statement
from experiments.kit.view import Artefact
from experiments.ours.components import Components, components, of_examples
from experiments.random_masking.grids import MINILM, opt
from landscape.sweep.grid import Grid

#: preset -> seeds of data and of masks, and the ratios with a rate that suits each
NUMBER: Mapping[str, int] = {"smoke": 2, "local": 5, "paper": 10}
CELLS: Mapping[str, Sequence[tuple[float, float]]] = {
    "smoke": [(1e-3, 1e-2), (1e-5, 3e-1)], "local": [(1e-3, 1e-2), (1e-5, 3e-1)],
    "paper": [(1e-3, 1e-3), (1e-5, 1e-1)],
}  # fmt: skip
CASES: Mapping[str, Mapping[str, Any]] = {"smoke": SMOKE, "local": MINILM | {"epochs": 2}}
#: tasks whose test examples are drawn in groups (films)
GROUPED = ("rotten_tomatoes",)
FILMS = Path(__file__).with_name("films.json")


def grids(preset: str) -> Sequence[Grid]:
    """Return every pair of a seed of the data and one of the mask, at a given rate."""
    case = (
        opt("facebook/opt-125m", "sst2", paper_mask=False) if preset == "paper" else CASES[preset]
    )
    seeds = range(NUMBER[preset])
    axes = {"ratio+lr": CELLS[preset], "seed": seeds, "mask_seed": [100 + s for s in seeds]}
    return [Grid({**case, "method": "random"}, axes)]


def derive(record: Record) -> Mapping[str, Any]:
    """Name the arms by their ratio."""
    return {"arm": f"ratio {record['ratio']:g}"}


def of(records: Sequence[Record], value: str) -> Components | None:
    """Return the components of a value over a whole square of seeds; None where it is not whole."""
    known = drawn(records) if value == "test" else 0.0
    return components({(r["seed"], r["mask_seed"]): r[value] for r in records}, known or 0.0)


def drawn(records: Sequence[Record]) -> float | None:
    """Return the variance that drawing its test examples alone gives to a data seed's accuracy.

    None where a run of the square does not say which it had right. Reviews of one film are a group;
    where their films are not known every one is its own, and the variance is at least this.
    """
    right = {(r["seed"], r["mask_seed"]): [int(c) for c in r.get("correct") or ""] for r in records}
    rows, masks = ({at[axis] for at in right} for axis in (0, 1))
    if len(right) < len(rows) * len(masks) or min(len(rows), len(masks)) < 2:
        return None
    return (
        of_examples(right, {r["seed"]: groups(r) for r in records}) if all(right.values()) else None
    )


def groups(record: Record) -> Sequence[Hashable]:
    """Return of which group each test example of a run is: its film, else the example itself."""
    rows = _rows(record) or f"of seed {record['seed']}"
    return films().get(rows) or [(rows, place) for place in range(len(record["correct"]))]


@cache
def films() -> Mapping[str, Sequence[int]]:
    """Return the films of test reviews by the hash of their texts."""
    found: dict[str, list[int]] = json.loads(FILMS.read_text(encoding="utf-8"))
    return found


def _ungrouped(records: Sequence[Record]) -> bool:
    """Tell whether test examples were drawn in groups that are not known."""
    return any(r["task"] in GROUPED and _rows(r) not in films() for r in records)


def _rows(record: Record) -> str | None:
    """Return the hash of a run's test rows."""
    rows: Mapping[str, str] = (record.get("identity") or {}).get("test rows") or {}
    return rows.get("texts")


def component(pick: Callable[[Components], float]) -> columns.Column:
    """Write a standard deviation of accuracy that one of the sources alone would give."""

    def write(group: Sequence[Record]) -> str:
        found = of(group, "test")
        return "-" if found is None else _deviation(pick(found), ".4f")

    return write


def _of_examples(group: Sequence[Record]) -> str:
    """Write the standard deviation that drawing the test examples alone would give."""
    known = drawn(group)
    if known is None:
        return columns.NOTHING
    return f"{'at least ' * _ungrouped(group)}{math.sqrt(known):.4f}"


def _deviation(value: float, form: str = ".3g") -> str:
    """Write a standard deviation; one whose variance is estimated to be negative is told.

    >>> _deviation(0.0123), _deviation(0.0)
    ('0.0123', '0 (at its bound)')
    """
    return f"{value:{form}}" if value else "0 (at its bound)"


def _compare(value: str, what: str, ratio: float) -> Statement:
    text = f"at ratio {ratio:g} the data's seed moves {what} more than the mask's"

    def judge(records: Sequence[Record]) -> Finding:
        own = matching(records, {"ratio": ratio})
        if not own:
            return Finding(text, "undecided", f"no run at {ratio:g}")
        found = of(own, value)
        if found is None:
            return Finding(text, "undecided", "not every seed of the data has it with every mask")
        low, high = found.ratio_low, found.ratio_high
        known = (drawn(own) or 0.0) if value == "test" else 0.0
        beyond = f", beyond {math.sqrt(known):.3g} of its test examples" if known else ""
        how = "generalized interval" if known else "exact F"
        said = (
            f"standard deviations {_deviation(found.rows)} (data{beyond}), "
            f"{_deviation(found.columns)} (mask), {found.rest:.3g} (rest); mean squares of data "
            f"over mask {found.ratio:.2g} [{low:.2g}, {high:.2g}] "
            f"({how}, {found.n} x {found.m} seeds)"
        )
        verdict = above(low, high, 1.0)
        if verdict == "holds" and value == "test" and _ungrouped(own):
            return Finding(text, "undecided", f"{said}; its test examples are drawn in groups")
        return Finding(text, verdict, said)

    return Statement(text, judge)


ARTEFACT = Artefact(
    name="seeds",
    title="Variance over masks against variance over data",
    source="ours",
    grids=grids,
    derive=derive,
    tables={
        "Standard deviation of test accuracy by source": columns.Table(
            by=("model", "task", "ratio"),
            columns={
                "runs": columns.seeds(), "accuracy": columns.mean_std("test"),
                "test examples": _of_examples,
                "data beyond them": component(lambda c: c.rows),
                "mask": component(lambda c: c.columns), "rest": component(lambda c: c.rest),
            },
        ),
    },
    statements={
        f"{value}_{name}": _compare(value, what, ratio)
        for value, what in (("test", "accuracy beyond its test examples"), ("distance", "distance"))
        for name, ratio in (("thousandth", 1e-3), ("hundred_thousandth", 1e-5))
    },
    panels=apart(
        panels.dots("test", "By the data's seed", "test accuracy", by="seed"),
        panels.dots("test", "By the mask's seed", "test accuracy", by="mask_seed"),
        by=("arm",),
    ),
    columns=2,
    lead=(
        "Every seed of the data (examples, order, head, dropout) with every seed of the mask. "
        "What the rows of this square share is the data's, what its columns share the mask's, "
        "and the rest is neither's alone. A data seed draws its test examples too, reviews of "
        "about a hundred films: what they alone give to accuracy is told apart, film by film, and "
        "what they give a single run is in the rest. A paper that keeps one mask for all its runs "
        "reports the data's and the rest, and not the mask's. A variance that is estimated to be "
        "negative is shown as 0, its bound; that is no finding that there is none."
    ),
    caption="Test accuracy by either seed; points are runs, lines 95 % intervals",
    differences=(
        ("the head is fitted to each data seed's examples before training",
         "levels differ before the first step, which is data's: the more, the less is learned"),
        ("rates are given, {lr}, and not chosen",
         "another rate may scatter otherwise"),
    ),
)  # fmt: skip
