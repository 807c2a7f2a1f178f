"""Adam on one mask: its stable step once the preconditioner has settled, and at its first one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from theory.claim import Claim, Finding, ratio
from theory.features import Array, of_columns
from theory.problems import MaskedRegression
from theory.restricted import Restricted
from theory.signs import SignStep, sign_step
from theory.stability import averaged_map
from theory.statements.dynamics import BETA, compare_step, nothing_moves

LEVEL = 20  # curvatures beyond 2^-20 and 2^20 are measured in a unit of their own
EXACT = 1e-10  # relative rounding of the two sides, where they are equal


def adam_threshold(top: float, beta: float) -> float:
    """Return the largest stable eta, (2 + 2 beta_1) / ((1 - beta_1) lambda_1(P^-1/2 H P^-1/2)).

    >>> round(adam_threshold(1.0, 0.9), 9)
    38.0
    """
    return (2 + 2 * beta) / ((1 - beta) * top)


def equilibrium(mask: Restricted) -> Array:
    """Return P (k,): the square root of each coordinate's mean squared gradient under unit noise.

    With g_j = z_j^T eps / n this is ||z_j|| / n; a floor keeps it positive for empty columns.
    """
    norms = np.asarray(np.linalg.norm(mask.columns, axis=1)) / mask.n
    return np.maximum(norms, 1e-8 * norms.max())


def _adam(predict: Callable[..., float], problem: MaskedRegression, seed: int) -> Finding:
    mask = problem.draw(seed)
    if mask.top == 0:
        return nothing_moves("largest stable step")
    scaled = mask.columns / np.sqrt(equilibrium(mask))[:, None]
    curvature = scaled.T @ scaled / problem.n
    sharpness = float(np.linalg.norm(scaled, 2)) ** 2 / problem.n
    exponent = int(np.frexp(np.trace(curvature))[1])
    unit = 2.0**-exponent if abs(exponent) > LEVEL else 1.0
    found = compare_step(
        averaged_map(unit * curvature, BETA),
        predict(unit * sharpness, BETA),
        unit * curvature,
        {"beta_1": BETA, "preconditioned sharpness": sharpness},
    )
    return replace(found, prediction=found.prediction * unit, measurement=found.measurement * unit)


def adam_ceiling(step: SignStep, beta: float) -> float:
    """Return 2 (1 + beta) / (1 - beta) |g|_1 / s^T H s, above the threshold of `adam` at P = |g|.

    >>> round(adam_ceiling(SignStep(1.0, 1.0, 1.0, 1.0, 1.0, (1.0, 1.0, 1.0)), 0.9), 9)
    38.0
    """
    return 2 * (1 + beta) / (1 - beta) * step.rate(1.0)


def adam_step(columns: Array, gradient: Array, beta: float) -> float:
    """Return `adam`'s threshold at AdamW's first preconditioner P = |g|, from singular values.

    Args:
        columns: of a mask, as rows (k, n).
        gradient: g (k,) there; weights with g_j = 0 stay.
    """
    moved = gradient != 0
    scaled = columns[moved] / np.sqrt(np.abs(gradient[moved]))[:, None]
    sharpness = float(np.linalg.norm(scaled, 2)) ** 2 / columns.shape[1]
    return 2 * (1 + beta) / ((1 - beta) * sharpness)


def _cases(problem: MaskedRegression, seed: int) -> Iterator[tuple[Array, Array]]:
    """Yield columns and targets: of one sample, where both sides are equal, then of a mask."""
    yield np.array([[1.0], [-2.0], [0.5]]), np.array([3.0])
    mask = problem.draw(seed)
    if mask.top > 0:
        yield mask.columns, mask.y


def _first_step(
    predict: Callable[[SignStep, float], float], problem: MaskedRegression, seed: int
) -> Finding:
    quantity, pairs = "largest stable step of Adam at P = |g|", []
    for columns, y in _cases(problem, seed):
        gradient = -columns @ y / len(y)
        if gradient.any():
            step = sign_step(of_columns(columns), gradient)
            pairs.append((predict(step, BETA), adam_step(columns, gradient, BETA)))
    equal = abs(pairs[0][0] / pairs[0][1] - 1) <= EXACT
    if equal and len(pairs) == 1:
        return Finding("vacuous", quantity, 0.0, 0.0, note="lambda_1 = 0 or g = 0: nothing moves")
    said, seen = pairs[-1]
    holds = equal and seen <= said * (1 + EXACT)
    return Finding(
        "holds" if holds else "violated",
        quantity,
        said,
        seen,
        ratio(said, seen),
        note=f"the mask's best first step is {said / 38:.3g}; equal for one sample"
        if holds
        else "",
    )


CLAIMS = (
    Claim(
        "adam",
        "Adam with a settled preconditioner P is stable iff lambda_1(P^-1/2 H P^-1/2) < 38/eta",
        "averaged momentum with a frozen preconditioner P is stable iff "
        "lambda_1(P^-1/2 H P^-1/2) < (2 + 2 beta_1) / ((1 - beta_1) eta), = 38/eta at beta_1 = 0.9",
        "Cohen et al. 2022 (arXiv 2207.14484)",
        adam_threshold,
        _adam,
        chapter="Dynamics on one mask",
        assumptions=("the preconditioner no longer changes", "bias correction is over"),
        proof=(
            "The moving average is heavy ball with the step eta (1 - beta_1); the preconditioner"
            " is a change of variables."
        ),
        measured=(
            "The largest stable step is bisected by iterating the update map of averaged "
            "momentum, preconditioned by each weight's gradient noise; violated if it is off by "
            "1e-6."
        ),
        rejects=(
            "heavy ball's threshold",
            "plain gradient descent's threshold",
            "too high by 1e-5",
        ),
    ),
    Claim(
        "adam-first-step",
        "at its first preconditioner |g|, Adam is stable on a mask only below 38 best sign steps",
        "at P = |g|, (2 + 2 beta_1) / ((1 - beta_1) lambda_1(P^-1/2 H_S P^-1/2)) <= "
        "2 (1 + beta_1) / (1 - beta_1) |g_S|_1 / s_S^T H s_S, with equality at n = 1",
        "this project, from adam and sign-descent",
        adam_ceiling,
        _first_step,
        chapter="Dynamics on one mask",
        assumptions=("P = |g|, no entry 0",),
        proof=(
            "s' H s / |g|_1 is the Rayleigh quotient of P^-1/2 H P^-1/2 at P^1/2 s, so it is at "
            "most its largest eigenvalue."
        ),
        measured=(
            "Both sides for one sample, where they are equal, and for a mask of the instance; "
            "violated if the threshold is above."
        ),
        rejects=("no momentum", "0.1 % high", "the trace for s'Hs"),
    ),
)
