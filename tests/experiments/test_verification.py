"""Verification: the same runs with seeds that nobody has used, which choose rates anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from made_rows import made
from paper_world import World, rows_in

import landscape as ls
from experiments.catalogue import artefacts
from experiments.claims import CLAIMS, Claim
from experiments.kit import columns, statements
from experiments.kit.columns import Table
from experiments.kit.published import file_of
from experiments.kit.records import Row, runs
from experiments.kit.view import Artefact
from experiments.verification import FRESH, Case, repeated, unused, verify, verify_theorem
from experiments.verified import Verification, verifications
from landscape.sweep import Grid, Rates, RunConfig, RunStore, read_rows
from landscape.sweep.measurements import key

MASKS = Grid(
    {"ratio": 1e-2}, {"method": ["random", "magnitude"], "seed+mask_seed": [(0, 100), (1, 101)]},
    Rates((0.1, 0.2, 0.4), widen=0), measure={"sharpness": {"examples": 2}},
)  # fmt: skip
START = Grid({"method": "none"}, {"seed": [0, 1]})
TOY = Artefact(
    name="toy", title="Toys", source="ours", lead="Toys.", caption="Toys",
    grids=lambda preset: [MASKS, START], panels=(),
    tables={"Results": Table(by=("arm",), columns={"n": columns.seeds()})},
    statements={"order": statements.better("m", "test", "magnitude", "random"),
                "learns": statements.better("l", "test", "random", "none")},
)  # fmt: skip
CLAIM = Claim(id="c", says="C.", place="p", artefact="toy", statements=("order",))
LEARNS = Claim(id="l", says="L.", place="p", artefact="toy", statements=("learns",))
START_ALONE = replace(
    TOY,
    name="alone",
    grids=lambda preset: [START],
    statements={"level": statements.exceeds("n", "test", 0.4)},
)
LEVEL = Claim(id="n", says="N.", place="p", artefact="alone", statements=("level",))


def world(config: RunConfig) -> dict:
    """Magnitude is better by a tenth, at its best rate 0.2; random's is 0.1."""
    level = {"none": 0.5, "random": 0.6, "magnitude": 0.7}[config.method]
    best = {"none": 0.0, "random": 0.1, "magnitude": 0.2}[config.method]
    noise = config.seed / 1000 * (config.method == "random")
    return {"test": level + noise, "dev": 1 - abs((config.lr or 0.0) - best),
            "sharpness": {"sharpness_after": 1.0}}  # fmt: skip


def compute(grids: Sequence[Grid], folder: Path) -> None:
    """Write what the world says into a store, as a sweep does."""
    store = RunStore(folder)
    store.create()
    for one in made(grids, world):
        config = RunConfig.of(one["config"])
        store.write(config, one["outcome"])
        for name, values in one["measured"].items():
            store.write_measured(config, name, values)


def verified(cases: Sequence[Case], count: int, folder: Path) -> list[Verification]:
    return verify(cases, "local", count, folder / "store", compute, folder)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return made([MASKS, START], world)


def test_fresh_runs_keep_method_and_measurement_and_have_masks_and_rates_of_their_own(rows) -> None:
    given = Grid({"ratio": 1e-2, "lr": 0.4}, {"seed": [0, 1]})
    done = runs([*rows, *made([given], world)], [MASKS, START, given])
    grids = repeated(done, [5, 6])
    cells = [cell for grid in grids for cell in grid.cells()]
    assert [(c.method, c.lr, c.seed, c.mask_seed) for c in cells] == [
        ("random", None, 5, 105), ("random", None, 6, 106),
        ("magnitude", None, 5, 105), ("magnitude", None, 6, 106),
        ("none", None, 5, None), ("none", None, 6, None),
        ("random", 0.4, 5, None), ("random", 0.4, 6, None),
    ]  # fmt: skip
    assert [grid.rates for grid in grids] == [MASKS.rates, MASKS.rates, None, None]
    assert [dict(grid.measure) for grid in grids] == [
        {"sharpness": {"examples": 2}}, {"sharpness": {"examples": 2}}, {}, {},
    ]  # fmt: skip


def test_seeds_are_ones_that_neither_rows_nor_verifications_have(rows, tmp_path) -> None:
    assert unused(rows, tmp_path, 2) == [2, 3]
    (done,) = verified([Case(TOY, [CLAIM], rows)], 2, tmp_path)
    assert list(done.seeds) == [2, 3]
    assert unused(rows, tmp_path, 1) == [4]


