"""Sizes: what a larger model loses between the two ratios of which the paper says it."""

from __future__ import annotations

from experiments.random_masking.sizes import ARTEFACT


def test_ratios_above_a_thousandth_do_not_decide_which_model_loses_less() -> None:
    # the smaller model falls from 1e-2 to 1e-3 and then no more; the larger one falls after that
    level = {
        ("smaller", 1e-2): 0.9, ("smaller", 1e-3): 0.7, ("smaller", 1e-5): 0.7,
        ("larger", 1e-2): 0.9, ("larger", 1e-3): 0.9, ("larger", 1e-5): 0.8,
    }  # fmt: skip
    records = [
        {"model": "both", "task": "t", "arm": arm, "ratio": ratio, "seed": seed, "correct": None,
         "test": mean + seed / 1000 * (arm == "larger") * (ratio == 1e-5)}
        for (arm, ratio), mean in level.items() for seed in range(5)
    ]  # fmt: skip
    assert ARTEFACT.statements["larger"].judge(records).verdict == "fails"
