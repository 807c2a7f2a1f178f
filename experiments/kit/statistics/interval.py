"""An estimate with the interval that says how far it can be trusted: Student's, and Welch's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from landscape.errors import UserError

#: the share of repetitions in which an interval covers the truth
LEVEL = 0.95
#: a spread below this share of the values' own size is rounding
ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """Hold an estimate, its 95 % interval, over how many it is taken, and how.

    Args:
        value: the estimate.
        low, high: the interval's ends; NaN where it is not defined.
        n: independent repetitions, which are seeds unless ``how`` says otherwise.
        how: the interval's name, and what was left out or fell short.
        single: whether it is over points of one seed, which say nothing of other seeds.
    """

    value: float
    low: float
    high: float
    n: int
    how: str
    single: bool = False

    def __str__(self) -> str:
        """Write it with as many digits as its width allows.

        >>> print(Interval(-0.5, -0.75, -0.25, 5, "5 seeds, t"))
        -0.50 [-0.75, -0.25] (5 seeds, t)
        """
        return written(self.value, self.low, self.high) + f" ({self.how})"

    @property
    def count(self) -> str:
        """Return over how many of what it is taken, the first words of `how`."""
        return self.how.partition(",")[0]

    @property
    def clause(self) -> str:
        """Write it in a few words.

        >>> Interval(-0.5, -0.75, -0.25, 5, "5 seeds, t, over 2 cells").clause
        '-0.50 [-0.75, -0.25], 5 seeds'
        """
        return f"{written(self.value, self.low, self.high)}, {self.count}"


def student(values: Sequence[float], *, size: float = 0.0, each: str = "seed") -> Interval:
    """Return the mean with Student's interval: mean ± t(.975, n - 1) s / √n.

    It covers the mean of a normal population in 95 % of repetitions at any n, and is the primary
    interval over seeds. Without a spread s there is no interval: equal values, such as shares of
    few examples that happen to coincide, say nothing of how much others would differ.

    Args:
        values: one a repetition.
        size: of the numbers that the values are differences of, whose rounding is no spread.
        each: what a repetition is called.

    Raises:
        UserError: no value, or one that is not finite.

    Source: Student, The probable error of a mean, 1908.

    >>> round(student([1.0, 2.0, 3.0]).high, 6)  # 2 + t / √3, the table's t = 4.302653
    4.484138
    >>> print(student([0.25]))
    0.25 [no interval] (1 seed)
    """
    x = finite(values)
    n, mean, std = len(x), float(x.mean()), spread(x, size)
    named = plural(n, each)
    if not std > 0:
        return Interval(mean, math.nan, math.nan, n, named + ", all equal" * (n > 1))
    return Interval(mean, *around(mean, std / math.sqrt(n), n - 1), n, f"{named}, t")


def welch(one: Sequence[float], other: Sequence[float]) -> tuple[Interval, float]:
    """Return the difference of two means with Welch's interval, and its degrees of freedom.

    The standard error is √(a + b) of a = s₁² / n₁ and b = s₂² / n₂, on
    (a + b)² / (a² / (n₁ - 1) + b² / (n₂ - 1)) degrees of freedom (Satterthwaite). For arms whose
    seeds share nothing; where they share data or masks, pairs see more.

    Args:
        one, other: an arm's values, one a seed.

    Raises:
        UserError: no value, or one that is not finite.

    Source: Welch, The generalization of Student's problem, 1947.

    >>> welch([1.0, 2.0, 3.0], [0.0, 1.0, 2.0])[1]  # equal variances: n₁ + n₂ - 2
    4.0
    """
    x, y = finite(one), finite(other)
    mean, n = float(x.mean() - y.mean()), min(len(x), len(y))
    named = f"{len(x)} and {plural(len(y), 'seed')}, unpaired"
    size = float(max(np.abs(x).max(), np.abs(y).max()))
    a, b = (spread(v, size) ** 2 / len(v) for v in (x, y))
    if n < 2 or not a + b > 0:
        return Interval(mean, math.nan, math.nan, n, named), math.nan
    freedom = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / (len(y) - 1))
    return Interval(mean, *around(mean, math.sqrt(a + b), freedom), n, f"{named}, Welch"), freedom


def spread(values: Sequence[float] | Float64[np.ndarray, " n"], size: float = 0.0) -> float:
    """Return the standard deviation (n - 1), 0 where it is rounding, NaN of a single value.

    >>> spread([1.0, 2.0, 3.0]), spread([0.1 + 0.2, 0.3, 0.3]), spread([1.0])
    (1.0, 0.0, nan)
    """
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return math.nan
    std = float(x.std(ddof=1))
    return std if std > ROUNDING * max(size, float(np.abs(x).max())) else 0.0


def finite(values: Sequence[float]) -> Float64[np.ndarray, " n"]:
    """Return values as float64, if there are any and all are finite.

    Raises:
        UserError: they are not.
    """
    x = np.asarray(values, np.float64)
    if not len(x) or not np.isfinite(x).all():
        bad = [str(v) for v in values if not math.isfinite(v)]
        raise UserError(
            f"expected finite numbers, one a seed, got {', '.join(bad) or 'none'} among {len(x)}; "
            "say how such a run is counted, or leave its pair out and say so"
        )
    return x


def around(value: float, error: float, freedom: float) -> tuple[float, float]:
    """Return the ends of Student's interval of an estimate with a standard error.

    >>> round(around(0.0, 1.0, 2)[1], 6)
    4.302653
    """
    from scipy import stats

    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return value - half, value + half


def plural(n: int, each: str) -> str:
    """Write how many there are.

    >>> plural(1, "seed"), plural(2, "seed")
    ('1 seed', '2 seeds')
    """
    return f"{n} {each}" + "s" * (n != 1)


def written(value: float, low: float, high: float, sign: str = "") -> str:
    """Write an estimate and its interval, with two digits of the interval's half width.

    A number that would round to zero has two digits of its own, and so its sign.

    >>> written(0.0123, 0.0011, 0.0234, "+"), written(1234.0, 1000.0, 1468.0)
    ('+0.012 [0.001, 0.023]', '1234 [1000, 1468]')
    """
    if math.isnan(low):
        return f"{value:{sign}.3g} [no interval]"
    half = (high - low) / 2
    digits = 1 - math.floor(math.log10(half)) if 1e-12 < half < 1e12 else 0

    def write(number: float, sign: str = "") -> str:
        text = f"{number:{sign}.{max(0, digits)}f}"
        return text if float(text) or not number else f"{number:{sign}.2g}"

    return f"{write(value, sign)} [{write(low)}, {write(high)}]"
