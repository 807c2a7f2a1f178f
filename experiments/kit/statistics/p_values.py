"""Probabilities of so large a difference by chance: exact over signs, and over many findings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.kit.statistics.interval import finite

#: the largest number of seeds whose sign patterns are all tried: 2 ** 16
EXACT = 16
#: random sign patterns beyond
SAMPLED = 100_000


@dataclass(frozen=True)
class SignFlips:
    """Hold the sign-flip test of a mean difference.

    Args:
        p: two-sided.
        smallest: no data of so many seeds could have had a smaller p.
        exact: whether all sign patterns were tried.
    """

    p: float
    smallest: float
    exact: bool


def sign_flips(differences: Sequence[float], *, seed: int = 0) -> SignFlips:
    """Test whether paired differences are centred at zero, whatever their distribution.

    Were the arms alike, each difference would as likely have the other sign. p is the share of
    all 2ⁿ sign patterns, the one seen among them, whose mean is at least as far from zero. So
    p is never below 2 / 2ⁿ: .25 for three seeds, .0625 for five, .03125 for six. A difference
    of zero has no sign, and is no seed here. Beyond 16 seeds p is (1 + hits) / (1 + 100,000) of
    random patterns (Phipson and Smyth, 2010).

    Args:
        differences: one a seed.
        seed: draws the random patterns.

    Raises:
        UserError: no difference, or one that is not finite.

    Cost: 2ⁿ⁻¹ additions.

    Source: Fisher, The design of experiments, 1935, section 21.

    >>> [sign_flips([0.1] * n).p for n in (1, 3, 5, 6)]
    [1.0, 0.25, 0.0625, 0.03125]
    >>> sign_flips([3.0, 2.0, -1.0])  # |±3 ±2 ±1| reaches 4 in four patterns of eight
    SignFlips(p=0.5, smallest=0.25, exact=True)
    """
    from landscape.seeds import numbered

    d = finite(differences)
    d = d[d != 0]
    reached = abs(float(d.sum())) - 1e-9 * float(np.abs(d).sum())  # ties differ by rounding
    smallest = min(1.0, 2.0 ** (1 - len(d)))
    if len(d) <= EXACT:
        sums = d[:1].copy()  # of all patterns whose first sign is kept: the others mirror them
        for x in d[1:]:
            sums = np.concatenate([sums + x, sums - x])
        p = float((np.abs(sums) >= reached).mean()) if len(d) else 1.0
        return SignFlips(p, smallest, True)
    signs = numbered(seed).integers(0, 2, (SAMPLED, len(d)), dtype=np.int8)
    hits = int((np.abs((2.0 * signs - 1) @ d) >= reached).sum())
    return SignFlips((1 + hits) / (1 + SAMPLED), max(smallest, 1 / (1 + SAMPLED)), False)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust the p-values of a family, so that any false finding has a chance of at most .05.

    The i-th smallest of m becomes the largest of (m - j + 1) p_j over j ≤ i, at most 1. Valid
    however the findings depend on each other. NaN, which found nothing, counts as the largest
    and stays NaN.

    Args:
        p_values: by the finding's name.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    largest, adjusted = 0.0, dict(p_values)
    order = sorted(p_values, key=lambda name: (math.isnan(p_values[name]), p_values[name]))
    for above, name in enumerate(order):
        if not math.isnan(p_values[name]):
            largest = max(largest, min(1.0, (len(order) - above) * p_values[name]))
            adjusted[name] = largest
    return adjusted
