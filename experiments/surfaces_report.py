"""Judge and draw the rows of `surfaces`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.harness import Finding, Row


def check(rows: Sequence[Row]) -> list[Finding]:
    return []


def render(rows: Sequence[Row], folder: Path) -> list[Path]:
    return []
