"""Wrong formulas for what one mask, or a growing one, does to an optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from twins.twin import Twin

from theory.signs import SignStep
from theory.statements import adam, dynamics, sgd
from theory.statements.sgd_rate import longest_example as longest


def sign_law(**changed: float) -> Callable[[SignStep, float, float], tuple[float, float]]:
    """Return the law of a sign step with one of its numbers times a factor."""

    def law(step: SignStep, p: float, eta: float) -> tuple[float, float]:
        other = replace(step, **{name: by * getattr(step, name) for name, by in changed.items()})
        return other.change(p, eta), other.rate(p)

    return law


WRONG_SIGN_LAWS = {
    "half the trace": sign_law(trace=0.5),
    "no trace: 1/p for every p": sign_law(trace=0.0),
    "2 s'Hs": sign_law(along=2.0),
    "half of |g|_1": sign_law(size=0.5),
    "p for 1-p": lambda s, p, eta: (s.change(1 - p, eta), s.rate(1 - p)),
    "p for 1-p in the rate alone": lambda s, p, eta: (s.change(p, eta), s.rate(1 - p)),
    "the rate at which the mean loss is L(0) again": lambda s, p, eta: (
        s.change(p, eta),
        2 * s.rate(p),
    ),
    "variance p for p(1-p)": lambda s, p, eta: (
        -eta * p * s.size + eta**2 / 2 * (p**2 * s.along + p * s.trace),
        s.rate(p),
    ),
    "eta^2 for eta^2/2": lambda s, p, eta: (
        -eta * p * s.size + eta**2 * s.curvature(p),
        s.rate(p),
    ),
}


def sgd_ends(low: Callable[..., float]) -> Callable[..., tuple[float, float]]:
    """Return the interval of SGD's step with another lower end."""
    return lambda v, x, b: (low(v, x, b), sgd.step_interval(v, x, b)[1])


WRONG_SGD_STEPS = {
    "1 for 1 - 1/b": sgd_ends(lambda v, x, b: 2 / (v.max() + x.max() / b)),
    "gradient descent's": sgd_ends(lambda v, x, b: 2 / v.max()),
    "largest without 1/b": sgd_ends(lambda v, x, b: 2 / ((1 - 1 / b) * v.max() + x.max())),
    "mean for largest": sgd_ends(lambda v, x, b: sgd.sgd_step(v.max(), x.mean(), b)),
    "1 for 2": sgd_ends(lambda v, x, b: sgd.sgd_step(v.max(), x.max(), b) / 2),
    "upper end 1 % low": lambda v, x, b: (
        sgd.step_interval(v, x, b)[0],
        0.99 * sgd.step_interval(v, x, b)[1],
    ),
}

TWINS = [
    Twin(
        "eq-3",
        "exponent t+1, as in the proof of proposition 5.2",
        lambda mask, w0, eta, t: mask.closed_form(w0, eta, t + 1),
    ),
    Twin(
        "eq-3",
        "rate without 1/n",
        lambda mask, w0, eta, t: mask.closed_form(w0, eta * mask.n, t),
    ),
    Twin(
        "eq-3",
        "decays to 0, not to the solution",
        lambda mask, w0, eta, t: mask.closed_form(w0, eta, t) - mask.minimum_norm(),
    ),
    Twin("prop-5.2", "factor 2 missing", lambda n, top: n / top),
    Twin("prop-5.2", "samples missing", lambda n, top: 2 / top),
    Twin("prop-5.2", "too high by 1e-5", lambda n, top: 2 * n / top * (1 + 1e-5)),
    Twin("finite-time", "one step late", lambda mask, eta, t: mask.filtered(eta, t + 1)),
    Twin("finite-time", "twice the rate", lambda mask, eta, t: mask.filtered(2 * eta, t)),
    Twin(
        "finite-time",
        "square of the distance",
        lambda mask, eta, t: (mask.filtered(eta, t)[0], mask.filtered(eta, t)[1] ** 2),
    ),
    Twin("momentum", "no momentum", lambda n, top, beta: dynamics.gd_threshold(n, top)),
    Twin("momentum", "sign of beta", lambda n, top, beta: 2 * (1 - beta) * n / top),
    Twin("momentum", "too low by 1e-5", lambda n, top, beta: 2 * (1 + beta) * n / top * (1 - 1e-5)),
    Twin("adam", "heavy ball's threshold", lambda top, beta: 2 * (1 + beta) / top),
    Twin("adam", "plain gradient descent's threshold", lambda top, beta: 2 / top),
    Twin(
        "adam",
        "too high by 1e-5",
        lambda top, beta: adam.adam_threshold(top, beta) * (1 + 1e-5),
    ),
    *(Twin("sign-descent", error, formula) for error, formula in WRONG_SIGN_LAWS.items()),
    Twin("sign-rate", "no room above", lambda s, p, delta, m: (0.0, s.rate(p))),
    Twin("sign-rate", "no room below", lambda s, p, delta, m: (s.rate(p), np.inf)),
    Twin("sign-rate", "p for 1-p", lambda s, p, delta, m: s.interval(1 - p, delta, m)),
    Twin(
        "sign-rate",
        "no spread",
        lambda s, p, delta, m: replace(s, size2=0, largest=0, products=(0, 0, 0)).interval(
            p, delta, replace(m, gram=0 * m.gram, sum_norm4=0, max_norm2=0)
        ),
    ),
    Twin("adam-first-step", "no momentum", lambda s, beta: adam.adam_ceiling(s, 0.0)),
    Twin("adam-first-step", "0.1 % high", lambda s, beta: 1.001 * adam.adam_ceiling(s, beta)),
    Twin(
        "adam-first-step",
        "the trace for s'Hs",
        lambda s, beta: adam.adam_ceiling(replace(s, along=s.trace), beta),
    ),
    Twin("nested-masks", "a larger mask is not sharper", lambda v, added: (v, v, 1.0)),
    Twin("nested-masks", "sharper by what is added", lambda v, added: (v + added, v + added, 1.0)),
    Twin("nested-masks", "half of what is added", lambda v, added: (v, v + added / 2, 1.0)),
    Twin("nested-masks", "strictly nearer", lambda v, added: (v, v + added, 0.999)),
    *(Twin("sgd", error, formula) for error, formula in WRONG_SGD_STEPS.items()),
    Twin("sgd-rate", "half the largest entry", lambda x, r, p, e: longest(x, r / 2, p, e)),
    Twin("sgd-rate", "without the factor n", lambda x, r, p, e: longest(x, r, p, len(x) * e)),
    Twin("sgd-rate", "p for 1-p", lambda x, r, p, e: longest(x, r, 1 - p, e)),
    Twin("sgd-rate", "p^2", lambda x, r, p, e: longest(x, r, p**2, e)),
]
