"""Two arms compared: seed by seed, over several cells at once, as factors, or without pairs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from types import MappingProxyType

from experiments.kit.statistics.block import largest_block, over_which
from experiments.kit.statistics.bootstrap import (
    Same,
    Texts,
    examples_deviation,
    right_ones,
    two_level_over,
)  # fmt: skip
from experiments.kit.statistics.decades import logarithms
from experiments.kit.statistics.difference import Difference
from experiments.kit.statistics.interval import ROUNDING, finite, spread, student, welch
from experiments.kit.statistics.p_values import sign_flips
from experiments.kit.statistics.planning import detectable, seeds_needed
from landscape.errors import UserError

#: by seed: a value, or what was right of each test example as a text of "0" and "1"; null in a
#: file is a value that was not finite, and refused
Arm = Mapping[int, float | str | None]


def paired(one: Arm, other: Arm) -> Difference:
    """Compare two arms seed by seed: by how much is one above the other?

    Pairs take out what a seed's arms share: its examples, its order of data, its mask. Texts of
    "0" and "1" are compared as accuracies, and get the two-level bootstrap as well. Seeds of one
    arm alone are left out, and counted.

    Args:
        one, other: the arms.

    Raises:
        UserError: no seed in both, a value that is not finite, or texts of other examples.

    Cost: 0.03 s for texts of 10 seeds; a few ms else.

    Source: Student (1908) for the interval; see `sign_flips`, `detectable`, `two_level`.

    >>> paired({0: 3.0, 1: 5.0, 2: 7.0}, {0: 2.0, 1: 3.0, 2: 4.0, 9: 1.0}).mean
    2.0
    """
    seeds = [seed for seed in one if seed in other]
    left = len({*one} ^ {*other})
    x, y = ({seed: _value(arm[seed]) for seed in seeds} for arm in (one, other))
    found = _of({s: x[s] - y[s] for s in seeds}, size=_size(x, y), left=left)
    right, others = _texts(one, seeds), _texts(other, seeds)
    return _by_example(found, {"": (right, others)}, {}) if right or others else found


def over_cells(
    cells: Mapping[Hashable, tuple[Arm, Arm]], same: Same = MappingProxyType({})
) -> Difference:
    """Compare two arms over several cells, such as tasks or ratios, at once.

    A seed's differences are averaged over the cells, so that cells are blocks and n stays the
    number of seeds: cells share the seed's data, model or mask and are not independent. The
    interval speaks of these cells and no others. Of a table with gaps the largest whole block of
    cells and seeds is taken, which the runs that are there decide, whatever they found; seeds and
    cells outside it are counted. Where all of it is texts of "0" and "1", such a mean gets the
    two-level bootstrap as well; one cell of values alone, such as correlations, leaves it out.

    Args:
        cells: the two arms of each.
        same: by cell and seed, a name of the test examples, as of `two_level_over`: texts of one
            name are of the same examples, in one order.

    Raises:
        UserError: no seed is whole, or a value is not finite.

    >>> arms = {"sst2": ({0: 2.0, 1: 5.0}, {0: 1.0, 1: 1.0}), "rte": ({0: 3.0}, {0: 0.0})}
    >>> found = over_cells(arms)
    >>> found.mean, found.n, found.interval.how.partition(", over ")[2]
    (2.5, 2, '1 of 2 cells, without rte, which lack common seeds')
    """
    seeds = {seed for arms in cells.values() for side in arms for seed in side}
    chosen, whole = largest_block({at: x.keys() & y.keys() for at, (x, y) in cells.items()})
    values = [[{s: _value(arm[s]) for s in whole} for arm in cells[at]] for at in chosen]
    gaps = {s: fmean(one[s] - other[s] for one, other in values) for s in whole}
    size = _size(*(arm for arms in values for arm in arms))
    found = _of(gaps, size=size, left=len(seeds) - len(whole))
    over = f"{found.interval.how}, {over_which(chosen, cells)}"
    found = replace(found, interval=replace(found.interval, how=over))
    texts = {at: (_texts(cells[at][0], whole), _texts(cells[at][1], whole)) for at in chosen}
    if any(len(side) < len(whole) for sides in texts.values() for side in sides):
        return found
    return _by_example(found, texts, same)


def factors(one: Mapping[int, float], other: Mapping[int, float]) -> Difference:
    """Compare two arms of values over decades: by which factor is one above the other?

    A difference of logarithms: the mean is a geometric mean of the seeds' ratios.

    Args:
        one, other: the arms, all values above zero.

    Raises:
        UserError: no seed in both, or a value that has no logarithm.

    >>> factors({0: 2.0, 1: 8.0, 2: 4.0}, {0: 1.0, 1: 1.0, 2: 1.0}).sentence().partition(",")[0]
    '×4 [0.715'
    """
    x, y = (dict(zip(arm, logarithms([*arm.values()]), strict=True)) for arm in (one, other))
    return replace(paired(x, y), factor=True)


def unpaired(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Compare two arms whose seeds share nothing, by Welch's interval.

    The effect is mean / √((s₁² + s₂²) / 2), corrected with the degrees of freedom of that root.

    Args:
        one, other: the arms' values, one a seed.

    Raises:
        UserError: an arm without a value, or with one that is not finite.

    Source: Welch (1947); Delacre et al., Why Hedges' g*s, 2021, for the effect.

    >>> print(unpaired([1.0, 2.0, 3.0], [0.0, 1.0, 2.0]).interval)
    1.0 [-1.3, 3.3] (3 and 3 seeds, unpaired, Welch)
    """
    interval, freedom = welch(one, other)
    if math.isnan(freedom):
        return Difference(interval, math.nan, math.nan, None, math.nan, None, {})
    a, b = spread(one) ** 2, spread(other) ** 2
    error, std = math.sqrt(a / len(one) + b / len(other)), math.sqrt(a + b)
    pooled = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(other) - 1))
    return Difference(
        interval, std, _hedges(pooled) * interval.value / (std / math.sqrt(2)), None,
        detectable(error, freedom),
        seeds_needed(interval.value, std, (a + b) ** 2 / (a**2 + b**2)), {},
        error=error, freedom=freedom,
    )  # fmt: skip


