"""Sharpness against its threshold, which falls with the rate whatever sharpness does."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.ours.adam_edge import ARTEFACT, TENFOLD, TENTH, USUAL, derive


def run(lr: float, sharpness: float, seed: int = 0, **values: Any) -> dict[str, Any]:
    found = {
        "model": "minilm-l6", "task": "t", "ratio": 1e-3, "lr": lr, "seed": seed,
        "preconditioned_steps": [
            {"preconditioned_sharpness": sharpness, "preconditioned_threshold": 38 / lr}
        ],
        **values,
    }  # fmt: skip
    return found | dict(derive(found))


def verdicts(sharpness: dict[float, float]) -> dict[str, str]:
    """Judge three seeds at each rate."""
    records = [run(lr, s * (1 + n * lr), n) for lr, s in sharpness.items() for n in range(3)]
    return {name: f.verdict for name, f in ARTEFACT.findings(records).items()}


def test_a_rate_that_leaves_sharpness_as_it_is_sharpens_nothing() -> None:
    same = verdicts({1e-3: 100.0, 1e-2: 90.0, 1e-1: 90.0})
    assert same["sharpens"] != "holds"
    assert verdicts({1e-3: 10.0, 1e-2: 100.0})["sharpens"] == "holds"


@pytest.mark.parametrize(
    ("over", "verdict"), [(1.0, "holds"), (0.1, "fails"), (10.0, "fails"), (0.6, "holds")]
)
def test_at_the_threshold_is_neither_below_half_of_it_nor_above_twice(
    over: float, verdict: str
) -> None:
    assert verdicts({1e-2: over * 3800})["at_threshold"] == verdict
    assert verdicts({1e-1: over * 380})["at_threshold_tenfold"] == verdict


def test_rates_are_named_by_what_is_usual_for_the_model() -> None:
    assert [run(lr, 1.0)["arm"] for lr in (1e-3, 1e-2, 1e-1)] == [TENTH, USUAL, TENFOLD]
    opt = "facebook/opt-125m"
    assert [run(lr, 1.0, model=opt)["arm"] for lr in (1e-4, 1e-3)] == [TENTH, USUAL]


def test_a_run_whose_largest_eigenvalue_is_negative_or_missing_is_left_out() -> None:
    assert "over" not in run(1e-2, -5.0)
    assert "over" not in run(1e-2, 5.0, preconditioned_steps=[])
    records = [run(1e-2, 100.0 + n, n) for n in range(3)] + [run(1e-2, -5.0, 3)]
    assert "1 left out" in ARTEFACT.findings(records)["at_threshold"].evidence


def test_a_ratio_at_which_no_rate_is_so_large_is_no_gap() -> None:
    records = [run(1e-1, 380.0 + n, n) for n in range(3)]
    records += [run(1e-1, 380.0 + n, n, ratio=1e-4) for n in range(3)]  # the usual rate there
    found = ARTEFACT.findings(records)["at_threshold_tenfold"]
    assert found.verdict == "holds"
    assert "lack" not in found.evidence
    assert "left out" not in found.evidence
