"""Which statements a correction spans, told beside them: counted by hand."""

from __future__ import annotations

from typing import Any

from experiments.kit import statements
from experiments.kit.cases import case_by_case
from experiments.kit.correction import correction
from experiments.kit.judge import Finding
from experiments.kit.view import Artefact


def run(arm: str, seed: int, task: str, ratio: float) -> dict[str, Any]:
    return {"model": "m", "task": task, "ratio": ratio, "arm": arm, "seed": seed,
            "test": 0.5 + (arm == "a") * (0.1 + 0.01 * seed), "move": ratio * (1 + seed),
            "met": True}  # fmt: skip


RECORDS = [run(arm, s, task, p) for arm in "ab" for s in (0, 1, 2) for task in ("t", "u")
           for p in (1e-3, 1e-2)]  # fmt: skip
BETTER = statements.better("a is better", "test", "a", "b")
WORSE = statements.better("b is better", "test", "b", "a")
MARGIN = statements.better("no worse", "test", "a", "b", by=-0.01)
SEVERAL = statements.each("both", [BETTER, MARGIN])


def judged(further: Any = lambda records: (), **stated: statements.Statement) -> list[Finding]:
    one = Artefact(
        name="toy", title="", source="ours", grids=lambda preset: (), tables={}, panels=(),
        statements=stated, lead="", caption="", further=further,
    )  # fmt: skip
    return list(one.findings(RECORDS).values())


def test_what_the_correction_spans_names_it_and_every_other_statement_is_counted() -> None:
    found = judged(
        case_by_case(BETTER), a=BETTER, b=WORSE, margin=MARGIN, several=SEVERAL,
        level=statements.exceeds("e", "move", 0.1), low=statements.below("b", "move", 0.1),
        power=statements.scales("s", "move", 1), same=statements.alike("s", "move", "a", "b"),
        steps=statements.monotone("m", "move", 1), met=statements.true_everywhere("t", "met"),
        own=statements.Statement("own", lambda records: Finding("own", "holds", "")),
    )  # fmt: skip
    assert correction(found) == (
        "Holm's correction spans the 2 statements whose evidence names it; not adjusted: "
        "3 against a threshold, 1 of an exponent, 1 of an agreement, 2 of several at once, "
        "2 case by case, 1 of other kinds."
    )
    assert sum("Holm" in f.evidence for f in found) == 2
    assert sum("Holm" in f.evidence for f in found if f.kind != "difference") == 0


def test_one_difference_alone_is_adjusted_for_nothing_and_that_is_said_beside_others() -> None:
    assert correction(judged(a=BETTER, margin=MARGIN)) == (
        "Not adjusted for being several: 1 of a difference, 1 against a threshold."
    )
    assert correction(judged(a=BETTER, b=WORSE)) == (
        "Holm's correction spans the 2 statements whose evidence names it."
    )


def test_a_statement_alone_and_exact_numbers_need_no_sentence() -> None:
    met = statements.true_everywhere("t", "met")
    assert correction(judged(a=BETTER, met=met)) == correction(judged(met=met)) == ""
    plain = statements.Statement("own", lambda records: Finding("own", "holds", ""))
    assert correction(judged(a=plain, b=plain)) == ""
