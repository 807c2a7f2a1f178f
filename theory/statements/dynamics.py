"""Gradient descent on one mask: its closed form and the steps at which it is stable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from landscape import seeds
from theory import purposes
from theory.claim import Claim, Finding, Verdict, ratio
from theory.features import Array, plain
from theory.problems import MaskedRegression
from theory.restricted import Restricted
from theory.stability import StepMap, descent_map, largest_stable_step

EPS = float(np.finfo(np.float64).eps)
STEP_TOLERANCE = 1e-6  # relative, on the bisected threshold
BETA = 0.9


def reach(mask: Restricted) -> float:
    """Return ||y|| / s_1, the length that one singular vector moves for; 1 / s_1 where y = 0."""
    return (float(np.linalg.norm(mask.y)) or 1.0) / mask.top**0.5


def start_point(mask: Restricted, seed: int) -> Array:
    """Return a random w_0 (k,) of length ``reach``: as far as gradient descent gets soon."""
    direction = seeds.numbered(seed, purposes.START).standard_normal(mask.k)
    return reach(mask) * direction / float(np.linalg.norm(direction))


def _closed_form(mask: Restricted, w0: Array, eta: float, steps: int) -> Array:
    return mask.closed_form(w0, eta, steps)


def _equation_3(predict: Callable[..., Array], problem: MaskedRegression, seed: int) -> Finding:
    """Compare iterates with the closed form; tolerance 100 eps a step of how far they can get.

    That is max(||w_0||, ||w_t||, ||y|| / s_1): rounding of a gradient step is eps of it. The
    solution may be further away, by the condition number, and no iterate is near it then.
    """
    mask = problem.draw(seed)
    if mask.top == 0:
        return nothing_moves("||w_t - closed form|| / scale")
    w0 = start_point(mask, seed)
    worst, allowed = 0.0, 1.0
    for fraction in (0.3, 1.0, 1.9):
        eta = fraction * problem.n / mask.top
        for steps in (1, 2, 7, 60):
            w = mask.descend(w0, eta, steps)
            error = np.linalg.norm(w - predict(mask, w0, eta, steps))
            scale = max(reach(mask), float(np.linalg.norm(w)))
            worst = max(worst, float(error / scale) / (100 * EPS * (steps + mask.n)))
    return Finding(
        "holds" if worst <= allowed else "violated",
        "worst error over rounding tolerance",
        allowed,
        worst,
        details={"lambda_1": mask.top, "k": mask.k, "largest t": 60},
        note="gradient descent equals the closed form to rounding" if worst <= 1 else "",
    )


def nothing_moves(quantity: str) -> Finding:
    """Return the finding where no column is kept: no step is too large."""
    return Finding("vacuous", quantity, 0.0, 0.0, note="lambda_1 = 0: nothing moves, any step")


def compare_step(
    build: StepMap, predicted: float, curvature: Array, details: dict[str, float]
) -> Finding:
    """Bisect the stable step from a bracket by the trace, which uses no eigenvalue."""
    trace = float(np.trace(curvature))
    measured = largest_stable_step(build, 0.1 / trace, 4 * len(curvature) / trace)
    error = abs(predicted / measured - 1)
    verdict: Verdict = "holds" if error <= STEP_TOLERANCE else "violated"
    return Finding(
        verdict,
        "largest stable step",
        predicted,
        measured,
        ratio(predicted, measured),
        details={"relative error": error, **details},
    )


def gd_threshold(n: int, top: float) -> float:
    """Return 2 n / lambda_1, below which gradient descent converges from every start."""
    return 2 * n / top


def _proposition_52(predict: Callable[..., float], problem: MaskedRegression, seed: int) -> Finding:
    mask = problem.draw(seed)
    if mask.top == 0:
        return nothing_moves("largest stable step")
    curvature = mask.gram / problem.n
    threshold = predict(problem.n, mask.top)
    period = _period_two(mask)
    finding = compare_step(descent_map(curvature), threshold, curvature, {"period-2 error": period})
    at = f"at 2n/lambda_1 they alternate between two points along v_1 (error {period:.1e})"
    holds = finding.verdict == "holds" and period <= 1e-8
    return Finding(
        "holds" if holds else "violated",
        finding.quantity,
        finding.prediction,
        finding.measurement,
        finding.tightness,
        note=at if holds else "",
        details=finding.details,
    )


def _period_two(mask: Restricted) -> float:
    """Return how far GD at 2n/lambda_1 from w^+ + v_1 is from w^+ + (-1)^t v_1 over ten steps.

    v_1 is as long as w^+, so that the error, in units of it, says something about both.
    """
    mask = replace(mask, y=plain(mask.y))
    limit = mask.minimum_norm()
    size = max(reach(mask), float(np.linalg.norm(limit)))
    top = size * mask.svd[0][:, 0]
    eta = 2 * mask.n / mask.top
    w, error = limit + top, 0.0
    for step in range(1, 11):
        w = w - eta * mask.gradient(w)
        error = max(error, float(np.linalg.norm(w - limit - (-1) ** step * top)))
    return error / size


def heavy_ball_threshold(n: int, top: float, beta: float) -> float:
    """Return 2 (1 + beta) n / lambda_1."""
    return 2 * (1 + beta) * n / top


def _momentum(predict: Callable[..., float], problem: MaskedRegression, seed: int) -> Finding:
    mask = problem.draw(seed)
    if mask.top == 0:
        return nothing_moves("largest stable step")
    curvature = mask.gram / problem.n
    build = descent_map(curvature, BETA)
    return compare_step(build, predict(problem.n, mask.top, BETA), curvature, {"beta": BETA})


CLAIMS = (
    Claim(
        "eq-3",
        "w_t = (I - eta/n M X'X M)^t (w_0 - (XM)^+ y) + (XM)^+ y",
        "w_t = (I - eta/n M X^T X M)^t (w_0 - (XM)^+ y) + (XM)^+ y",
        "paper 1, equation 3",
        _closed_form,
        _equation_3,
        chapter="Dynamics on one mask",
        proof=(
            "(XM)^+ y solves the normal equations, so a step multiplies the distance to it by I "
            "- eta/n M X'X M."
        ),
        measured=(
            "Gradient descent is run for up to 60 steps at three rates from a random start and "
            "compared with the formula; violated beyond rounding."
        ),
        rejects=(
            "exponent t+1, as in the proof of proposition 5.2",
            "rate without 1/n",
            "decays to 0, not to the solution",
        ),
    ),
    Claim(
        "prop-5.2",
        "gradient descent converges from every w_0 iff 0 < eta < 2n / lambda_1",
        "gradient descent converges from every w_0 iff 0 < eta < 2n / lambda_1 (lambda_1 > 0)",
        "paper 1, proposition 5.2",
        gd_threshold,
        _proposition_52,
        chapter="Dynamics on one mask",
        assumptions=("lambda_1 > 0", "eta > 0"),
        proof=(
            "Along the i-th eigenvector a step multiplies by 1 - eta lambda_i/n: 1 where "
            "lambda_i = 0, below 1 in size for all others iff eta < 2n/lambda_1."
        ),
        measured=(
            "The largest stable step is bisected by iterating the update map 2^30 steps, without"
            " any eigenvalue; violated if it is off by 1e-6."
        ),
        rejects=("factor 2 missing", "samples missing", "too high by 1e-5"),
    ),
    Claim(
        "momentum",
        "heavy ball is stable iff eta < 2 (1 + beta) n / lambda_1",
        "heavy ball is stable iff eta < 2 (1 + beta) n / lambda_1, beta = 0.9",
        "Polyak 1964; Cohen et al. 2022 (arXiv 2207.14484)",
        heavy_ball_threshold,
        _momentum,
        chapter="Dynamics on one mask",
        assumptions=("lambda_1 > 0", "0 <= beta < 1"),
        proof=(
            "Along an eigenvector the recursion has the polynomial x^2 - (1 + beta - eta kappa) "
            "x + beta, whose roots are inside the unit circle iff eta kappa < 2 (1 + beta)."
        ),
        measured=(
            "The largest stable step is bisected by iterating the update map of heavy ball; "
            "violated if it is off by 1e-6."
        ),
        rejects=("no momentum", "sign of beta", "too low by 1e-5"),
    ),
)
