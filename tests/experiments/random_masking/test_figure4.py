"""The artefact `figure4`: statements in made-up worlds; the published numbers, typed from print."""

from __future__ import annotations

import pytest
from made_rows import made

from experiments.kit.judge import SIGNS
from experiments.kit.published import file_of, rows_at
from experiments.kit.records import Row
from experiments.random_masking.figure4 import ARTEFACT
from landscape.sweep import RunConfig

NOISE = {0: -0.01, 1: 0.0, 2: 0.01}


def world(slope: float, gain: float, sign: float = 1.0) -> list[Row]:
    """Rows of preset local whose sharpness goes like ratio ** slope, distance like its inverse.

    So many weights are trained that rate times their root is the same at every ratio.
    """

    def outcome(config: RunConfig) -> dict[str, object]:
        if config.method == "none":
            return {"test": 0.6}
        assert config.ratio is not None
        size = config.ratio ** (slope * (1 + NOISE[config.seed]))
        return {
            "dev": 0.8, "test": 0.6 + gain + NOISE[config.seed], "distance": 1 / size,
            "count": round(1e10 * config.ratio**2), "steps": 80,
            "sharpness": {"sharpness_before": size, "sharpness_after": sign * size,
                          "converged_before": True, "converged_after": sign > 0},
        }  # fmt: skip

    return made(ARTEFACT.of("local"), outcome)


def signs(rows: list[Row]) -> str:
    found = ARTEFACT.findings(ARTEFACT.records(rows, ARTEFACT.of("local")))
    return "".join(SIGNS[finding.verdict] for finding in found.values())


def test_each_statement_holds_in_its_world_and_fails_in_the_opposite() -> None:
    assert signs(world(1.0, 0.2)) == "✓✓✓✓✓✓✓"
    assert signs(world(-1.0, -0.2, -1.0)) == "✗✗✗✗✗✗✗"


def test_one_seed_decides_nothing_that_varies_with_it() -> None:
    rows = [row for row in world(1.0, 0.2) if row["config"]["seed"] == 0]
    assert signs(rows) == "?????✓✓"


@pytest.mark.parametrize("preset", ["smoke", "local", "paper"])
def test_every_ratio_of_a_preset_is_measured_at_both_ends_beside_the_pretrained(preset) -> None:
    masks, start = ARTEFACT.of(preset)
    assert set(masks.measure) == {"sharpness"}
    assert {c.method for c in start.cells()} == {"none"}
    assert {c.seed for c in masks.cells()} == {c.seed for c in start.cells()}


def test_the_published_rows_say_what_was_printed() -> None:
    rows = rows_at(file_of("local"), ARTEFACT, "local")
    (lines,) = ARTEFACT.lines(ARTEFACT.records(rows, ARTEFACT.of("local"))).values()
    told = {line["ratio"]: line for line in lines}
    assert told["0.01"]["accuracy"] == "0.824 ± 0.018"
    assert told["0.01"]["sharpness before"] == "5.72 ×÷ 1.3"
    assert told["1e-05"]["sharpness after"] == "0.00588 ×÷ 1.8"
    assert told["0.0001"]["distance"] == "118 ± 2.49"
    assert told["-"]["accuracy"] == "0.596 ± 0.046"
    assert [line["rate"].rstrip("*") for line in lines[:-1]] == ["0.003", "0.01", "0.1", "0.3"]
