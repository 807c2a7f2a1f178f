"""Seeds of data and masks: what test examples alone give, and squares that are not whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments.ours.seeds import ARTEFACT, drawn, of


def run(seed: int, mask: int, correct: str, **values: Any) -> dict[str, Any]:
    return {"model": "m", "task": "t", "seed": seed, "mask_seed": mask, "ratio": 1e-3,
            "correct": correct, "test": correct.count("1") / len(correct), "distance": 1.0,
            **values}  # fmt: skip


def drawn_square(spread: float) -> list[dict[str, Any]]:
    """Return runs whose accuracy is 0.7, and a deviation more or less with every data seed.

    Each data seed draws its 400 test examples anew; masks have nearly the same of them right.
    """
    draw, found = np.random.default_rng(3), []
    for seed in range(5):
        hard = draw.random(400) < 0.7 + spread * (seed - 2)
        for mask in range(5):
            right = hard ^ (draw.random(400) < 0.002)
            found.append(run(seed, mask, "".join(str(int(x)) for x in right)))
    return found


def test_the_variance_of_test_examples_is_that_of_their_mean_by_hand() -> None:
    # shares of masks that are right: 1, 1/2, 1/2, 0, of variance (1/4 + 1/4) / 3 = 1/6
    records = [run(0, 0, "1100"), run(0, 1, "1010")]
    assert drawn(records) == pytest.approx(1 / 6 / 4)
    # a second data seed, all right, has none
    assert drawn([*records, run(1, 0, "1111"), run(1, 1, "1111")]) == pytest.approx(1 / 48)


def test_data_seeds_that_only_draw_other_test_examples_move_nothing() -> None:
    judge = ARTEFACT.statements["test_thousandth"].judge
    assert judge(drawn_square(0.0)).verdict == "undecided"
    assert judge(drawn_square(0.1)).verdict == "holds"


def test_where_films_are_drawn_whole_the_data_is_not_said_to_move_accuracy_more() -> None:
    judge = ARTEFACT.statements["test_thousandth"].judge
    found = judge([{**r, "task": "rotten_tomatoes"} for r in drawn_square(0.1)])
    assert found.verdict == "undecided"
    assert found.evidence.endswith("; its test examples are drawn in groups")


def test_the_variance_of_test_examples_is_taken_off_the_data_s() -> None:
    records = drawn_square(0.0)
    found = of(records, "test")
    assert found is not None
    means = [np.mean([r["test"] for r in records if r["seed"] == seed]) for seed in range(5)]
    assert found.rows < np.std(means, ddof=1) / 2
    assert np.std(means, ddof=1) > 0.01


def test_a_run_without_a_value_leaves_a_statement_undecided() -> None:
    records = drawn_square(0.1)
    records[7] |= {"test": None, "correct": None, "distance": None}
    for name in ("test_thousandth", "distance_thousandth"):
        assert ARTEFACT.statements[name].judge(records).verdict == "undecided"
    (line,) = ARTEFACT.tables["Standard deviation of test accuracy by source"].lines(records)
    assert line["mask"] == "-"


def test_a_variance_that_is_estimated_to_be_negative_is_told() -> None:
    (line,) = ARTEFACT.tables["Standard deviation of test accuracy by source"].lines(
        [run(i, j, "1" * (6 + i + (i + j) % 2) + "0" * (4 - i - (i + j) % 2))
         for i in range(2) for j in range(2)]
    )  # fmt: skip
    assert line["mask"] == "0 (at its bound)"
