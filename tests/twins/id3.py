"""Wrong formulas for the statements about ID3."""

from __future__ import annotations

import numpy as np
from twins.twin import Twin

from theory.statements import id3

TWINS = [
    Twin(
        "id3-thm-1-corrected",
        "eps forgotten",
        lambda theta, eps, exponent: np.abs(theta) ** -exponent,
    ),
    Twin(
        "id3-thm-1-corrected",
        "sign of the exponent",
        lambda theta, eps, exponent: id3.heuristic_factor(theta, eps, -exponent),
    ),
    Twin("id3-updates", "as many as static", lambda b, t: (t * b, t * b)),
    Twin("id3-updates", "first batch not counted", lambda b, t: (t * b, b * (t - 1) // 2)),
]
