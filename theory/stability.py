"""The largest stable step, measured by iterating the update map, without any eigenvalue."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from theory.features import Array

DOUBLINGS = 30  # 2^30 steps separate rates 1e-7 apart
StepMap = Callable[[float], tuple[Array, Array]]


def descent_map(curvature: Array, momentum: float = 0.0) -> StepMap:
    """Return eta -> (update of the residual, observer) for heavy ball; momentum 0 is plain GD.

    In sample space e = A^T w - y moves by e_{t+1} = e_t - eta K e_t + beta (e_t - e_{t-1}) with
    K = X M X^T / n. The observer weighs by K: directions with no curvature never move.

    Args:
        curvature: K (n, n), symmetric, positive semidefinite.
        momentum: beta in [0, 1).
    """
    n = len(curvature)
    identity, zero = np.eye(n), np.zeros((n, n))

    def build(eta: float) -> tuple[Array, Array]:
        step = identity - eta * curvature
        if momentum == 0:
            return step, curvature
        update = np.block([[step + momentum * identity, -momentum * identity], [identity, zero]])
        return update, np.hstack([curvature, zero])

    return build


def averaged_map(curvature: Array, beta: float) -> StepMap:
    """Return eta -> (update, observer) for a step along an exponential moving average.

    m_{t+1} = beta m_t + (1 - beta) K e_t, e_{t+1} = e_t - eta m_{t+1}: Adam with a preconditioner
    P that no longer changes, K = A^T P^-1 A / n in sample space.

    Args:
        curvature: K (n, n), symmetric, positive semidefinite.
        beta: beta_1 in [0, 1).
    """
    n = len(curvature)
    identity, zero = np.eye(n), np.zeros((n, n))

    def build(eta: float) -> tuple[Array, Array]:
        update = np.block(
            [
                [identity - eta * (1 - beta) * curvature, -eta * beta * identity],
                [(1 - beta) * curvature, beta * identity],
            ]
        )
        return update, np.hstack([curvature, zero])

    return build


def grows(update: Array, observer: Array) -> bool:
    """Whether ||observer update^t|| is larger at t = 2^30 than at its start.

    Squares the update map, rescaling as it goes; cost 30 matrix products.
    """
    power, log_scale = update.copy(), 0.0
    for _ in range(DOUBLINGS):
        power = power @ power
        size = float(np.abs(power).max())
        if size == 0:
            return False
        power /= size
        log_scale = 2 * log_scale + float(np.log(size))
        if abs(log_scale) > 1e6 and log_scale > 0:
            return True
    later = float(np.linalg.norm(observer @ power))
    if later == 0:
        return False
    return log_scale + float(np.log(later)) > float(np.log(np.linalg.norm(observer)))


def largest_stable_step(
    build: StepMap, low: float, high: float, *, tolerance: float = 1e-8
) -> float:
    """Bisect the step size at which the iterates start to grow.

    Args:
        build: eta -> (update, observer).
        low: a stable step.
        high: an unstable step.
        tolerance: relative width of the final bracket.
    """
    while grows(*build(low)):
        low /= 2
    while not grows(*build(high)):
        high *= 2
    while high - low > tolerance * high:
        middle = (low + high) / 2
        if grows(*build(middle)):
            high = middle
        else:
            low = middle
    return (low + high) / 2
