"""Two-way variance components: against sums typed by hand, a known law, and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.ours.components import components

#: rows 1, 3, 8; columns -1, 1; a rest of +-0.5 in one row pair
TABLE = {
    ("a", 0): 0.5, ("a", 1): 1.5, ("b", 0): 2.0, ("b", 1): 4.0, ("c", 0): 6.5, ("c", 1): 9.5,
}  # fmt: skip


def test_mean_squares_are_those_of_an_analysis_of_variance_by_hand() -> None:
    # means: rows 1, 3, 8; columns 3, 5; all 4. SS rows 2 (9 + 1 + 16) = 52, columns 3 (1 + 1) = 6,
    # all 12.25 + 6.25 + 4 + 0 + 6.25 + 30.25 = 59, so the rest is 1
    found = components(TABLE)
    assert found is not None
    assert found.rest == pytest.approx(np.sqrt(1 / 2))
    assert found.rows == pytest.approx(np.sqrt((26 - 0.5) / 2))
    assert found.columns == pytest.approx(np.sqrt((6 - 0.5) / 3))
    assert found.ratio == pytest.approx(26 / 6)


def test_an_incomplete_table_has_no_components() -> None:
    assert components({k: v for k, v in TABLE.items() if k != ("c", 1)}) is None
    assert components({("a", 0): 1.0, ("a", 1): 2.0}) is None


def test_the_interval_of_the_ratio_covers_the_truth_in_95_of_100() -> None:
    draw, covered, trials = np.random.default_rng(0), 0, 2000
    truth = (5 * 2.0**2 + 1) / (5 * 1.0**2 + 1)  # expected mean squares: rows 2, columns 1, rest 1
    for _ in range(trials):
        y = draw.normal(0, 2, (5, 1)) + draw.normal(0, 1, (1, 5)) + draw.normal(0, 1, (5, 5))
        found = components({(i, j): float(y[i, j]) for i in range(5) for j in range(5)})
        assert found is not None
        covered += found.ratio_low <= truth <= found.ratio_high
    assert covered / trials == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / trials))
