"""Wrong formulas for the distance of the solution from its start."""

from __future__ import annotations

from twins.twin import Twin

from theory import DISTRIBUTIONS
from theory.leverages import effective_share, equal_share, equivalent_growth, leverages
from theory.statements import distance, law
from theory.statements.floor import distance_floor

TWINS = [
    Twin(
        "prop-5.3",
        "equality without the signal term",
        lambda mask, signal, sigma: 2 * (distance.noise_term(mask.eigenvalues, sigma),),
        tuple(set(DISTRIBUTIONS) - {"geometric", "near-duplicate"}),  # 1e-12 of the noise term
    ),
    Twin(
        "prop-5.3",
        "noise term doubled",
        lambda mask, signal, sigma: tuple(
            value + distance.noise_term(mask.eigenvalues, sigma)
            for value in distance.expected_distance(mask, signal, sigma)
        ),
    ),
    Twin(
        "prop-5.3",
        "bound above the identity",
        lambda mask, signal, sigma: (
            distance.expected_distance(mask, signal, sigma)[0],
            1.001 * distance.expected_distance(mask, signal, sigma)[0],
        ),
    ),
    Twin(
        "cor-distance",
        "1 % too high",
        lambda sigma, rank, p, norm2: 1.01 * distance_floor(sigma, rank, p, norm2),
    ),
    Twin(
        "cor-distance",
        "mean column in place of the Frobenius norm",
        lambda sigma, rank, p, norm2: 300 * distance_floor(sigma, rank, p, norm2),
    ),
    Twin(
        "distance-law",
        "without the factor n",
        lambda whole, tau, n, p, delta: law.distance_interval(whole, tau, 1, p, delta),
    ),
    Twin(
        "distance-law",
        "half the leverage",
        lambda whole, tau, n, p, delta: law.distance_interval(whole, tau / 2, n, p, delta),
    ),
    Twin(
        "distance-law",
        "0.3 times as wide in the logarithm",
        lambda whole, tau, n, p, delta: tuple(
            whole / p * (end * p / whole) ** 0.3
            for end in law.distance_interval(whole, tau, n, p, delta)
        ),
    ),
    Twin(
        "distance-law",
        "distance in place of its square: p^2",
        lambda whole, tau, n, p, delta: law.distance_interval(whole / p, tau, n, p, delta),
    ),
    Twin(
        "distance-law",
        "mean leverage n/d, divided by d once more",
        lambda whole, tau, n, p, delta: law.distance_interval(whole, n / 300**2, 1, p, delta),
    ),
    Twin("distance-haar", "the law in 1/p", lambda r, d, k: d / k),
    Twin("distance-haar", "without both ones", lambda r, d, k: (d - r) / (k - r)),
    Twin("distance-haar", "without the first one", lambda r, d, k: (d - r) / (k - r - 1)),
    Twin("distance-haar", "plus one", lambda r, d, k: (d - r + 1) / (k - r + 1)),
    Twin("distance-leverage", "the law in 1/p", lambda x: 1 / x.p),
    Twin(
        "distance-leverage",
        "one weight for all columns",
        lambda x: 1 / effective_share(leverages(x), x.p),
    ),
    Twin(
        "distance-leverage",
        "all leverages equal",
        lambda x: 1 / equal_share(x.n, x.d, x.p),
    ),
    Twin(
        "distance-leverage",
        "without the denominator 1 - n/d",
        lambda x: equivalent_growth(x) / (1 - x.n / x.d),
    ),
]
