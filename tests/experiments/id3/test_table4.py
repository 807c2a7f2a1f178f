"""Scatter over seeds on named entities: who scatters less, and when nobody can tell."""

from __future__ import annotations

import pytest

from experiments.id3.table4 import ARTEFACT, OTHERS, SAME

NOISE = (0.9, -1.1, 0.4, -0.7, 1.3, -0.8)


@pytest.mark.parametrize(
    ("own", "others", "verdict"),
    [
        (0.01, (1.0, 1.0, 1.0), "holds"),
        (1.0, (0.01, 0.01, 0.01), "fails"),
        (1.0, (3.0, 3.0, 0.01), "fails"),  # one that scatters less is enough
        (1.0, (1.0, 1.0, 1.0), "undecided"),
    ],
)
def test_an_arm_scatters_less_where_it_does_beside_each_of_the_others(
    own: float, others: tuple[float, ...], verdict: str
) -> None:
    def scores(arm: str, budget: int | None, size: float, shift: int) -> list[dict]:
        moved = NOISE[shift:] + NOISE[:shift]
        return [{"arm": arm, "budget": budget, "seed": seed, "test": 0.8 + 0.01 * size * x}
                for seed, x in enumerate(moved)]  # fmt: skip

    records = scores("ID3", SAME[0], own, 0) + scores("ID3", 10 * SAME[0], 50.0, 3)
    for shift, (arm, size) in enumerate(zip(OTHERS, others, strict=True), 1):
        records += scores(arm, None if arm == "BitFit" else SAME[0], size, shift)
    found = ARTEFACT.statements["scatters_less"].judge(records)
    assert found.verdict == verdict, found.evidence
    assert "(6 seeds)" in found.evidence
