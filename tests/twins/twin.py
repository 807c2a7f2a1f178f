"""A claim with one error in its formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from theory import DISTRIBUTIONS


@dataclass(frozen=True)
class Twin:
    """A formula that is wrong in one place, and the distributions on which the error shows."""

    id: str
    error: str
    formula: Callable[..., Any]
    on: tuple[str, ...] = tuple(DISTRIBUTIONS)
