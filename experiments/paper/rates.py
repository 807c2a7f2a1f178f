"""How the best learning rate goes with the ratio in the papers' own tables: a power, with interval.

Tables 6 and 9 of Xu & Zhang 2024 print the best of six rates, a decade apart, for nine ratios of
eleven tasks and three models. The theory's threshold 2n / lambda_1 would give the exponent -1.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from statistics import fmean, linear_regression, stdev

from experiments.paper.tables import rows
from landscape.errors import UserError


@dataclass(frozen=True)
class Exponent:
    """Hold the mean exponent s of lr ~ ratio^s over cells, each a fit of its own.

    Args:
        value: mean of s over the cells.
        low, high: its 95 % interval (Student), NaN for fewer than two cells.
        cells: (model, task) -> s, by least squares of log lr on log ratio.
    """

    value: float
    low: float
    high: float
    cells: dict[tuple[str, str], float]


def printed_exponent(
    table: str, *, models: Collection[str] = (), without: Collection[str] = ()
) -> Exponent:
    """Fit a power to a paper's best rates.

    The interval is over cells as if they were independent; a model's tasks are not quite. Rates end
    at 1e-1 and are a decade apart, which draws the exponent towards zero.

    Args:
        table: "table 6" (random masks) or "table 9" (structured ones).
        models: those that count; none means all.
        without: tasks left out; nothing is learned on wsc, so that its rates mean nothing.

    Raises:
        UserError: an unknown table, or no cell is left.

    >>> fit = printed_exponent("table 6")
    >>> round(fit.value, 2), round(fit.low, 2), round(fit.high, 2), len(fit.cells)
    (-0.85, -0.94, -0.75, 33)
    """
    from scipy import stats

    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows("random_masking", table):
        if row["task"] not in without and (not models or row["model"] in models):
            at = math.log(row["ratio"]), math.log(row["lr"])
            points.setdefault((row["model"], row["task"]), []).append(at)
    if not points:
        raise UserError(
            f"expected learning rates by model and task in {table} of random_masking, got none for "
            f"models {', '.join(models) or 'all'} without {', '.join(without) or 'none'}; "
            "take table 6 or table 9, or leave the choice out"
        )
    cells = {}
    for cell, at_ratios in points.items():
        ratios, rates = zip(*at_ratios, strict=True)
        cells[cell] = linear_regression(ratios, rates).slope
    values = list(cells.values())
    if len(values) < 2:
        return Exponent(fmean(values), math.nan, math.nan, cells)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Exponent(fmean(values), fmean(values) - half, fmean(values) + half, cells)
