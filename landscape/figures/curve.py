"""Curves as text: a line of blocks, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

_BLOCKS = "▁▂▃▄▅▆▇█"


def means(values: Sequence[float | None], most: int) -> list[float]:
    """Return means over at most so many equal stretches; NaN for one without a finite value.

    >>> means([1.0, 3.0, 5.0, None], 2)
    [2.0, 5.0]
    """
    number = min(most, len(values))
    ends = [round(i * len(values) / number) for i in range(number + 1)] if number else []
    found = []
    for start, end in pairwise(ends):
        there = [v for v in values[start:end] if v is not None and math.isfinite(v)]
        found.append(fmean(there) if there else math.nan)
    return found


def format_curve(values: Sequence[float], low: float, high: float) -> str:
    """Return a block for each value, from the lowest at `low` to the highest at `high`.

    A value that is none is a cross.

    >>> format_curve([0.0, 1.0, 2.0, math.nan], 0.0, 2.0)
    '▁▅█×'
    """
    top = len(_BLOCKS) - 1
    scale = top / (high - low) if high > low else 0.0
    return "".join(
        "×" if math.isnan(v) else _BLOCKS[min(top, max(0, math.floor((v - low) * scale + 0.5)))]
        for v in values
    )
