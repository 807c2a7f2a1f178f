"""Two-way variance components: how much of a value's spread is due to rows, and to columns.

Of accuracy y_ij of data seed i and mask seed j, on test examples that the data seed draws:

    y_ij = mean + (row_i + u_i) + column_j + (rest_ij + v_ij).

What the examples give all runs of a row alike, as harder ones do, is u_i; what they give the single
run is v_ij, of mean zero over columns. So with n rows and m columns mean squares expect

    E MS_rows    = m (var_row + var_u) + var_rest + var_v,
    E MS_columns = n var_column        + var_rest + var_v,
    E MS_rest    =                       var_rest + var_v,

and var_row = (E MS_rows - E MS_rest) / m - var_u. Only var_u is to be taken off: MS_rest has var_v.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


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

    Mean squares are independent, and MS_rows / E MS_rows over the same of columns has an F
    distribution of n - 1 and m - 1 degrees of freedom. Of rows that differ by something else as
    well, by a known variance u, what is compared with columns is MS_rows - m u.

    Args:
        values: by row and column; None is a missing cell.
        known: u, as `of_examples` estimates that of test examples. With that estimate, of 5 x 5
            runs on 400 examples of 100 films, the interval covers 95 to 97 % (600 simulated squares
            each of three settings).

    Source: Searle, Casella and McCulloch, Variance Components, 1992, chapter 4; Weerahandi,
    Generalized confidence intervals, 1993, for a known part.

    >>> found = components({(i, j): 10.0 * i + j for i in range(3) for j in range(3)})
    >>> round(found.rows, 9), round(found.columns, 9), round(found.rest, 9)
    (10.0, 1.0, 0.0)
    """
    rows, columns = _names(values)
    n, m = len(rows), len(columns)
    cells = [[values.get((i, j)) for j in columns] for i in rows]
    if min(n, m) < 2 or any(value is None for line in cells for value in line):
        return None
    of_rows, of_columns, of_rest = map(float, _mean_squares(np.array(cells, np.float64)))
    own = of_rows - m * known
    ratio = own / of_columns if of_columns else math.inf if of_rows else math.nan
    low, high = _interval(of_rows, of_columns, m * known, n, m)
    return Components(
        math.sqrt(max(own - of_rest, 0.0) / m), math.sqrt(max(of_columns - of_rest, 0.0) / n),
        math.sqrt(of_rest), ratio, low, high, n, m,
    )  # fmt: skip


def of_examples(
    right: Mapping[tuple[Hashable, Hashable], Sequence[int]],
    groups: Mapping[Hashable, Sequence[Hashable]],
) -> float:
    """Return the variance that drawing test examples gives what the runs of a row share, var_u.

    Run ij errs by the sum over groups of t_gij, what is right of group g beyond the run's accuracy,
    over all its examples. Groups are independent, and so E of the sum over groups of the mean
    square of t_g is what examples add to that of y, for rows and rest alike, also where rows have
    drawn the same group. With G groups a row, G / (G - 1) for the accuracies that are estimates.

    Args:
        right: by row and column, 1 for each example of the row that was right, else 0.
        groups: by row, of which group each example is; examples that are drawn one by one are
            groups of their own, and an example that two rows have drawn is one group.

    Source: Cameron and Miller, A practitioner's guide to cluster-robust inference, 2015.

    >>> alike = {(i, j): [1, 1, 0, 0] for i in range(2) for j in range(2)}
    >>> round(of_examples(alike, {i: [(i, k) for k in range(4)] for i in range(2)}) * 12, 9)
    1.0
    """
    rows, columns = _names(right)
    index = {group: g for g, group in enumerate({g: None for i in rows for g in groups[i]})}
    shares = np.zeros((len(index), len(rows), len(columns)))
    for i, row in enumerate(rows):
        at = [index[group] for group in groups[row]]
        for j, column in enumerate(columns):
            own = np.asarray(right[row, column], np.float64)
            np.add.at(shares, (at, i, j), (own - own.mean()) / len(own))
    mean = sum(len(set(groups[i])) for i in rows) / len(rows)
    of_rows, _, of_rest = (squares.sum() for squares in _mean_squares(shares))
    return max(float(of_rows - of_rest) / len(columns) * mean / (mean - 1), 0.0)


def _names(values: Mapping[tuple[Hashable, Hashable], object]) -> tuple[list[Hashable], ...]:
    return list(dict.fromkeys(i for i, _ in values)), list(dict.fromkeys(j for _, j in values))


def _mean_squares(
    y: Float64[np.ndarray, "*tables n m"],
) -> tuple[Float64[np.ndarray, "*tables"], ...]:
    """Return the mean squares of rows, columns and rest."""
    n, m = y.shape[-2:]
    y = y - y.mean((-2, -1), keepdims=True)
    rows, columns = y.mean(-1, keepdims=True), y.mean(-2, keepdims=True)
    rest = ((y - rows - columns) ** 2).sum((-2, -1)) / ((n - 1) * (m - 1))
    return (
        m * (rows**2).sum((-2, -1)) / (n - 1), n * (columns**2).sum((-2, -1)) / (m - 1), rest,
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
