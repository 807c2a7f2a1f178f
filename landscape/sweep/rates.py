"""Rates: the learning rates that a cell tries, and the next one beyond its best."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landscape import checks
from landscape.errors import UserError
from landscape.sweep.naming import known


@dataclass(frozen=True)
class Rates:
    """Say how a cell's learning rate is chosen: on dev with the first seed, from rates that widen.

    Args:
        tried: each of these over the ratio (`over_ratio`), or as they stand.
        over_ratio: whether they are divided by the cell's ratio.
        most: largest rate tried; larger ones over the ratio become it.
        widen: how often the grid may grow, by its own step, while the best lies on its edge; a
            grid of one rate has no step, and stays.
        every_seed: whether each seed chooses its own rate, or the first for all.

    Raises:
        UserError: no rate, one twice, one out of range.
    """

    tried: tuple[float, ...]
    over_ratio: bool = False
    most: float = 1.0
    widen: int = 2
    every_seed: bool = False

    def __post_init__(self) -> None:
        checks.several("tried", self.tried, "learning rates")
        most = checks.number("most", self.most, above=0)
        limit = None if self.over_ratio else most
        tried = sorted(checks.number("tried", rate, above=0, most=limit) for rate in self.tried)
        if not tried or len(set(tried)) < len(tried):
            got = "one twice" if tried else "none"
            raise UserError(f"expected different learning rates to try, got {got}; give each once")
        checks.flag("over_ratio", self.over_ratio)
        checks.flag("every_seed", self.every_seed)
        object.__setattr__(self, "tried", tuple(tried))
        object.__setattr__(self, "most", most)
        object.__setattr__(self, "widen", checks.whole("widen", self.widen))

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Rates:
        """Make rates of named values, as JSON has them.

        Raises:
            UserError: as the rates themselves, or a name that is none.
        """
        parts = [f.name for f in dataclasses.fields(cls)]
        for name in given:
            known("a part of rates", name, parts)
        if "tried" not in given:
            raise UserError("expected learning rates under tried, got none; name some")
        return cls(**given)

    def start(self, ratio: float | None) -> tuple[float, ...]:
        """Return the rates that a cell tries first, smallest first.

        Rates over the ratio have three digits, lest two ways to write a ratio are two runs.

        Args:
            ratio: of the cell.

        Raises:
            UserError: rates over the ratio of a cell that has none.

        >>> Rates((1e-6, 1e-5), over_ratio=True).start(3e-4)
        (0.00333, 0.0333)
        """
        if not self.over_ratio:
            return self.tried
        if ratio is None:
            raise UserError(
                "expected a ratio of every run whose rates are over the ratio, got none; put runs "
                "without one in a grid of their own, with rates as they stand"
            )
        return tuple(sorted({_digits(min(rate / ratio, self.most)) for rate in self.tried}))

    def beyond(self, rates: Sequence[float], best: float) -> float | None:
        """Return the rate one step beyond a grid whose best is its edge; None where none is tried.

        Args:
            rates: tried so far, smallest first.
            best: one of them; inside the grid nothing is beyond it.

        >>> Rates((0.01, 0.1)).beyond((0.01, 0.1), 0.01), Rates((0.1, 1.0)).beyond((0.1, 1.0), 1.0)
        (0.001, None)
        """
        if len(self.tried) < 2:
            return None
        if best == rates[-1] and best < self.most:
            return _digits(min(best * self.tried[-1] / self.tried[-2], self.most))
        if best == rates[0]:
            return _digits(best * self.tried[0] / self.tried[1])
        return None


def _digits(rate: float) -> float:
    """Return a rate with three digits."""
    return float(f"{rate:.3g}")
