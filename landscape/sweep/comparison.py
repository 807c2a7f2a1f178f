"""Two runs, or two groups of them, beside each other: what differs, paired over examples, seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from landscape.errors import UserError
from landscape.sweep.choosing import shown
from landscape.sweep.rows import Row

if TYPE_CHECKING:
    from pandas import DataFrame

_LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """Hold a paired difference, the second minus the first.

    Args:
        mean: of the pairs.
        low, high: its 95 % interval; NaN where there are too few pairs.
        n: pairs.
        p: of no difference, two-sided: McNemar's exact test for right and wrong examples; NaN
            where no test was made.
        first, second: examples that it alone has right; None for other values.
    """

    mean: float
    low: float
    high: float
    n: int
    p: float = math.nan
    first: int | None = None
    second: int | None = None


def of_correct(first: str, second: str) -> Difference:
    r"""Compare which examples two runs have right.

    With b examples that the first alone has right and c that the second alone has, the difference
    of accuracies is (c - b) / n. Its interval is Wald's with half an example added to each of the
    four cells, d = (c - b) / (n + 2), d ± 1.96 sqrt(b + c + 1 - (n + 2) d²) / (n + 2) (Agresti and
    Min, 2005); its p is McNemar's exact one, min(1, 2 P[Binomial(b + c, 1/2) <= min(b, c)]).

    Args:
        first, second: texts of "0" and "1", one an example, in the same order.

    >>> found = of_correct("1110", "1000")
    >>> found.mean, found.p, found.first, found.second
    (-0.5, 0.5, 2, 0)
    """
    from scipy import stats

    b = sum(x > y for x, y in zip(first, second, strict=True))
    c = sum(x < y for x, y in zip(first, second, strict=True))
    n, m = len(first), len(first) + 2
    center = (c - b) / m
    reach = stats.norm.isf((1 - _LEVEL) / 2) * math.sqrt(max(0.0, b + c + 1 - m * center**2)) / m
    p = float(stats.binomtest(b, b + c).pvalue) if b + c else 1.0
    return Difference((c - b) / n, center - reach, center + reach, n, p, b, c)


def of_values(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare paired values by the mean of their differences and Student's interval.

    >>> of_values([1.0, 2.0], [1.5, 2.5])
    Difference(mean=0.5, low=0.5, high=0.5, n=2, p=nan, first=None, second=None)
    """
    from scipy import stats

    differences = [y - x for x, y in zip(first, second, strict=True)]
    mean, n = fmean(differences), len(differences)
    if n < 2:
        return Difference(mean, math.nan, math.nan, n)
    reach = float(stats.t.isf((1 - _LEVEL) / 2, n - 1)) * stdev(differences) / math.sqrt(n)
    return Difference(mean, mean - reach, mean + reach, n)


def over_examples(first: Row, second: Row) -> Difference | None:
    """Compare two runs over their test examples; None where these or what is known of them differ.

    Only runs that say by their hashes that they were tested on the same examples are paired.
    """
    a, b = first["outcome"], second["outcome"]
    rows = [(one.get("identity") or {}).get("test rows") for one in (a, b)]
    if rows[0] is None or rows[0] != rows[1] or a.get("metric") != b.get("metric"):
        return None
    if a.get("correct") and len(a["correct"]) == len(b.get("correct") or ""):
        return of_correct(a["correct"], b["correct"])
    scores = [_scores(one) for one in (a, b)]
    if scores[0] and len(scores[0]) == len(scores[1]):
        return of_values(*scores)
    return None


def differing(frame: DataFrame, names: Sequence[str]) -> list[str]:
    """Return those of some columns that are not the same in all rows of a frame of runs."""
    return [name for name in names if frame[name].map(shown).nunique() > 1]


def paired(
    first: DataFrame, second: DataFrame, settings: Sequence[str], fixed: Sequence[str]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Pair the runs of two groups that agree in what varies within the groups.

    The learning rate, which is a nuisance here, and the columns that make the groups don't count,
    nor does the mask's seed where the others tell a group's runs apart.

    Args:
        first, second: frames of `landscape.runs`.
        settings: columns of the configuration.
        fixed: columns that make the groups.

    Returns:
        The columns that pairs agree in, and the pairs' addresses.

    Raises:
        UserError: several runs of a group would be one of a pair, or there is no pair.
    """
    names = [name for name in settings if name not in ("lr", "address", *fixed)]
    within = {name for group in (first, second) for name in differing(group, names)}
    keys = [name for name in names if name in within]
    fewer = [name for name in keys if name != "mask_seed"]
    if all(_apart(group, fewer) for group in (first, second)):
        keys = fewer
    found = [_by(group, keys, settings) for group in (first, second)]
    pairs = [(address, found[1][key]) for key, address in found[0].items() if key in found[1]]
    if not pairs:
        raise UserError(
            f"expected runs of both groups that agree in {', '.join(keys)}, got none; compare "
            "groups that share them"
        )
    return keys, pairs


def _apart(group: DataFrame, names: Sequence[str]) -> bool:
    """Tell whether some columns tell all rows of a group apart."""
    return len(set(zip(*(group[n].map(shown) for n in names)))) == len(group) or len(group) == 1


def _by(group: DataFrame, keys: Sequence[str], settings: Sequence[str]) -> dict[Any, str]:
    """Return the runs of a group by what they are paired by."""
    found: dict[Any, str] = {}
    for row in group.sort_values([*keys, "address"]).to_dict("records"):
        key = tuple(shown(row[name]) for name in keys)
        if key in found:
            both = group[(group["address"] == found[key]) | (group["address"] == row["address"])]
            names = differing(both, [n for n in settings if n != "address"])
            if not names:
                raise UserError(
                    f"expected one run of a group for each pair, got {found[key]} and "
                    f"{row['address']}, which no column tells apart; compare the two by address"
                )
            raise UserError(
                f"expected one run of a group for each pair, got two that differ in "
                f"{', '.join(names)}; fix it, as {names[0]}={shown(row[names[0]])}"
            )
        found[key] = row["address"]
    return found


def _scores(outcome: dict[str, Any]) -> list[float]:
    scores = outcome.get("per_example") or []
    if isinstance(scores, dict):
        scores = scores.get(outcome.get("metric", "")) or []
    return [] if None in scores else [float(one) for one in scores]
