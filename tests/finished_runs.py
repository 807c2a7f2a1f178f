"""Finished runs by hand, in the schema of a row: no model, no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import landscape as ls

#: what seeds of the two methods have right of ten test examples
CORRECT = {
    ("random", 0): "1111111100", ("random", 1): "1111111000", ("random", 2): "1111110100",
    ("structured", 0): "1111000000", ("structured", 1): "1111110000",
    ("structured", 2): "1110100000",
}  # fmt: skip


def config(**values: Any) -> ls.RunConfig:
    return ls.RunConfig(**{"ratio": 1e-3, "lr": 0.1, **values})


def outcome(correct: str = "1110000000", **values: Any) -> dict[str, Any]:
    share = correct.count("1") / len(correct)
    return {
        "metric": "accuracy", "count": 1342, "ratio": 0.000998,
        "dev": {"accuracy": 0.5, "loss": 0.6, "n": 4},
        "test": {"accuracy": share, "loss": 0.7, "n": len(correct)}, "correct": correct,
        "distance": 1.25, "relative_distance": 0.01, "diverged": False, "best_step": 4, "steps": 8,
        "train_loss": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], "seconds": 2.5,
        "evaluations": [{"step": 4, "accuracy": 0.5}], "peak_memory": 1000,
        "identity": {"test rows": {"texts": "aa", "count": len(correct)}}, **values,
    }  # fmt: skip


def filled(folder: Path) -> ls.RunStore:
    """Make a store of two methods at three seeds each."""
    store = ls.RunStore(folder)
    store.create()
    for (method, seed), correct in CORRECT.items():
        options = {"granularity": "row"} if method == "structured" else {}
        one = config(method=method, seed=seed, options=options)
        store.write(one, outcome(correct))
        store.write_measured(one, "sharpness-0a1b2c3d", {"value_before": 3.0, "value_after": 1.5})
    return store
