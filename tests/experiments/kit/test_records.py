"""Records: the run at the rate that dev chose with the first seed, flat, in the grids' order."""

from __future__ import annotations

from made_rows import made, row

from experiments.kit.records import matching, record, rows_of, runs
from landscape.sweep import Grid, Rates, RunConfig
from landscape.sweep.measurements import key

SHARED = {"num_train": 8}
GRID = Grid(
    SHARED, {"ratio": [1e-2, 1e-3], "seed": [4, 7]}, Rates((0.1, 0.2, 0.3), widen=0),
    measure={"sharpness": {"examples": 2}},
)  # fmt: skip


def world(config: RunConfig) -> dict:
    """Dev of seed 4 likes 0.2, that of seed 7 would like 0.3."""
    best = 0.2 if config.seed == 4 else 0.3
    lr = config.lr or 0.0
    return {
        "dev": 1 - abs(lr - best), "test": lr, "ratio": 0.5,
        "sharpness": {"sharpness_before": 3.0, "converged_before": True},
    }  # fmt: skip


def test_every_seed_has_the_run_at_the_rate_that_is_best_on_dev_of_the_first() -> None:
    found = [record(run) for run in runs(made([GRID], world), [GRID])]
    assert [(r["ratio"], r["seed"], r["lr"]) for r in found] == [
        (1e-2, 4, 0.2), (1e-2, 7, 0.2), (1e-3, 4, 0.2), (1e-3, 7, 0.2),
    ]  # fmt: skip
    assert found[0]["test"] == 0.2
    assert found[0]["tried"] == (0.1, 0.2, 0.3)
    assert found[0]["edge"] == ""


def test_records_are_in_the_grids_order_whatever_the_order_of_the_rows() -> None:
    rows = made([GRID], world)
    assert [r.config for r in runs(rows[::-1], [GRID])] == [r.config for r in runs(rows, [GRID])]


def test_a_record_has_what_was_measured_with_the_grids_own_options_alone() -> None:
    rows = made([GRID], world)
    first = next(run for run in runs(rows, [GRID]) if run.config.seed == 4)
    assert record(first)["sharpness_before"] == 3.0
    assert record(first)["sharpness_converged_before"] is True
    other = Grid(SHARED, dict(GRID.axes), GRID.rates, measure={"sharpness": {"examples": 4}})
    assert "sharpness_before" not in record(runs(rows, [other])[0])


def test_a_run_that_several_grids_have_is_one_record_with_the_measurements_of_both() -> None:
    plain = Grid(SHARED, dict(GRID.axes), GRID.rates)
    given = Grid(SHARED | {"lr": 0.2, "ratio": 1e-2}, {"seed": [4, 7]})  # no choice of dev's
    more = Grid(SHARED, dict(GRID.axes), GRID.rates, measure={"sharpness": {"examples": 4}})
    rows = made([GRID, more], world)
    alone = [record(run) for run in runs(rows, [GRID])]
    for several in ([GRID, plain], [plain, GRID], [GRID, GRID]):
        assert [record(run) for run in runs(rows, several)] == alone
    assert len(runs(rows, [GRID, given])) == 4 + 2
    assert len(runs(rows, [GRID, more])) == 4 + 4  # measured otherwise
    assert len(runs([], [GRID, plain])) == 4


def test_a_record_says_whether_its_rates_were_over_the_ratio() -> None:
    over = Grid(SHARED, dict(GRID.axes), Rates((1e-4, 2e-4), over_ratio=True, widen=0))
    given = Grid(SHARED | {"lr": 0.2, "ratio": 1e-2}, {"seed": [4]})
    found = [record(runs(made([grid], world), [grid])[0]) for grid in (GRID, over, given)]
    assert [r["scaled"] for r in found] == [False, True, False]


def test_the_ratio_is_the_grids_and_the_one_achieved_has_its_own_name() -> None:
    found = record(runs(made([GRID], world), [GRID])[0])
    assert (found["ratio"], found["trainable_ratio"]) == (1e-2, 0.5)


def test_a_record_says_which_device_computed_it() -> None:
    grid = Grid({**SHARED, "method": "none"}, {})
    found = row(next(iter(grid.cells())), {"dev": 0.5})
    found["provenance"]["device"] = "an abacus"
    (run,) = runs([found], [grid])
    assert record(run)["device"] == "an abacus"


def test_a_run_that_is_missing_is_listed_without_a_row() -> None:
    rows = [r for r in made([GRID], world) if r["config"]["seed"] == 4]
    assert [run.row is None for run in runs(rows, [GRID])] == [False, True] * 2
    none = runs([], [GRID])
    assert len(none) == 4
    assert all(run.row is None for run in none)


def test_the_rows_of_a_grid_are_its_own_with_the_rates_not_chosen() -> None:
    rows = made([GRID], world)
    strange = row(RunConfig(num_train=9, lr=0.1, ratio=1e-2), {"test": 0.1})
    assert len(rows_of([*rows, strange], [GRID])) == len(rows) == 2 * (3 + 1)


def test_runs_of_the_pretrained_model_are_at_no_rate() -> None:
    grid = Grid({"method": "none"}, {"seed": [0, 1]})
    found = [record(run) for run in runs(made([grid], world), [grid])]
    assert [(r["arm"], r["lr"], r["seed"]) for r in found] == [("none", None, 0), ("none", None, 1)]


def test_a_coordinate_that_a_run_lacks_matches_any_value() -> None:
    lora, mask, other = {"ratio": None, "a": 1}, {"ratio": 1e-3, "a": 1}, {"ratio": 1e-2, "a": 2}
    assert matching([lora, mask, other], {"ratio": 1e-3}) == [lora, mask]
    assert matching([lora, mask, other], {"ratio": (1e-2, 1e-3), "a": 2}) == [other]


def test_the_key_of_a_measurement_is_the_stores() -> None:
    (run, *_) = runs(made([GRID], world), [GRID])
    assert run.row is not None
    assert list(run.row["measured"]) == [key("sharpness", {"examples": 2})]
