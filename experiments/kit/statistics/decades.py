"""Values over decades: geometric means, and slopes of one logarithm on another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.kit.statistics.interval import Interval, around, finite, plural, student
from landscape.errors import UserError

#: by seed: the value at each place of the axis, such as the best rate at each ratio
Curves = Mapping[int, Mapping[float, float]]


def geometric_mean(values: Sequence[float]) -> Interval:
    """Return exp of the mean logarithm; the interval is Student's on the logarithms.

    Args:
        values: above zero, one a seed.

    Raises:
        UserError: no value, or one that has no logarithm.

    >>> round(geometric_mean([1.0, 10.0, 100.0]).value, 9)
    10.0
    """
    logs = student(logarithms(values))
    low, high = math.exp(logs.low), math.exp(logs.high)
    return Interval(math.exp(logs.value), low, high, logs.n, f"logarithms of {logs.how}")


def slope(curves: Curves) -> Interval:
    """Return s of y ~ x^s: for each seed by least squares on logarithms, then t over seeds.

    A seed's points share its data and its model, so its slope counts once, however many places
    it has. A seed that lacks a place is left out, and told: its slope would be another one's
    where the curve bends. With a single whole seed, or one place a seed, the slope is that of all
    points with the standard error of the residuals on n - 2 degrees of freedom, which takes
    points for independent; ``how`` says so, and ``n`` counts points. Those of one seed are
    `single`: no verdict about seeds is to come from them.

    Args:
        curves: by seed, y at each x, all above zero.

    Raises:
        UserError: fewer than two places, a value that has no logarithm, or no whole seed.

    Source: two-stage slopes, Feldman, Families of lines, 1988.

    >>> print(slope({0: {1e-3: 1.0, 1e-1: 100.0}, 1: {1e-3: 2.0, 1e-1: 20.0}}))
    0.8 [-2.4, 3.9] (2 slopes, t, one a seed)
    >>> print(slope({0: {1.0: 1.0, 10.0: 10.0, 100.0: 400.0}}))
    1.3 [-0.9, 3.5] (3 points of 1 seed, least squares)
    """
    places = sorted({x for curve in curves.values() for x in curve})
    if len(places) < 2:
        raise UserError(
            f"expected a curve over two places or more, got {len(places)}; run another ratio"
        )
    whole = [seed for seed, curve in curves.items() if len(curve) == len(places)]
    if len(whole) >= 2:
        each = [_line(list(curves[seed].items()))[0] for seed in whole]
        found, left = student(each, size=1.0, each="slope"), len(curves) - len(whole)
        how = f"{found.how}, one a seed" + f", {left} left out: incomplete" * (left > 0)
        return Interval(found.value, found.low, found.high, found.n, how)
    if whole or all(len(curve) == 1 for curve in curves.values()):
        return _over_points([p for s in whole or curves for p in curves[s].items()], curves, whole)
    raise UserError(
        f"expected a seed with all {len(places)} places of the curve, got none among "
        f"{len(curves)}; finish the runs of one"
    )


def logarithms(values: Sequence[float]) -> list[float]:
    """Return natural logarithms.

    Raises:
        UserError: a value is not above zero, or not finite.
    """
    if not all(v > 0 for v in finite(values)):
        raise UserError(
            f"expected numbers above zero, which have logarithms, got {min(values):g}; "
            "compare differences instead"
        )
    return [math.log(v) for v in values]


def _over_points(
    points: Sequence[tuple[float, float]], curves: Curves, whole: Sequence[int]
) -> Interval:
    """Return the slope over points that are taken for independent."""
    value, error = _line(points)
    left = len(curves) - len(whole) if whole else 0
    of = plural(1 if whole else len(curves), "seed")
    how = f"{len(points)} points of {of}, least squares"
    how += f", {left} left out: incomplete" * (left > 0)
    ends = around(value, error, len(points) - 2)
    return Interval(value, *ends, len(points), how, single=bool(whole) or len(curves) == 1)


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the slope of log y on log x and its error, NaN of points without residuals."""
    x, y = (np.array(logarithms(axis)) for axis in zip(*points, strict=True))
    x, y = x - x.mean(), y - y.mean()
    value = float(x @ y / (x @ x))
    left = y - value * x
    if len(x) < 3 or np.abs(left).max() <= 1e-12 * max(1.0, float(np.abs(y).max())):
        return value, math.nan
    return value, math.sqrt(float(left @ left) / (len(x) - 2) / float(x @ x))
