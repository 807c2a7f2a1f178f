"""A page on which a surface can be rotated and read: one file, no network."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import Tensor

from landscape.folders import write_whole
from landscape.surface import Surface


def write_page(
    surface: Surface,
    path: str | Path,
    *,
    labels: tuple[str, str],
    title: str,
    trajectory: Tensor | None,
) -> Path:
    """Write the page `page.html` with a surface's numbers in the place of its data."""
    data = {
        "title": title or "Loss surface",
        "labels": labels,
        "axes": [axis.tolist() for axis in surface.axes],
        "losses": _plain(surface.losses.tolist()),
        "centre": _plain(surface.centre),
        "prediction": None if surface.prediction is None else _plain(surface.prediction.tolist()),
        "trajectory": None if trajectory is None else _plain(trajectory.tolist()),
    }
    text = json.dumps(data, allow_nan=False)
    for sign in "<>&\u2028\u2029":  # nothing in a script element may end it
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    template = files("landscape.figures").joinpath("page.html").read_text(encoding="utf-8")
    page = template.replace("__DATA__", text)
    write_whole(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return Path(path)


def _plain(value: Any) -> Any:
    """Write numbers that JSON lacks as words."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if math.isfinite(value) else str(value)