def test_a_claim_is_judged_on_fresh_seeds_alone_and_on_all(rows, tmp_path) -> None:
    (done,) = verified([Case(TOY, [CLAIM], rows)], 3, tmp_path)
    assert done.alone == {"order": "holds"}
    assert done.together == {"order": "holds"}
    assert "(3 seeds" in done.evidence["order"]
    assert verifications(tmp_path) == {"c": [done]}
    (again,) = verified([Case(TOY, [CLAIM], rows)], 1, tmp_path)
    assert again.alone == {"order": "undecided"}
    assert len(verifications(tmp_path)["c"]) == 2


def test_claims_share_fresh_seeds_and_the_runs_of_several_artefacts_one_sweep(
    rows, tmp_path
) -> None:
    sweeps = []

    def counted(grids: Sequence[Grid], folder: Path) -> None:
        sweeps.append(len(grids))
        compute(grids, folder)

    start = [r for r in rows if r["config"]["method"] == "none"]
    cases = [Case(TOY, [CLAIM, LEARNS], rows), Case(START_ALONE, [LEVEL], start)]
    done = verify(cases, "local", 2, tmp_path / "store", counted, tmp_path)
    assert [(one.claim, list(one.seeds)) for one in done] == [
        ("c", [2, 3]), ("l", [2, 3]), ("n", [2, 3]),
    ]  # fmt: skip
    assert [list(one.alone) for one in done] == [["order"], ["learns"], ["level"]]
    assert sweeps == [4]
    assert len(list(ls.RunStore(tmp_path / "store").rows())) == 2 * (3 + 1) + 2
    assert {name: [one] for name, one in zip("cln", done, strict=True)} == verifications(tmp_path)


def test_an_unfinished_artefact_stops_all_before_anything_is_computed(rows, tmp_path) -> None:
    some = [r for r in rows if r["config"]["seed"] == 0]
    with pytest.raises(ls.UserError, match=r"runs of alone.* got 1 missing"):
        verified([Case(TOY, [CLAIM], rows), Case(START_ALONE, [LEVEL], some)], 1, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_rows_of_fresh_seeds_are_published_beside_the_presets(rows, tmp_path) -> None:
    verified([Case(TOY, [CLAIM], rows)], 2, tmp_path)
    published = list(read_rows(file_of(FRESH, tmp_path)).rows())
    of: dict[int, list[tuple[str, float]]] = {2: [], 3: []}
    for one in (r["config"] for r in published):
        of[one["seed"]].append((one["method"], one["lr"] or 0.0))
    assert sorted(of[3]) == [("magnitude", 0.2), ("none", 0.0), ("random", 0.1)]
    assert sorted(of[2]) == [
        *(("magnitude", lr) for lr in (0.1, 0.2, 0.4)), ("none", 0.0),
        *(("random", lr) for lr in (0.1, 0.2, 0.4)),
    ]  # fmt: skip
    measured = [key("sharpness", {"examples": 2})]
    assert [list(r["measured"]) for r in published
            if r["config"]["seed"] == 3 and r["config"]["lr"]] == [measured] * 2  # fmt: skip


def test_a_claim_that_nothing_judges_is_refused(tmp_path) -> None:
    hard = Claim(id="d", says="D.", place="p", untestable="no GPU is here")
    with pytest.raises(ls.UserError, match=r"got d, which they do not \(no GPU"):
        verify_theorem(hard, 1, tmp_path)
    assert not verifications(tmp_path)


def test_a_theorem_is_examined_on_instances_of_fresh_seeds(tmp_path) -> None:
    theorem = Claim(id="t", says="T.", place="p", theory="id3-updates")
    done = verify_theorem(theorem, 2, tmp_path)
    assert done.alone == {"seed 1": "holds", "seed 2": "holds"}
    assert list(verify_theorem(theorem, 1, tmp_path).seeds) == [3]


def test_unfinished_runs_have_no_rates_to_keep(rows, tmp_path) -> None:
    some = [r for r in rows if r["config"]["seed"] == 0]
    with pytest.raises(ls.UserError, match="got 3 missing; compute them"):
        verified([Case(TOY, [CLAIM], some)], 1, tmp_path)


@pytest.mark.parametrize("name", sorted({c.artefact for c in CLAIMS if c.artefact}))
def test_fresh_seeds_judge_every_statement_of_a_claim_by_the_same_arms(name: str) -> None:
    one, world_ = artefacts()[name], World()
    preset = "local" if "local" in one.presets else "smoke"
    rows = rows_in(world_, one.of(preset))
    again = repeated(runs(rows, one.of(preset)), range(5, 10))
    old = one.records(rows, one.of(preset))
    new = one.records(rows_in(world_, again), again)
    assert {r["arm"] for r in new} == {r["arm"] for r in old}
    asked = {s for c in CLAIMS if c.artefact == name for s in c.statements}
    before, after = one.findings(old), one.findings(new)
    for short in asked:
        assert (before[short].estimate is None) == (after[short].estimate is None), short
