"""The difference between two arms over seeds, with all that is said of it, and its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from experiments.kit.judge import Verdict, above, equal
from experiments.kit.statistics.interval import LEVEL, Interval, written
from experiments.kit.statistics.p_values import SignFlips, holm


@dataclass(frozen=True)
class Difference:
    """Hold by how much one arm's value is above another's, over seeds.

    Args:
        interval: mean, Student's or Welch's 95 % interval, and n.
        std: of the paired differences; of two arms without pairs the root of the sum of their
            variances; NaN of a single seed.
        effect: mean / std with Hedges' correction for few seeds; NaN below three.
        p: of the t test that the difference is zero, two-sided; where the differences are all
            equal, of the sign-flip test.
        flips: the sign-flip test, exact up to 16 seeds; none without pairs.
        could_show: the smallest difference that these seeds find with power .8 at level .05.
        needed: seeds that find the difference seen, as often; none where 1000 do not suffice.
        each: the differences by seed; empty without pairs.
        bootstrap: the two-level interval, where the runs keep what was right example by example.
        examples: the deviation that a seed's difference has from its test examples alone.
        left_out: seeds that lacked an arm or a cell.
        factor: whether all this is of logarithms, and the difference is told as a factor.
        family: findings that the p-value is adjusted among, by Holm.
        adjusted: that p-value.
    """

    interval: Interval
    std: float
    effect: float
    p: float
    flips: SignFlips | None
    could_show: float
    needed: int | None
    each: Mapping[int, float]
    bootstrap: Interval | None = None
    examples: float = math.nan
    left_out: int = 0
    factor: bool = False
    family: int = 1
    adjusted: float = math.nan

    @property
    def mean(self) -> float:
        """Return the mean difference."""
        return self.interval.value

    @property
    def n(self) -> int:
        """Return over how many seeds it is taken; without pairs, of the arm with fewer."""
        return self.interval.n

    def above(self, threshold: float | None = None) -> Verdict:
        """Judge "the difference is above the threshold", by the interval.

        In a family the difference must also differ from zero by its adjusted p-value.

        Args:
            threshold: a difference, or a factor; none is no difference.
        """
        start = math.log(threshold) if threshold is not None and self.factor else threshold or 0.0
        if self.family > 1 and not self.adjusted <= 1 - LEVEL:
            return "undecided"
        return above(*self._decisive(), start)

    def equal(self, within: float) -> Verdict:
        """Judge "there is no difference", by the interval.

        Args:
            within: a difference, or a factor above 1, that would matter.
        """
        return equal(*self._decisive(), within=math.log(within) if self.factor else within)

    def sentence(self) -> str:
        """Write the evidence: interval, tests, what could have been shown, what would settle it.

        >>> from experiments.kit.statistics import paired
        >>> paired({0: 0.7, 1: 0.8, 2: 0.9}, {0: 0.6, 1: 0.75, 2: 0.8}).sentence()
        '+0.083 [0.012, 0.155] (3 seeds, t), sign-flip p=.25, could have shown .094'
        """
        parts = [f"{self._written(self.interval)} ({self.interval.how})"]
        if self.flips and self.n > 1:
            parts.append(f"sign-flip p={_plain(self.flips.p)}")
        if self.could_show > 0:
            shown = math.exp(self.could_show) if self.factor else self.could_show
            parts.append(f"could have shown {'×' * self.factor}{_plain(shown, 2)}")
        if self.family > 1:
            parts.append(f"Holm p={_plain(self.adjusted)} among {self.family}")
        if self.bootstrap:
            ends = self._written(self.bootstrap).partition(" ")[2]
            parts.append(f"{self.bootstrap.how.partition(', ')[2]} {ends}")
        if self.left_out:
            parts.append(f"{self.left_out} left out: incomplete")
        if self.interval.low <= 0 <= self.interval.high:
            seeds = f"about {self.needed}" if self.needed else "no 1000"
            parts.append(f"{seeds} seeds would tell it from {int(self.factor)}")
            if self.std > 0 and self.bootstrap:
                share = min(1.0, (self.examples / self.std) ** 2)
                parts.append(f"{share:.0%} of the variance is the test examples'")
        return ", ".join(parts)

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


def family(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """Return differences with Holm's p-values, for claims that are read together.

    Args:
        differences: by the finding's name, all that were looked at and not the interesting ones.
    """
    adjusted = holm({name: d.p for name, d in differences.items()})
    return {
        name: replace(d, family=len(differences), adjusted=adjusted[name])
        for name, d in differences.items()
    }


def _plain(value: float, digits: int = 3) -> str:
    """Write a number without the zero before its point.

    >>> _plain(0.0625), _plain(0.0113, 2), _plain(12.5), _plain(-0.5)
    ('.0625', '.011', '12.5', '-.5')
    """
    return f"{value:.{digits}g}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}g}"