def _of(each: Mapping[int, float], *, size: float, left: int) -> Difference:
    """Say everything of paired differences."""
    if not each:
        raise UserError(
            f"expected a seed that both arms have in every cell, got none ({left} lack one); "
            "run the missing arm with the seeds of the other"
        )
    each = {s: d if abs(d) > ROUNDING * size else 0.0 for s, d in each.items()}
    gaps, n = [*each.values()], len(each)
    interval, flips, std = student(gaps, size=size), sign_flips(gaps), spread(gaps, size)
    if not std > 0:  # equal differences, or one
        return Difference(interval, std, math.nan, flips, math.nan, None, each, left_out=left)
    mean, error = interval.value, std / math.sqrt(n)
    return Difference(
        interval, std, _hedges(n - 1) * mean / std, flips, detectable(error, n - 1),
        seeds_needed(mean, std), each, left_out=left, error=error, freedom=n - 1,
    )  # fmt: skip


def _by_example(found: Difference, cells: Mapping[Hashable, Texts], same: Same) -> Difference:
    """Add what a difference of texts says by its test examples."""
    interval, deviation = two_level_over(cells, same), examples_deviation(cells, same)
    return replace(found, bootstrap=interval, examples=deviation)


def _texts(arm: Arm, seeds: Sequence[int]) -> dict[int, str]:
    return {seed: v for seed in seeds if isinstance(v := arm[seed], str)}


def _value(found: float | str | None) -> float:
    """Return a value, or the share of right examples."""
    if isinstance(found, str):
        return float(right_ones(found).mean())
    return math.nan if found is None else float(found)


def _size(*arms: Mapping[int, float]) -> float:
    """Return the largest magnitude, whose rounding is no spread."""
    return max((abs(v) for arm in arms if arm for v in finite([*arm.values()])), default=0.0)


def _hedges(freedom: float) -> float:
    """Return the factor that takes the bias of mean / std away, NaN where it has no mean.

    Γ(m / 2) / (√(m / 2) Γ((m - 1) / 2)) of m degrees of freedom (Hedges, 1981).

    >>> round(_hedges(2) * math.pi**0.5, 9), _hedges(1)
    (1.0, nan)
    """
    if not freedom > 1:
        return math.nan
    logs = math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)
    return math.exp(logs) / math.sqrt(freedom / 2)
