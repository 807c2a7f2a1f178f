"""The smallest runs, which the artefacts of all sources share."""

from __future__ import annotations

from typing import Any

SMOKE: dict[str, Any] = {
    "model": "minilm-l6", "task": "rotten_tomatoes", "num_train": 16, "num_dev": 8, "num_test": 16,
    "epochs": 1,
}  # fmt: skip
"""The packaged encoder and reviews, two steps."""
