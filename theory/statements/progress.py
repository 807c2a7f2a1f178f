"""Loss and distance after t steps, and how many steps a fixed rate needs as p falls."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from landscape import seeds
from theory import purposes
from theory.claim import Claim, Finding, ratio
from theory.features import Array
from theory.problems import MaskedRegression
from theory.restricted import Restricted

CHAINS = 15  # chains of nested masks whose median number of steps is shown


def _filtered(mask: Restricted, eta: float, steps: int) -> tuple[float, float]:
    return mask.filtered(eta, steps)


def steps_needed(mask: Restricted, eta: float, share: float) -> int:
    """Return the first t with L_t - L_inf <= share (L_0 - L_inf) from w_0 = 0, by bisection.

    The excess sum_i (1 - eta lambda_i/n)^(2t) (u_i^T y)^2 falls with t when eta < 2n/lambda_1. Its
    logarithms stay above 0 where 1 - eta lambda_i/n rounds to 1, so the search ends.

    Raises:
        ValueError: eta is not in (0, 2n/lambda_1).
    """
    s, u = mask.spectrum
    x = eta / mask.n * s**2
    if not (x > 0).all() or not (x < 2).all():
        raise ValueError(f"expected 0 < eta < 2n/lambda_1 = {2 * mask.n / mask.top:g}, got {eta:g}")
    seen2 = np.square(u.T @ mask.y / np.abs(mask.y).max())
    logs = _log_distance_from_one(x)

    def excess(t: int) -> float:
        return float((np.exp(2.0 * t * logs) * seen2).sum())

    low, high, goal = 0, 1, share * float(seen2.sum())
    while excess(high) > goal:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(middle) > goal else (low, middle)
    return high


def _log_distance_from_one(x: Array) -> Array:
    """Return log |1 - x|, -745 (where exp is 0) for x = 1, precise for tiny x."""
    inside = np.where(x < 1, x, 0.0)
    outside = np.where(x > 1, x - 1, 1.0)
    return np.where(x == 1, -745.0, np.log1p(-inside) + np.log(outside))


def _finite_time(
    predict: Callable[..., tuple[float, float]], problem: MaskedRegression, seed: int
) -> Finding:
    """Run gradient descent from 0 and compare; then count steps at a fixed rate as p falls."""
    mask = problem.draw(seed)
    if mask.top == 0 or not problem.y.any():
        return Finding("vacuous", "loss and distance", 0.0, 0.0, note="lambda_1 = 0 or y = 0")
    eta = 0.5 * problem.n / mask.top
    worst, w, reach = 0.0, np.zeros(mask.k), float(np.linalg.norm(mask.y)) / mask.top**0.5
    distance = predicted = 0.0
    for before, steps in ((0, 1), (1, 3), (3, 10), (10, 100)):
        w = mask.descend(w, eta, steps - before)
        loss, predicted = predict(mask, eta, steps)
        distance = float(np.linalg.norm(w))
        gap = abs(loss - mask.loss(w)) / mask.loss(np.zeros(mask.k))
        worst = max(worst, gap, abs(predicted - distance) / max(distance, reach))
    counts = counts_as_p_falls(problem, seed)
    return Finding(
        "holds" if worst <= 1e-9 else "violated",
        "||w_100|| from 0",
        predicted,
        distance,
        ratio(predicted, distance),
        details={"worst relative error of loss and distance": worst, **counts},
        note="median steps to halve the excess loss at one rate, nested masks: "
        + ", ".join(f"{name[6:]}: {count:g}" for name, count in counts.items()),
    )


def counts_as_p_falls(problem: MaskedRegression, seed: int) -> dict[str, float]:
    """Return the median steps to halve the excess loss at eta = n / lambda_1(X^T X), p to p/4.

    Masks are nested: each feature of the mask at p stays with probability 1/2, and once more. With
    fewer features than samples the excess is over fewer directions: such p are left out.
    """
    rng = seeds.numbered(seed, purposes.CHAINS)
    eta, shares = problem.n / problem.moments.top, (1.0, 0.5, 0.25)
    needed: list[list[float]] = [[] for _ in shares]
    for chain in range(CHAINS if problem.features.stored else 1):
        indices = problem.draw(seed + chain).indices
        height = rng.random(len(indices))
        for share, found in zip(shares, needed):
            mask = problem.restrict(indices[height <= share])
            found.append(
                float(steps_needed(mask, eta, 0.5))
                if mask.top > 0 and mask.k >= mask.n
                else math.inf
            )
    medians = {f"steps p={problem.p * s:.3g}": float(np.median(n)) for s, n in zip(shares, needed)}
    return {name: steps for name, steps in medians.items() if math.isfinite(steps)}


CLAIMS = (
    Claim(
        "finite-time",
        "from w_0 = 0, loss and distance after t steps are sums over (1 - eta lambda_i/n)^t",
        "from w_0 = 0, L_t = (1/2n) sum_i (1-eta lambda_i/n)^(2t) (u_i^T y)^2 + const and "
        "||w_t||^2 = sum_i (1-(1-eta lambda_i/n)^t)^2 (u_i^T y)^2 / lambda_i",
        "this project, from equation 3",
        _filtered,
        _finite_time,
        chapter="Dynamics on one mask",
        assumptions=("w_0 = 0", "lambda_1 > 0"),
        proof="Equation 3 in the singular basis of X M.",
        measured=(
            "Gradient descent is run for 100 steps and compared; then steps to halve the excess "
            "loss are counted at one rate for nested masks at p, p/2 and p/4."
        ),
        rejects=("one step late", "twice the rate", "square of the distance"),
    ),
)
