"""The difference between two arms over seeds, with all that is said of it, and its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from experiments.kit.judge import Verdict, above, within
from experiments.kit.statistics.interval import LEVEL, Interval, written
from experiments.kit.statistics.p_values import SignFlips, holm
from experiments.kit.statistics.planning import seeds_needed
from landscape.errors import UserError


@dataclass(frozen=True)
class Difference:
    """Hold by how much one arm's value is above another's, over seeds.

    Args:
        interval: mean, Student's or Welch's 95 % interval, and n.
        std: of the paired differences; of two arms without pairs the root of the sum of their
            variances; NaN of a single seed.
        effect: Hedges' g: mean / std, of pairs the std of their differences and not of an arm,
            times the correction of its bias; NaN below three seeds, and without a spread. Of few
            it scatters: a true 1 is found between .1 and 2.8 in 95 % of studies of five seeds.
        flips: the sign-flip test, exact up to 16 seeds; none without pairs.
        could_show: the smallest difference that these seeds find with power .8 at level .05.
        needed: seeds that find the difference seen, as often, at the level that Holm's test has for
            it in a family; none where 1000 do not suffice.
        each: the differences by seed; empty without pairs.
        bootstrap: the two-level interval, where the runs keep what was right example by example.
        examples: the deviation that a seed's difference has from its test examples alone.
        left_out: seeds that lacked an arm or a cell.
        error: the mean's standard error; NaN without a spread.
        freedom: its degrees of freedom.
        factor: whether all this is of logarithms, and the difference is told as a factor.
        family: how many findings are read together.
        adjusted: Holm's p-value among them.
        threshold: what it says the difference is not.
    """

    interval: Interval
    std: float
    effect: float
    flips: SignFlips | None
    could_show: float
    needed: int | None
    each: Mapping[int, float]
    bootstrap: Interval | None = None
    examples: float = math.nan
    left_out: int = 0
    error: float = math.nan
    freedom: float = math.nan
    factor: bool = False
    family: int = 1
    adjusted: float = math.nan
    threshold: float | None = None

    @property
    def mean(self) -> float:
        """Return the mean difference."""
        return self.interval.value

    @property
    def p(self) -> float:
        """Return the two-sided p of "there is no difference", as `p_value`."""
        return self.p_value()

    @property
    def n(self) -> int:
        """Return over how many seeds it is taken; without pairs, of the arm with fewer."""
        return self.interval.n

    def above(self, threshold: float | None = None) -> Verdict:
        """Judge "the difference is above the threshold", by the interval and the family.

        Args:
            threshold: a difference, or a factor; none is no difference.

        Raises:
            UserError: the p-value of the difference's family is of another threshold.
        """
        if self.family > 1 and threshold != self.threshold:
            raise UserError(
                f"expected the threshold of the finding's family, {self.threshold}, got "
                f"{threshold}; give family() the thresholds that are judged"
            )
        if self._doubted:
            return "undecided"
        return above(*self._decisive(), self._start(threshold))

    def within(self, margin: float) -> Verdict:
        """Judge "the difference is smaller than a margin", by where the interval lies.

        Args:
            margin: a difference, or a factor above 1, that would matter.
        """
        found = within(*self._decisive(), math.log(margin) if self.factor else margin)
        return "undecided" if self._doubted else found

    def p_value(self, threshold: float | None = None) -> float:
        """Return the two-sided p of "the difference is the threshold", by the interval's test.

        Equal differences have the sign-flip test's, since t has none without a spread.
        """
        from scipy import stats

        gap = abs(self.mean - self._start(threshold))
        if self.error > 0:
            return 2 * float(stats.t.sf(gap / self.error, self.freedom))
        if not self.each:
            return math.nan
        return 2.0 ** (1 - self.n) if gap > 0 else 1.0

    def sentence(self) -> str:
        """Write the evidence: interval, tests, what could have been shown, what would settle it.

        >>> from experiments.kit.statistics import paired
        >>> found = paired({0: 0.7, 1: 0.8, 2: 0.9}, {0: 0.6, 1: 0.75, 2: 0.8})
        >>> found.sentence().rpartition(", ")[0]
        '+0.083 [0.012, 0.155] (3 seeds, t), g=1.6, sign-flip p=.25 (the least)'
        """
        parts = [f"{self._written(self.interval)} ({self.interval.how})"]
        if not math.isnan(self.effect):
            parts.append(f"g={_plain(self.effect, 2)}")
        if self.flips and self.n > 1:
            floor = " (the least)" * (self.flips.p <= self.flips.smallest)
            parts.append(f"sign-flip p={_plain(self.flips.p)}{floor}")
        if self.could_show > 0:
            shown = math.exp(self.could_show) if self.factor else self.could_show
            parts.append(f"could have shown {'×' * self.factor}{_plain(shown, 2)}")
        if self.family > 1:
            than = "" if self.threshold is None else f" against {self.threshold:g}"
            parts.append(f"Holm p={_plain(self.adjusted)} among {self.family}{than}")
        if self.bootstrap:
            ends = self._written(self.bootstrap).partition(" ")[2]
            parts.append(f"{self.bootstrap.how.partition(', ')[2]} {ends}")
        if self.left_out:
            parts.append(f"{self.left_out} left out: incomplete")
        open_ = self.interval.low <= 0 <= self.interval.high
        if open_ or self._doubted:
            seeds = f"about {self.needed}" if self.needed else "more than 1000"
            parts.append(f"{seeds} seeds would tell it from {int(self.factor)}")
            if self.bootstrap and open_:
                share = min(1.0, (self.examples / self.std) ** 2)
                parts.append(f"{share:.0%} of the variance is the test examples'")
        return ", ".join(parts)

    def clause(self) -> str:
        """Write the evidence in a few words: interval, seeds, and what the family makes of it.

        >>> from experiments.kit.statistics import paired
        >>> paired({0: 0.7, 1: 0.8, 2: 0.9}, {0: 0.6, 1: 0.75, 2: 0.8}).clause()
        '+0.083 [0.012, 0.155], 3 seeds'
        """
        found = f"{self._written(self.interval)}, {self.interval.count}"
        return found + f", Holm p={_plain(self.adjusted, 2)} of {self.family}" * (self.family > 1)

    @property
    def _doubted(self) -> bool:
        """Tell whether so many findings may hold such a one by chance."""
        return self.family > 1 and not self.adjusted <= 1 - LEVEL

    def _start(self, threshold: float | None) -> float:
        """Return a threshold on the scale of the mean."""
        if threshold is None:
            return 0.0
        return math.log(threshold) if self.factor else threshold

    def _decisive(self) -> tuple[float, float]:
        """Return the interval's ends; equal differences decide where their signs alone do."""
        if self.std == 0 and self.each and 2.0 ** (1 - self.n) <= 1 - LEVEL:
            return self.mean, self.mean
        return self.interval.low, self.interval.high

    def _written(self, interval: Interval) -> str:
        """Write an estimate and its interval."""
        ends = interval.value, interval.low, interval.high
        if not self.factor:
            return written(*ends, "+")
        value, low, high = (f"{math.exp(end):.3g}" for end in ends)
        return f"×{value} [{low}, {high}]" if low != "nan" else f"×{value} [no interval]"


