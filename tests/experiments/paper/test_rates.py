"""The exponent of the papers' own best rates, beside a fit by another library."""

from __future__ import annotations

import numpy as np
import pytest

import landscape as ls
from experiments.paper.rates import printed_exponent

#: table 6, OPT-125m on SST-2: ratio and rate
RATIOS = [1e-1, 5e-2, 1e-2, 5e-3, 1e-3, 5e-4, 1e-4, 5e-5, 1e-5]
LRS = [1e-5, 1e-5, 1e-4, 1e-4, 1e-3, 1e-3, 1e-2, 1e-2, 1e-1]


def test_a_cell_is_the_slope_of_its_typed_rates() -> None:
    slope = np.polyfit(np.log10(RATIOS), np.log10(LRS), 1)[0]
    cells = printed_exponent("table 6").cells
    assert cells["facebook/opt-125m", "sst2"] == pytest.approx(slope, abs=1e-12)


def test_the_interval_is_student_s_of_the_cells_mean() -> None:
    fit = printed_exponent("table 9", models=["facebook/opt-13b"])
    values = np.array(list(fit.cells.values()))
    half = 2.2281388519862744 * values.std(ddof=1) / np.sqrt(11)  # Student's 97.5 %, 10 degrees
    assert len(values) == 11
    assert (fit.low, fit.high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_rates_grow_less_than_the_ratio_falls_in_the_paper_s_tables() -> None:
    every, learned = printed_exponent("table 6"), printed_exponent("table 6", without=["wsc"])
    structured = printed_exponent("table 9", without=["wsc"])
    assert -1 < every.low < every.high < -0.75
    assert (learned.low, learned.high) == pytest.approx((-0.978, -0.851), abs=5e-4)
    assert structured.low > learned.value


def test_no_cell_is_refused_and_one_has_no_interval() -> None:
    with pytest.raises(ls.UserError, match="got none for models gpt"):
        printed_exponent("table 6", models=["gpt"])
    tasks = {task for _, task in printed_exponent("table 6").cells}
    one = printed_exponent("table 6", models=["facebook/opt-125m"], without=tasks - {"sst2"})
    assert one.low != one.low
    assert one.value == pytest.approx(np.polyfit(np.log(RATIOS), np.log(LRS), 1)[0])
