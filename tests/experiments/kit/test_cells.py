"""Cells: keys that follow from coordinates, and the rate that dev chooses."""

from __future__ import annotations

from experiments.kit.cells import best_on_dev, chosen, key, tuned


def test_the_best_rate_on_dev_is_the_most_accurate_then_of_the_lowest_loss_then_the_first() -> None:
    def row(rate: float, accuracy: float, loss: float) -> dict:
        return {"rate": rate, "dev_accuracy": accuracy, "dev_loss": loss}

    assert best_on_dev([row(1, 0.8, 0.1), row(2, 0.9, 3.0)])["rate"] == 2
    tied = [row(1, 0.9, 0.7), row(2, 0.9, 0.5), row(3, 0.9, 0.6)]
    assert best_on_dev(tied)["rate"] == best_on_dev(tied[::-1])["rate"] == 2
    same = [row(2, 0.9, 0.5), row(1, 0.9, 0.5)]
    assert best_on_dev(same)["rate"] == 2
    assert best_on_dev(same[::-1])["rate"] == 1


def test_a_seed_is_whole_in_its_key_however_large() -> None:
    assert key({"kind": "train", "ratio": 1e-5, "seed": 2**32 - 1}) == (
        "train/ratio=1e-05/seed=4294967295"
    )


def test_other_seeds_take_the_rate_that_dev_chose_with_the_first() -> None:
    cell = {"kind": "train", "ratio": 1e-3}
    first = tuned(cell, (0.1, 0.2, 0.3), seed=7, first=7)
    scores = (0.5, 0.9, 0.7)
    rows = {key(c): c | {"dev_accuracy": s, "dev_loss": 1.0} for c, s in zip(first, scores)}
    (later,) = tuned(cell, (0.1, 0.2, 0.3), seed=8, first=7)
    assert key(later) == "train/ratio=0.001/*/seed=8"
    found = chosen(rows, later, (0.1, 0.2, 0.3), seed=8, first=7)
    assert key(found) == "train/ratio=0.001/rate=0.2/seed=8"