def family(
    differences: Mapping[str, Difference], thresholds: Mapping[str, float] | None = None
) -> dict[str, Difference]:
    """Return differences with Holm's p-values, for claims that are read together.

    Args:
        differences: by the finding's name, all that were looked at and not the interesting ones.
        thresholds: of those that are judged against something else than no difference.
    """
    against = thresholds or {}
    found = {name: d.p_value(against.get(name)) for name, d in differences.items()}
    adjusted = holm(found)
    later = sorted(found, key=lambda name: (math.isnan(found[name]), found[name]), reverse=True)
    return {
        name: replace(
            d, family=len(differences), adjusted=adjusted[name], threshold=against.get(name),
            needed=_needed(d, 1 + later.index(name)),
        )
        for name, d in differences.items()
    }  # fmt: skip


def _needed(one: Difference, among: int) -> int | None:
    """Return the seeds that find a difference which Holm's test asks among so many."""
    if one.needed is None or not (one.std > 0 and one.n > 1):
        return one.needed
    freedoms = one.freedom / (one.n - 1)
    return seeds_needed(one.mean, one.std, freedoms, (1 - LEVEL) / among)


def _plain(value: float, digits: int = 3) -> str:
    """Write a number without the zero before its point.

    >>> _plain(0.0625), _plain(0.0113, 2), _plain(12.5), _plain(-0.5)
    ('.0625', '.011', '12.5', '-.5')
    """
    return f"{value:.{digits}g}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}g}"
