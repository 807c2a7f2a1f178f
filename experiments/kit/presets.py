"""The smallest runs, which the artefacts of all sources share."""

from __future__ import annotations

from typing import Any

SMOKE: dict[str, Any] = {
    "model": "minilm-l6", "task": "rotten_tomatoes", "num_train": 24, "num_dev": 16, "num_test": 24,
    "epochs": 1,
}  # fmt: skip
"""The packaged encoder and reviews, three steps."""
