"""Wrong formulas for theorem 5.1, its constants, and the two lemmas of its proof."""

from __future__ import annotations

from twins.twin import Twin

from theory import bounds
from theory.statements import lemma, net, prose
from theory.statements.sharp import sub_gaussian
from theory.statements.sharp import theorem_51_sharp as tight

TWINS = [
    Twin("thm-5.1-corrected", "printed second term", bounds.theorem_51_printed),
    Twin(
        "thm-5.1-corrected",
        "root of the features forgotten",
        lambda n, d, r, delta: bounds.theorem_51_corrected(n, d, r, delta) / d**0.5,
    ),
    Twin(
        "thm-5.1-corrected",
        "0.4 times the bound",
        lambda n, d, r, delta: 0.4 * bounds.theorem_51_corrected(n, d, r, delta),
    ),
    Twin("thm-5.1-usefulness", "constant 1 % too large", lambda n, d: 2.02 * (2 * n / d) ** 0.5),
    Twin("thm-5.1-usefulness", "no root", lambda n, d: 2 * (2 * n / d) ** 0.25),
    Twin("thm-5.1-usefulness", "one root of n too many", lambda n, d: 2 * n * (2 / d) ** 0.5),
    Twin("thm-5.1-sharp", "0.97 times", lambda n, d, r, e: 0.97 * tight(n, d, r, e)),
    Twin("thm-5.1-sharp", "one sign only", lambda n, d, r, e: tight(n, d, r, 2 * e)),
    Twin("thm-5.1-sharp", "n^2 lost", lambda n, d, r, e: tight(n, d, r, e) / n),
    Twin("thm-5.1-sharp", "n lost", lambda n, d, r, e: tight(n, d, r, e) / n**0.5),
    Twin("thm-5.1-sharp", "units", lambda n, d, r, e: tight(n, d, r, e) / r),
    Twin("sub-gaussian", "Hoeffding's 1/4, which is true and not the least", lambda p: 0.25),
    Twin("sub-gaussian", "the variance, which is too small", lambda p: p * (1 - p)),
    Twin("sub-gaussian", "factor 2", lambda p: 2 * sub_gaussian(p)),
    Twin(
        "thm-5.1-needed-d",
        "n^2 for n^3",
        lambda n, p: (prose.needed_columns(n, p)[0], 1152 * n**2 / p**2),
    ),
    Twin("thm-5.1-needed-d", "the mean forgotten", lambda n, p: 2 * (1152 * n**3 / p**2,)),
    Twin(
        "thm-5.1-needed-d",
        "p for p^2",
        lambda n, p: tuple(p * d for d in prose.needed_columns(n, p)),
    ),
    Twin(
        "lemma-a.1",
        "0.9 times the exponent",
        lambda t, sum_a2, d, n, r: (
            0.9 * t**2 * sum_a2 / 8,
            lemma.log_moment_bound(t, sum_a2, d, n, r)[1],
        ),
    ),
    Twin(
        "lemma-a.1",
        "1/16 for the 1/8 of Hoeffding's lemma",
        lambda t, sum_a2, d, n, r: (
            t**2 * sum_a2 / 16,
            lemma.log_moment_bound(t, sum_a2, d, n, r)[1],
        ),
    ),
    Twin(
        "lemma-a.1",
        "sum over the d features forgotten in the last step",
        lambda t, sum_a2, d, n, r: lemma.log_moment_bound(t, sum_a2, 1, n, r),
    ),
    Twin("net-lemma", "below the circle's worst net", lambda n: (1.03, 17**n)),
    Twin("net-lemma", "too few points", lambda n: (net.net_bound(n)[0], 5**n)),
    Twin("net-lemma", "the factor in print, which is true and not the best", lambda n: (2, 17**n)),
    Twin("net-lemma", "1 - 2 e^2 alone", lambda n: (1 / (1 - 2 * net.RADIUS**2), 17**n)),
    Twin("net-lemma", "a net loses nothing", lambda n: (1.0, 17**n)),
]
