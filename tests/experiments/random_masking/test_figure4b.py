"""Figure 4b: what is read of a run after its epochs, where it is read, and of one that diverged."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.random_masking.figure4b import ARTEFACT, BEST, SMALL, derive


def run(steps: int = 24, **values: Any) -> dict[str, Any]:
    """Return a run of 4 epochs of 6 steps, which evaluates every 4th step and ends after some."""
    return {
        "metric": "accuracy", "epochs": 4, "num_train": 24, "batch_size": 2, "tried": (),
        "settings": {"accumulate": 2, "evaluate_every": 4}, "lr": 3e-4, "dev": 0.99,
        "train_loss": [1 / (s + 1) for s in range(steps)],
        "evaluations": [{"step": s, "accuracy": s / 100} for s in range(0, steps + 1, 4)],
        **values,
    }  # fmt: skip


def test_scores_are_those_of_the_last_evaluation_in_an_epoch() -> None:
    found = derive(run())
    assert [found["early"], found["middle"], found["late"]] == [0.04, 0.12, 0.24]
    assert found["gain"] == pytest.approx(0.08)
    assert found["course"] == [0.04, 0.12, 0.16, 0.24]
    assert found["loss"] == pytest.approx(sum(1 / s for s in range(19, 25)) / 6)
    assert found["fall"] == pytest.approx(
        sum(1 / s for s in range(1, 7)) / 6 - sum(1 / s for s in range(7, 13)) / 6
    )


def test_the_best_rate_is_read_at_its_last_epoch_too_and_not_at_its_best_checkpoint() -> None:
    found = derive(run(tried=(1e-3, 1e-2)))
    assert found["arm"] == BEST
    assert found["late"] == 0.24


def test_a_run_that_diverged_has_nothing_where_it_did_not_come() -> None:
    found = derive(run(9, diverged=True))
    assert found["early"] == 0.04
    assert {found[name] for name in ("middle", "late", "gain", "further gain", "loss")} == {None}
    records = [{"model": "m", "task": "t", "seed": 0, "ratio": 1e-3} | run(9) | found]
    assert {f.verdict for f in ARTEFACT.findings(records).values()} == {"undecided"}
    assert run(9, train_loss=[1.0] * 23 + [None]).keys() == run().keys()
    assert derive(run(train_loss=[1.0] * 23 + [None]))["late"] is None


def test_a_loss_that_falls_is_no_failure_to_optimise_where_it_ends_below_the_best_rate_s() -> None:
    def verdict(best: float, *small: float) -> str:
        arms = {BEST: best} | {f"{SMALL}, {n}": loss for n, loss in enumerate(small)}
        records = [
            {"model": "m", "task": "t", "seed": seed, "ratio": 1e-3, "arm": arm, "late": 0.5,
             "loss": loss + seed / 1000 * (arm == BEST), "fall": 0.1 + seed / 1000,
             "further fall": 0.1 + seed / 1000}
            for arm, loss in arms.items() for seed in range(3)
        ]  # fmt: skip
        return ARTEFACT.statements["optimisation"].judge(records).verdict

    assert verdict(0.3, 0.6) == "holds"
    assert verdict(0.9, 0.6) == "fails"
    assert verdict(0.5, 0.6, 0.4) == "fails"  # every small rate, however many
