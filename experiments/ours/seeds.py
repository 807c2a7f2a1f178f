"""Variance over masks against variance over data: every mask seed with every seed of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.kit import columns, panels
from experiments.kit.cases import apart
from experiments.kit.judge import Finding, above
from experiments.kit.presets import SMOKE
from experiments.kit.records import Record, matching
from experiments.kit.statements import Statement
from experiments.kit.view import Artefact
from experiments.ours.components import Components, components
from experiments.random_masking.grids import MINILM, opt
from landscape.sweep.grid import Grid

#: preset -> seeds of data and of masks, and the ratios with a rate that suits each
NUMBER: Mapping[str, int] = {"smoke": 2, "local": 5, "paper": 10}
CELLS: Mapping[str, Sequence[tuple[float, float]]] = {
    "smoke": [(1e-3, 1e-2), (1e-5, 3e-1)], "local": [(1e-3, 1e-2), (1e-5, 3e-1)],
    "paper": [(1e-3, 1e-3), (1e-5, 1e-1)],
}  # fmt: skip
CASES: Mapping[str, Mapping[str, Any]] = {"smoke": SMOKE, "local": MINILM | {"epochs": 2}}


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
    return {"arm": f"{record['ratio']:g}"}


def of(records: Sequence[Record], value: str) -> Components | None:
    """Return the components of a value over a whole square of seeds; None where it is not whole."""
    return components({(r["seed"], r["mask_seed"]): r[value] for r in records})


def component(pick: Callable[[Components], float]) -> columns.Column:
    """Write a standard deviation of accuracy that one of the sources alone would give."""

    def write(group: Sequence[Record]) -> str:
        found = of(group, "test")
        return "-" if found is None else f"{pick(found):.4f}"

    return write


def _compare(value: str, ratio: float) -> Statement:
    text = f"at {ratio:g} the data's seed moves {value} more than the mask's"

    def judge(records: Sequence[Record]) -> Finding:
        own = matching(records, {"ratio": ratio})
        if not own:
            return Finding(text, "undecided", f"no run at {ratio:g}")
        found = of(own, value)
        if found is None:
            return Finding(text, "undecided", "not every seed of the data has every mask")
        low, high = found.ratio_low, found.ratio_high
        said = (
            f"standard deviations {found.rows:.3g} (data), {found.columns:.3g} (mask), "
            f"{found.rest:.3g} (rest); mean squares of data over mask {found.ratio:.2g} "
            f"[{low:.2g}, {high:.2g}] (exact F, {found.n} x {found.m} seeds)"
        )
        return Finding(text, above(low, high, 1.0), said)

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
                "data": component(lambda c: c.rows), "mask": component(lambda c: c.columns),
                "rest": component(lambda c: c.rest),
            },
        ),
    },
    statements={
        f"{value}_{name}": _compare(value, ratio)
        for value in ("test", "test_loss", "distance")
        for name, ratio in (("thousandth", 1e-3), ("hundred_thousandth", 1e-5))
    },
    panels=apart(
        panels.dots("test", "By the data's seed", "test accuracy", by="seed"),
        panels.dots("test", "By the mask's seed", "test accuracy", by="mask_seed"),
        by=("ratio",),
    ),
    columns=2,
    lead=(
        "Every seed of the data (examples, their order) with every seed of the mask. What the rows "
        "of this square share is the data's, what its columns share the mask's, and the rest is "
        "neither's alone. A paper that keeps one mask for all its runs reports the first only."
    ),
    caption="Test accuracy by either seed; points are runs, lines 95 % intervals",
)  # fmt: skip
