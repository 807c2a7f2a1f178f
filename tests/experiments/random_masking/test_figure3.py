"""Figure 3: a curve over rates is of the same seeds at each of them."""

from __future__ import annotations

from typing import Any

from experiments.random_masking.figure3 import ARTEFACT, derive

SHARED = {"model": "minilm-l6", "task": "rotten_tomatoes", "tried": (), "edge": ""}


def run(**values: Any) -> dict[str, Any]:
    found = {**SHARED, **values}
    return found | dict(derive(found))


def test_seeds_that_only_one_rate_has_are_in_no_curve() -> None:
    rates = [run(ratio=1e-5, lr=lr, seed=0, test=0.6) for lr in (1e-3, 1.0)]
    more = [run(ratio=1e-5, lr=1e-3, seed=seed, test=0.9) for seed in (1, 2)]
    (low, high) = ARTEFACT.tables["Test accuracy by rate, of the first seed"].lines(rates + more)
    assert low["ratio 1e-05"] == high["ratio 1e-05"] == "0.600"
    own = [run(model="facebook/opt-125m", ratio=1e-5, lr=1e-3, seed=s, test=0.6) for s in (0, 1)]
    (line,) = ARTEFACT.tables["Test accuracy by rate, of the first seed"].lines(own)
    assert line["ratio 1e-05"] == "0.600 ± 0.000"


def test_every_smaller_ratio_has_to_keep_its_accuracy() -> None:
    def verdict(lost: dict[float, float]) -> str:
        records = [
            run(ratio=ratio, lr=1.0, tried=(1.0, 3.0), seed=seed, correct=None,
                test=0.8 - lost.get(ratio, 0.001 * (ratio < 1e-2)) * (1 + seed / 100))
            for ratio in (1e-1, 1e-2, 1e-3, 5e-4, 1e-4, 1e-5) for seed in range(5)
        ]  # fmt: skip
        return ARTEFACT.statements["steady"].judge(records).verdict

    assert verdict({1e-3: 0.001, 1e-4: 0.01, 1e-5: 0.02}) == "holds"
    assert verdict({1e-3: 0.001, 1e-4: 0.01, 1e-5: 0.13}) == "fails"
    assert verdict({1e-3: 0.001, 5e-4: 0.13, 1e-5: 0.02}) == "fails"
    assert verdict({1e-1: 0.3, 1e-4: 0.01}) == "holds"  # a larger one
