"""The two lemmas inside the proof of theorem 5.1, checked without sampling."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from theory.claim import Claim, Finding, ratio
from theory.features import Array
from theory.problems import MaskedRegression

RADIUS = 1 / 8
DIRECTIONS = 6
SCALES = (1e-2, 0.1, 0.5, 1.0, 3.0, 10.0, 30.0)  # |t| max_j (z_j^T u)^2


def log_moment_bound(t: Array, sum_a2: float, d: int, n: int, r: float) -> tuple[Array, Array]:
    """Return both bounds on log E exp(t u^T Q u) for a unit u: t^2 sum_j a_j^2/8, d n^2 r^4 t^2/8.

    Args:
        t: any real numbers.
        sum_a2: sum_j (z_j^T u)^4.
    """
    return t**2 * sum_a2 / 8, d * n**2 * r**4 * t**2 / 8


def log_moment(t: float, p: float, a: Array) -> float:
    """Return log E exp(t sum_j (m_j - p) a_j) exactly: a product of Bernoulli factors.

    sum_j (log(1 - p + p e^(t a_j)) - t p a_j).
    """
    x = t * a
    small = np.abs(x) < 30
    mild = np.log1p(p * np.expm1(x[small])) if p < 1 else x[small]
    wild = np.logaddexp(np.log1p(-p), np.log(p) + x[~small]) if 0 < p < 1 else p * x[~small]
    return float((mild - p * x[small]).sum() + (wild - p * x[~small]).sum())


def _directions(problem: MaskedRegression, seed: int) -> Array:
    """Return unit vectors: both ends of the spectrum, a coordinate, and random ones; (q, n)."""
    vectors = np.linalg.eigh(problem.moments.gram)[1].T
    random = np.random.default_rng([seed, 7]).standard_normal((DIRECTIONS - 3, problem.n))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    return np.concatenate([vectors[[-1, 0]], np.eye(problem.n)[:1], random])


def _lemma(
    predict: Callable[..., tuple[Array, Array]], problem: MaskedRegression, seed: int
) -> Finding:
    """Compute both sides for several directions and |t| from tiny to huge; no sampling."""
    directions = _directions(problem, seed)
    a = np.concatenate(
        [np.einsum("ji,qi->qj", b, directions) ** 2 for _, b in problem.features.blocks()], axis=1
    )
    worst, tightest = 0.0, 0.0
    signed = np.array([sign * scale for scale, sign in product(SCALES, (-1.0, 1.0))])
    for row in a:
        if row.max() < 1e-20 * max(problem.moments.max_norm2, 1e-300):
            continue  # a direction that X does not see: both sides are 1
        t = signed / row.max()
        inner, outer = predict(t, float((row**2).sum()), problem.d, problem.n, problem.bound)
        exact = np.array([log_moment(float(value), problem.p, row) for value in t])
        rounding = 1e-13 * len(row) ** 0.5 * np.abs(t) * row.max() + 1e-14
        worst = max(worst, float(((exact - rounding) / inner).max()))
        worst = max(worst, float((inner / outer).max()) - 1e-12)
        tightest = max(tightest, float((exact / inner).max()))
    return Finding(
        "holds" if worst <= 1 else "violated",
        "log moment / bound, worst over u and t",
        1.0,
        tightest,
        ratio(1.0, tightest),
        assumptions={"|x| <= r": problem.moments.max_abs <= problem.bound},
        note=f"{len(directions)} directions x {len(signed)} values of t, products of exact factors",
        details={"worst ratio after rounding allowance": worst},
    )


def sphere_net(n: int, radius: float = RADIUS) -> Array:
    """Construct unit vectors (N, n) within ``radius`` of every unit vector or its negative.

    n = 1: one point. n = 2: equal angles on the half circle. n = 3: parallels 2a apart on the half
    sphere, a = arcsin(radius/2), with points 2a apart on each. A point is at most a from its
    parallel along the meridian, then at most a along the parallel: arc 2a, chord <= radius.

    Raises:
        ValueError: n is not 1, 2 or 3.
    """
    reach = 2 * np.arcsin(radius / 2)  # arc whose chord is radius
    if n == 1:
        return np.ones((1, 1))
    if n == 2:
        count = int(np.ceil(np.pi / (2 * reach)))
        angles = np.pi * np.arange(count) / count
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if n != 3:
        raise ValueError(f"expected n in 1, 2, 3, got {n}; larger nets are not constructed")
    rings = int(np.ceil((np.pi / 2) / reach))
    points = []
    for polar in (np.arange(rings) + 0.5) * (np.pi / 2) / rings:
        count = max(1, int(np.ceil(2 * np.pi * np.sin(polar) / reach)))
        angle = 2 * np.pi * np.arange(count) / count
        flat = np.sin(polar)
        points.append(
            np.stack([flat * np.cos(angle), flat * np.sin(angle), np.full(count, np.cos(polar))], 1)
        )
    return np.concatenate(points)


def covering_radius(net: Array, samples: int = 20_000, seed: int = 0) -> float:
    """Return the largest distance from random unit vectors to the net or its negative."""
    points = np.random.default_rng(seed).standard_normal((samples, net.shape[1]))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    nearest = np.abs(points @ net.T).max(axis=1)
    return float(np.sqrt(np.maximum(2 - 2 * nearest, 0)).max())


def net_factor() -> float:
    """Return 2, the factor in ||Q|| <= 2 max_j |v_j^T Q v_j| (1/(1 - 2/8) = 4/3 would do)."""
    return 2.0


def _net(predict: Callable[[], float], problem: MaskedRegression, seed: int) -> Finding:
    """Build 1/8-nets for n = 1, 2, 3 and compare on the instance's Q and on random matrices."""
    factor, worst, covered, small = predict(), 0.0, 0.0, True
    rng = np.random.default_rng([seed, 8])
    gaps = problem.grams(32, seed) - problem.p * problem.moments.gram
    for n in (1, 2, 3):
        net = sphere_net(n)
        small = small and 2 * len(net) <= 17**n
        covered = max(covered, covering_radius(net, seed=seed))
        random = rng.standard_normal((200, n, n))
        random = random + random.transpose(0, 2, 1)
        tops = np.einsum("ti,tj->tij", *(2 * [rng.standard_normal((200, n))]))
        cases = [random, tops] + ([gaps[:, :n, :n]] if problem.n >= n else [])
        for matrix in np.concatenate(cases):
            norm = float(np.abs(np.linalg.eigvalsh(matrix)).max())
            found = float(np.abs(np.einsum("ji,ik,jk->j", net, matrix, net)).max())
            if norm > 0:
                worst = max(worst, norm / found)
    holds = worst <= factor * (1 + 1e-12) and covered <= RADIUS and small
    return Finding(
        "holds" if holds else "violated",
        "||Q|| / max over the net",
        factor,
        worst,
        ratio(factor, worst),
        note=f"n = 1, 2, 3: nets of {', '.join(str(2 * len(sphere_net(n))) for n in (1, 2, 3))} "
        f"points (17^n = 17, 289, 4913), covering radius {covered:.4f} <= 1/8",
        details={"factor that a 1/8-net needs": 4 / 3, "covering radius": covered},
    )


CLAIMS = (
    Claim(
        "lemma-a.1",
        "E exp(t u^T Q u) <= exp(sum_j t^2 (z_j^T u)^4 / 8) <= exp(d n^2 r^4 ||u||^4 t^2 / 8)",
        "paper 1, lemma A.1",
        log_moment_bound,
        _lemma,
    ),
    Claim(
        "net-lemma",
        "||Q|| <= 2 max_j |v_j^T Q v_j| over a 1/8-net of the sphere with at most 17^n points",
        "paper 1, appendix A.3; Wainwright 2019, theorem 6.5",
        net_factor,
        _net,
    ),
)
