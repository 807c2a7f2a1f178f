"""The rate predictor `landscape.suggest_lr` against grids of rates, and against c / ratio.

A cell is a model, a pattern of masked modules, an optimizer, a ratio and a seed. Its grid holds
half decades of rates; each rate trains for one short epoch from the pretrained weights. What the
predictor measures is stored raw, so that its constants can be fitted again without computing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns
from experiments.kit.view import Artefact
from experiments.ours.rates_cases import CASES
from experiments.ours.rates_figure import drawn
from experiments.ours.rates_report import calibration_table, cell_table, check, rule_table
from landscape.sweep.grid import Grid

#: preset -> names of its cases, what they share, seeds, examples that the predictor sees
SETTINGS: Mapping[str, tuple[tuple[str, ...], dict[str, Any], tuple[int, ...], int]] = {
    "smoke": (
        ("tiny",),
        {"task": "rotten_tomatoes", "num_train": 24, "num_dev": 16, "num_test": 8, "epochs": 1},
        (0,), 24,
    ),
    "local": (
        tuple(name for name in CASES if name not in ("tiny", "opt")),
        {"task": "rotten_tomatoes", "num_train": 320, "num_dev": 128, "num_test": 1, "epochs": 1},
        (0,), 64,
    ),
    "paper": (
        ("opt",), {"task": "sst2", "num_train": 320, "num_dev": 256, "num_test": 1, "epochs": 1},
        (0, 1, 2), 64,
    ),
}  # fmt: skip


def grids(preset: str) -> Sequence[Grid]:
    """List, of every case, the start, then each optimizer's runs and what predicts their rates."""
    names, setting, seeds, examples = SETTINGS[preset]
    return [grid for name in names for grid in CASES[name].grids(setting, seeds, examples)]


ARTEFACT = Artefact(
    name="rates",
    title="Learning rates predicted without training",
    source="Xu & Zhang 2024, table 6: the best rate is about 1e-6 / ratio",
    grids=grids,
    tables={
        "Cells": columns.Lines(cell_table),
        "Rules": columns.Lines(rule_table),
        "Constants": columns.Lines(calibration_table),
    },
    statements={},
    further=check,
    panels=drawn,
    lead=(
        "How much a first step of AdamW would change what tells examples apart, against how "
        "far apart they are, predicts its learning rate for a mask, and the largest Hessian "
        "eigenvalue that of SGD. Each prediction is compared with a grid of half decades of "
        "rates, every one of which was trained for one short epoch, and with the best rule of "
        "the form c / ratio, whose c is fitted to the same grids. Rates are tied with the best "
        "where their loss cannot be told from its own, and a cell has learnt where the best is "
        "better than no training; errors are decades. The constants are the predictor's own: the "
        "good and the largest stable rate over the reference, and the errors' spread in decades."
    ),
    caption="Grids of rates: the darker the lower the development loss; star: best; open "
    "circles: tied with it; line and band: suggested rate, 95 % interval; "
    "dotted: largest stable; dashed: best fixed rule",
)  # fmt: skip
