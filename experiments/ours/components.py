"""Two-way variance components: how much of a value's spread is due to rows, and to columns."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Components:
    """Hold the components of y_ij = mean + row_i + column_j + rest_ij, one value a cell.

    Args:
        rows, columns, rest: standard deviations, by mean squares; 0 where the estimate is negative.
        ratio: mean square of rows over that of columns.
        ratio_low, ratio_high: 95 % interval of the ratio of their expectations; above 1 the rows
            differ more. Exact for normal effects where there are as many rows as columns.
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


def components(values: Mapping[tuple[Hashable, Hashable], float]) -> Components | None:
    """Split the variance of a complete table; None where a cell is missing or fewer than 2 x 2.

    With mean squares MS of n rows, m columns and the rest, which are independent,

        E MS_rows = m var_rows + var_rest,    E MS_columns = n var_columns + var_rest,

    and MS_rows / E MS_rows over the same of columns has an F distribution of n - 1 and m - 1
    degrees of freedom.

    Source: Searle, Casella and McCulloch, Variance Components, 1992, chapter 4.

    >>> found = components({(i, j): 10.0 * i + j for i in range(3) for j in range(3)})
    >>> round(found.rows, 9), round(found.columns, 9), round(found.rest, 9)
    (10.0, 1.0, 0.0)
    """
    from scipy import stats

    names = list(dict.fromkeys(i for i, _ in values)), list(dict.fromkeys(j for _, j in values))
    n, m = map(len, names)
    if min(n, m) < 2 or len(values) != n * m:
        return None
    mean = fmean(values.values())
    rows = {i: fmean(values[i, j] for j in names[1]) for i in names[0]}
    columns = {j: fmean(values[i, j] for i in names[0]) for j in names[1]}
    of_rows = m * sum((x - mean) ** 2 for x in rows.values()) / (n - 1)
    of_columns = n * sum((x - mean) ** 2 for x in columns.values()) / (m - 1)
    left = sum((y - rows[i] - columns[j] + mean) ** 2 for (i, j), y in values.items())
    of_rest = left / ((n - 1) * (m - 1))
    ratio = of_rows / of_columns if of_columns else math.inf if of_rows else math.nan
    low, high = (float(stats.f.ppf(q, n - 1, m - 1)) for q in (0.025, 0.975))
    return Components(
        math.sqrt(max(of_rows - of_rest, 0.0) / m), math.sqrt(max(of_columns - of_rest, 0.0) / n),
        math.sqrt(of_rest), ratio, ratio / high, ratio / low, n, m,
    )  # fmt: skip
