"""Table 2: which of a seed's two runs is compared with what, and figure 1's numbers of weights."""

from __future__ import annotations

import pytest

from experiments.kit.published import file_of, rows_at
from experiments.random_masking import figure1
from experiments.random_masking.grids import OWN
from experiments.random_masking.table2 import ARTEFACT


def test_masks_are_compared_at_the_first_seeds_rate_and_every_seed_has_its_own_beside() -> None:
    records = ARTEFACT.records(rows_at(file_of("local"), ARTEFACT, "local"), ARTEFACT.of("local"))
    for ratio in (1e-2, 1e-3, 1e-4):
        rates = {
            arm: {r["seed"]: r["lr"] for r in records if (r["arm"], r["ratio"]) == (arm, ratio)}
            for arm in ("masks", OWN)
        }
        assert [*rates["masks"]] == [*rates[OWN]] == [0, 1, 2, 3, 4]
        assert rates["masks"] == dict.fromkeys(range(5), rates[OWN][0])
        assert len({*rates[OWN].values()}) > 1
    judged = ARTEFACT.findings(records)
    assert judged["full"].evidence.startswith("masks - full fine-tuning: ")


@pytest.mark.parametrize(("count", "verdict"), [(1500, "holds"), (1000, "fails"), (400, "fails")])
def test_masks_have_fewer_weights_only_where_every_other_has_more(count, verdict) -> None:
    sizes = {"masks": [990, 1010], "LoRA": [4000], "prefixes": [count], "full fine-tuning": [10]}
    records = [
        {"arm": arm, "model": "m", "count": n, "ratio": 1e-3 if arm == "masks" else None}
        for arm, counts in sizes.items() for n in counts
    ]  # fmt: skip
    records.append({"arm": "masks", "model": "m", "count": 10**6, "ratio": 1e-2})
    found = figure1.ARTEFACT.statements["fewer"].judge(records)
    assert found.verdict == verdict
    assert found.evidence == (
        f"prefixes {count / 1000:.2g} times as many (m), LoRA 4 times as many (m)"
    )
