"""The masks whose landscape `spectra` and `surfaces` look at: trained once, at c / ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit.presets import SMOKE
from landscape.sweep.grid import Grid

ENDS = ("before", "after")
SHARED: Mapping[str, dict[str, Any]] = {
    "smoke": SMOKE | {"num_train": 24},  # a path of three steps has more than two directions
    "local": {"model": "minilm-l6", "task": "rotten_tomatoes", "num_train": 640, "num_dev": 200,
              "num_test": 8, "epochs": 1, "targets": ("*.self.[qv]*.weight",)},
    "paper": {"model": "facebook/opt-125m", "task": "sst2", "targets": ("*.[qv]_proj",)},
}  # fmt: skip
RATIOS: Mapping[str, tuple[float, ...]] = {
    "smoke": (1e-2, 1e-3), "local": (1e-2, 1e-3, 1e-4), "paper": (1e-2, 1e-3, 1e-4),
}  # fmt: skip
TIMES_RATIO: Mapping[str, float] = {"smoke": 1e-5, "local": 3e-5, "paper": 1e-6}
"""The learning rate is this over the ratio."""


def trained(preset: str, measure: Mapping[str, Mapping[str, Any]]) -> Grid:
    """Return the random masks of a preset, with what is measured on them."""
    rates = [(r, float(f"{TIMES_RATIO[preset] / r:.3g}")) for r in RATIOS[preset]]
    axes: dict[str, Sequence[Any]] = {"ratio+lr": rates, "seed": (0,)}
    return Grid(SHARED[preset], axes, measure=measure)
