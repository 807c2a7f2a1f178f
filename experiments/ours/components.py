"""Two-way variance components: how much of a value's spread is due to rows, and to columns."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np


@dataclass(frozen=True)
class Components:
    """Hold the components of y_ij = mean + row_i + column_j + rest_ij, one value a cell.

    Args:
        rows, columns, rest: standard deviations, by mean squares; 0 where a variance is estimated
            to be negative, which is its bound and no finding that it is 0.
        ratio: mean square of rows, less what was known before, over that of columns.
        ratio_low, ratio_high: 95 % interval of the same ratio of their expectations; above 1 the
            rows differ more, if there are as many rows as columns. For normal effects it is exact
            where nothing was known before, and a generalized interval otherwise.
        n, m: rows and columns.
    """

    rows: float
    columns: float
    rest: float
    ratio: float
    ratio_low: float
    ratio_high: float
    n: int
    m: int


def components(
    values: Mapping[tuple[Hashable, Hashable], float | None], known: float = 0.0
) -> Components | None:
    """Split the variance of a complete table; None where a cell is missing or fewer than 2 x 2.

    With mean squares MS of n rows, m columns and the rest, which are independent,

        E MS_rows = m var_rows + var_rest,    E MS_columns = n var_columns + var_rest,

    and MS_rows / E MS_rows over the same of columns has an F distribution of n - 1 and m - 1
    degrees of freedom. Of rows that differ by something else as well, by a known variance u, what
    is compared with columns is MS_rows - m u.

    Args:
        values: by row and column; None is a missing cell.
        known: u, such as the variance that drawing the test examples gives a row's mean.

    Source: Searle, Casella and McCulloch, Variance Components, 1992, chapter 4; Weerahandi,
    Generalized confidence intervals, 1993, for a known part.

    >>> found = components({(i, j): 10.0 * i + j for i in range(3) for j in range(3)})
    >>> round(found.rows, 9), round(found.columns, 9), round(found.rest, 9)
    (10.0, 1.0, 0.0)
    """
    names = list(dict.fromkeys(i for i, _ in values)), list(dict.fromkeys(j for _, j in values))
    n, m = map(len, names)
    y = {at: value for at, value in values.items() if value is not None}
    if min(n, m) < 2 or len(y) != n * m:
        return None
    mean = fmean(y.values())
    rows = {i: fmean(y[i, j] for j in names[1]) for i in names[0]}
    columns = {j: fmean(y[i, j] for i in names[0]) for j in names[1]}
    of_rows = m * sum((x - mean) ** 2 for x in rows.values()) / (n - 1)
    of_columns = n * sum((x - mean) ** 2 for x in columns.values()) / (m - 1)
    left = sum((value - rows[i] - columns[j] + mean) ** 2 for (i, j), value in y.items())
    of_rest = left / ((n - 1) * (m - 1))
    own = of_rows - m * known
    ratio = own / of_columns if of_columns else math.inf if of_rows else math.nan
    low, high = _interval(of_rows, of_columns, m * known, n, m)
    return Components(
        math.sqrt(max(own - of_rest, 0.0) / m), math.sqrt(max(of_columns - of_rest, 0.0) / n),
        math.sqrt(of_rest), ratio, low, high, n, m,
    )  # fmt: skip


def _interval(one: float, other: float, known: float, n: int, m: int) -> tuple[float, float]:
    """Return a 95 % interval of (A - known) / B, A and B the expectations of two mean squares.

    A is distributed as (n - 1) one / chi2(n - 1), B likewise of m - 1; with nothing known these are
    the F distribution's ends.
    """
    from scipy import optimize, stats

    low, high = (float(stats.f.ppf(q, n - 1, m - 1)) for q in (0.025, 0.975))
    if not other or not known:
        ratio = one / other if other else math.inf if one else math.nan
        return ratio / high, ratio / low
    shares = (np.arange(4000) + 0.5) / 4000
    b = (m - 1) * other / stats.chi2.ppf(shares, m - 1)

    def share(x: float) -> float:
        """Return the share of A - known that is below x B."""
        ends = known + x * b
        below = np.full_like(b, np.inf)
        np.divide((n - 1) * one, ends, out=below, where=ends > 0)
        return float(stats.chi2.sf(below, n - 1).mean())

    least, most = -known / float(b.min()), 2 * one / other / low
    return (
        float(optimize.brentq(lambda x: share(x) - 0.025, least, most)),
        float(optimize.brentq(lambda x: share(x) - 0.975, least, most)),
    )
