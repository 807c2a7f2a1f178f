"""Table 6: best rates that are known to half a step, and rates that ruin where they were tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from experiments.kit.judge import Finding
from experiments.random_masking.table6 import ARTEFACT, derive

STEP = (0.3, 1.0, 3.0)


def judged(rates: Sequence[float], edge: str = "") -> Finding:
    """Judge how high the sparsest masks' rates are, of a model each."""
    records = [
        {"model": f"m{n}", "task": "t", "arm": "masks", "ratio": 1e-5, "lr": lr, "edge": edge,
         "tried": STEP}
        for n, lr in enumerate(rates)
    ]  # fmt: skip
    return ARTEFACT.statements["aggressive"].judge(records)


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [
        ([0.09], "holds"),  # 0.1 is within half a step of it
        ([0.03], "fails"),
        ([0.3, 0.09, 0.03], "holds"),
        ([0.3, 0.03], "fails"),
        ([], "undecided"),
    ],
)
def test_a_rate_is_as_high_as_a_tenth_if_most_are_to_half_a_step(
    rates: Sequence[float], verdict: str
) -> None:
    assert judged(rates).verdict == verdict


def test_a_rate_at_the_edge_decides_only_if_beyond_it_no_rate_would_tell_otherwise() -> None:
    assert judged([0.3], "lowest").verdict == "undecided"
    assert judged([0.3], "highest").verdict == "holds"
    assert judged([0.03], "highest").verdict == "undecided"
    assert judged([0.03], "lowest").verdict == "fails"


def test_a_task_without_runs_at_a_tenth_is_no_gap() -> None:
    def run(task: str, seed: int, **values: Any) -> dict[str, Any]:
        lr = values.get("lr", 1e-4)
        found = {"model": "smollm2-135m", "task": task, "seed": seed, "ratio": None,
                 "tried": () if lr == 0.1 else (1e-4,), "lr": lr, **values}  # fmt: skip
        return found | dict(derive(found))

    records = [
        run(task, seed, method=method, lr=lr, test=0.8 - 2 * lr + seed * lr / 100)
        for task, lrs in (("rotten_tomatoes", (1e-4, 0.1)), ("sst2", (1e-4,)))
        for lr in lrs for method in ("full", "lora") for seed in range(3)
    ]  # fmt: skip
    found = ARTEFACT.statements["baselines"].judge(records)
    assert found.verdict == "holds"
    assert "which lack common seeds" not in found.evidence
