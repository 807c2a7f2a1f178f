"""Claims known to be false, each with its error repaired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from theory import bounds
from theory.statements import contraction, id3, work

#: a claim known to be false with its error repaired: the verifier must no longer refute it
REPAIRS: dict[str, tuple[str, Callable[..., Any]]] = {
    "thm-5.1-printed": ("second term the right way up", bounds.theorem_51_corrected),
    "thm-5.1-every-n": (
        "second term the right way up",
        lambda n, d, r, log: (8 * d * n**3 * r**4, 2 * log * d * n**2 * r**4),
    ),
    "thm-5.1-trace": (
        "each eigenvalue in place of the trace",
        lambda bound, eigenvalues, p: bound / (p * eigenvalues),
    ),
    "prop-5.2-norm": ("at most 1", lambda eta, positive, steps: 1),
    "prop-5.2-limit": (
        "with the kernel's component of w_0",
        lambda x, y, w0: tuple(
            w + (y - contraction.dot(x, w0)) * xi / contraction.dot(x, x) for xi, w in zip(x, w0)
        ),
    ),
    "sparser-is-farther": (
        "only where p d is at least 4 n",
        lambda copies, p: int(p * copies >= 4),
    ),
    "id3-thm-1": (
        "absolute value of the exponent",
        lambda theta, eps, exponent: id3.heuristic_factor(theta, eps, abs(exponent)),
    ),
    "id3-importance": (
        "order by the information itself",
        lambda heuristics, information: int(np.argmax([float(i) for i in information])),
    ),
    "id3-literal": ("first batch not counted", lambda b, t: (t * b, b * (t - 1) // 2)),
    "id3-sums": (
        "T terms, and u_i inside",
        lambda u: (len(u) * sum(u), sum(sum(u[: t + 1]) for t in range(len(u)))),
    ),
    "id3-sign": ("minus", lambda w, gradient, eta: w - eta * gradient),
    "id3-work": (
        "the ratio counted",
        lambda *size: work.work_of(*size, grows=True) / work.work_of(*size, grows=False),
    ),
}
