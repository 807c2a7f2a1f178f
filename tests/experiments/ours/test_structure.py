"""Structures of masks: a difference is told once."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.ours.structure import ARTEFACT, KINDS, derive


def run(arm: str, seed: int, **values: Any) -> dict[str, Any]:
    method, options = KINDS[arm]
    found = {"model": "m", "task": "t", "seed": seed, "method": method, "options": options,
             "lr": 1e-2, "correct": None, "distance": 30.0, **values}  # fmt: skip
    return found | dict(derive(found))


@pytest.mark.parametrize(
    ("above", "verdict"), [(0.0, "holds"), (0.03, "fails"), (-0.03, "fails"), (0.01, "undecided")]
)
def test_accuracy_is_that_of_random_ones_if_it_is_neither_below_nor_above(
    above: float, verdict: str
) -> None:
    records = [run("random", seed, test=0.7) for seed in range(5)]
    records += [run("rows", seed, test=0.7 + above + (seed - 2) / 1000) for seed in range(5)]
    found = ARTEFACT.statements["test_rows"].judge(records)
    assert found.verdict == verdict
    assert found.evidence.count("sign-flip") == 1
    assert "0.01 would matter" in found.evidence
