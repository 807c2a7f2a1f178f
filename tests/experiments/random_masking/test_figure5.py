"""The artefact `figure5`: its statements in fabricated worlds; its masks are of one size."""

from __future__ import annotations

import math

import pytest
from made_rows import made

from experiments.kit.judge import SIGNS
from experiments.kit.records import Row
from experiments.random_masking import figure4a
from experiments.random_masking.figure5 import ARTEFACT
from landscape.sweep import RunConfig

NOISE = {0: -0.001, 1: 0.0, 2: 0.001, 3: -0.0005, 4: 0.0005}


def world(margin: float, decay: float, factor: float, rate: float = -1.0) -> list[Row]:
    """Rows of preset local where random beats structured by `margin`, plus `decay` a decade.

    Structured masks are `factor` times as sharp, and the best rate goes like ratio ** `rate`.
    """

    def outcome(config: RunConfig) -> dict[str, object]:
        if config.method == "none":
            return {"test": 0.5}
        assert config.ratio is not None
        assert config.lr is not None
        decade = round(-math.log10(config.ratio)) - 2
        structured = config.method == "structured"
        lost = margin + decay * decade + NOISE[config.seed] * decade if structured else 0.0
        sharp = 3.0 * (factor * (1 + NOISE[config.seed]) if structured else 1.0)
        best = 1e-3 * (config.ratio / 1e-2) ** rate
        return {
            "test": 0.9 - lost, "dev": 0.8 - abs(config.lr / best - 1) / 1000, "count": 10,
            "distance": 1.0, "sharpness": {
                "sharpness_before": sharp, "sharpness_after": -sharp, "converged_before": True,
                "converged_after": config.ratio > 2e-5 or not structured,
            },
        }  # fmt: skip

    return made(ARTEFACT.of("local"), outcome)


def signs(rows: list[Row]) -> dict[str, str]:
    findings = ARTEFACT.findings(ARTEFACT.records(rows, ARTEFACT.of("local")))
    return {name: SIGNS[finding.verdict] for name, finding in findings.items()}


def test_each_statement_holds_in_its_world_and_fails_in_the_opposite() -> None:
    held, failed = signs(world(0.02, 0.03, 1.0)), signs(world(-0.02, -0.03, 4.0))
    assert [held[n] for n in ("order", "decay", "rates", "sharpness")] == ["✓"] * 4
    assert [failed[n] for n in ("order", "decay", "sharpness")] == ["✗"] * 3


def test_a_sharpness_that_did_not_converge_is_named() -> None:
    found = ARTEFACT.findings(
        ARTEFACT.records(world(0.02, 0.03, 1.0), ARTEFACT.of("local"))
    )["converged"]  # fmt: skip
    assert found.verdict == "fails"
    assert found.evidence == "true of 150 of 160 values of 80 runs"


@pytest.mark.parametrize("preset", ["smoke", "local", "paper"])
def test_both_masks_of_a_preset_have_every_ratio_and_seed_of_every_model(preset) -> None:
    cells = [cell for grid in ARTEFACT.of(preset) for cell in grid.cells()]
    places = {m: {(c.model, c.task, c.ratio, c.seed) for c in cells if c.method == m}
              for m in ("random", "structured")}  # fmt: skip
    assert places["random"] == places["structured"]
    assert {c[3] for c in places["random"]} == {c.seed for c in cells if c.method == "none"}


def test_random_masks_are_the_runs_of_figure_4a_too() -> None:
    theirs = {c.address for g in figure4a.ARTEFACT.of("local") for c in g.cells()}
    ours = {c.address for g in ARTEFACT.of("local") for c in g.cells() if c.method == "random"}
    assert ours == theirs
