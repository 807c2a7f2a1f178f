"""The plan of a sweep: what is needed follows from grids and finished rows alone."""

from __future__ import annotations

import dataclasses
import math

import pytest
from formula_runs import peak, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

import landscape as ls
from landscape.sweep.config import RunConfig
from landscape.sweep.executors import Job
from landscape.sweep.grid import Grid
from landscape.sweep.plan import Choice, at_most, chosen, wanted
from landscape.sweep.rates import Rates
from landscape.tasks.metrics import METRICS

R = {"ratio": 1e-3}
RATES = Rates((1e-2, 1e-1), most=1e3, widen=2)


def runs(jobs: list[Job]) -> list[tuple]:
    return [(job.config.lr, job.config.seed) for job in jobs]


def finished(grids, dev=peak) -> dict[str, dict]:
    """All rows that grids need, computed round by round."""
    rows: dict[str, dict] = {}
    while True:
        new = [j.config for j in wanted(grids, rows) if j.config.address not in rows]
        if not new:
            return rows
        rows |= rows_of(new, dev)


def by_rate(values: dict[float, tuple[float, float] | None]):
    return lambda config: values[config.lr]


def test_runs_whose_rate_is_given_are_all_known_at_once() -> None:
    grid = Grid({"lr": 0.1, "ratio": 1e-3}, {"seed": [0, 1]}, measure={"sharpness": {}})
    assert wanted(grid, {}) == [
        Job(RunConfig(lr=0.1, ratio=1e-3, seed=seed), {"sharpness": {}}) for seed in (0, 1)
    ]
    assert chosen(grid, {}) == [Choice(tuple(job.config for job in wanted(grid, {})))]


def test_a_run_without_a_rate_is_refused_unless_nothing_is_trained() -> None:
    with pytest.raises(ls.UserError, match="expected a learning rate for every run, got none"):
        wanted(Grid({"ratio": 1e-3}), {})
    assert wanted(Grid({"method": "none"}), {}) == [Job(RunConfig(method="none"))]
    assert wanted(Grid({"method": "none"}, rates=RATES), {}) == [Job(RunConfig(method="none"))]


@pytest.mark.parametrize("method", ["random", "structured", "snip"])
def test_a_mask_has_one_of_ratio_and_count_and_a_baseline_needs_neither(method) -> None:
    for size, got in (({}, "neither"), ({"ratio": 0.1, "count": 3}, "both")):
        with pytest.raises(ls.UserError, match=f"ratio or count, .* got {got} for method {method}"):
            wanted(Grid({"lr": 0.1, "method": method} | size), {})
    assert len(wanted(Grid({"lr": 0.1, "method": method, "count": 3}), {})) == 1
    assert len(wanted(Grid({"lr": 0.1}, {"method": ["full", "bitfit", "none"]}), {})) == 3


def test_every_rate_is_tried_with_the_first_seed_and_the_others_have_the_best() -> None:
    grid = Grid(R, {"seed": [3, 4, 5]}, Rates((0.01, 0.1, 1.0)), {"sharpness": {}})
    first = wanted(grid, {})
    assert runs(first) == [(0.01, 3), (0.1, 3), (1.0, 3)]
    assert not any(job.measure for job in first)
    assert chosen(grid, {}) == []
    dev = by_rate({0.01: (0.7, 1.0), 0.1: (0.8, 1.0), 1.0: (0.6, 1.0)})
    rows = rows_of([job.config for job in first], dev)
    then = wanted(grid, rows)
    assert runs(then) == [*runs(first), (0.1, 4), (0.1, 5)]
    assert [bool(job.measure) for job in then] == [False, True, False, True, True]
    (choice,) = chosen(grid, rows)
    assert (choice.lr, choice.tried, choice.edge) == (0.1, (0.01, 0.1, 1.0), "")
    assert [run.seed for run in choice.runs] == [3, 4, 5]


def test_nothing_more_is_known_until_every_rate_is_finished() -> None:
    grid = Grid(R, {"seed": [0, 1]}, Rates((0.01, 0.1, 1.0)))
    first = wanted(grid, {})
    for left_out in first:
        rows = rows_of([job.config for job in first if job != left_out])
        assert wanted(grid, rows) == first


@pytest.mark.parametrize(
    ("values", "tried", "best", "edge"),
    [
        # accuracy, loss on dev by rate; the step of the grid is 10
        ({1e-2: (.8, 1), 1e-1: (.7, 1), 1e-3: (.7, 1)}, (1e-3, 1e-2, 1e-1), 1e-2, ""),
        ({1e-2: (.8, 1), 1e-1: (.7, 1), 1e-3: (.9, 1), 1e-4: (.7, 1)},
         (1e-4, 1e-3, 1e-2, 1e-1), 1e-3, ""),
        ({1e-2: (.8, 1), 1e-1: (.7, 1), 1e-3: (.9, 1), 1e-4: (.95, 1)},
         (1e-4, 1e-3, 1e-2, 1e-1), 1e-4, "lowest"),
        ({1e-2: (.7, 1), 1e-1: (.8, 1), 1.0: (.9, 1), 10.0: (.95, 1)},
         (1e-2, 1e-1, 1.0, 10.0), 10.0, "highest"),
        # a diverged run is the worst, whatever dev said at its start
        ({1e-2: (.6, 1), 1e-1: None, 1e-3: (.5, 1)}, (1e-3, 1e-2, 1e-1), 1e-2, ""),
        # ties go to the lower loss, then to the smaller rate
        ({1e-2: (.8, 1), 1e-1: (.8, .9), 1.0: (.7, 1)}, (1e-2, 1e-1, 1.0), 1e-1, ""),
        ({1e-2: (.8, 1), 1e-1: (.8, 1), 1e-3: (.7, 1)}, (1e-3, 1e-2, 1e-1), 1e-2, ""),
        # all diverged: the smaller, ever smaller
        ({1e-2: None, 1e-1: None, 1e-3: None, 1e-4: None},
         (1e-4, 1e-3, 1e-2, 1e-1), 1e-4, "lowest"),
    ],
)  # fmt: skip
def test_a_search_widens_while_the_best_lies_on_its_edge(values, tried, best, edge) -> None:
    grid = Grid(R, {"seed": [0, 1]}, RATES)
    rows = finished(grid, by_rate(values))
    (choice,) = chosen(grid, rows)
    assert (choice.tried, choice.lr, choice.edge) == (tried, best, edge)
    assert runs(wanted(grid, rows)) == [*((rate, 0) for rate in tried), (best, 1)]


def test_a_search_stops_below_the_largest_rate() -> None:
    grid = Grid(R, {}, Rates((0.02, 0.2), most=0.5, widen=9))
    rows = finished(grid, lambda config: (config.lr, 1.0))
    (choice,) = chosen(grid, rows)
    assert (choice.tried, choice.edge) == ((0.02, 0.2, 0.5), "highest")


def test_one_rate_alone_is_not_widened_and_said_to_be_the_only_one() -> None:
    grid = Grid(R, {"seed": [0, 1]}, Rates((0.1,), widen=5))
    (choice,) = chosen(grid, finished(grid))
    assert (choice.tried, choice.edge) == ((0.1,), "only")
    assert at_most(grid, {}) == 2


def test_rates_without_widening_are_those_that_were_given() -> None:
    grid = Grid(R, {}, Rates((0.01, 0.1), widen=0))
    assert runs(wanted(grid, finished(grid))) == [(0.01, 0), (0.1, 0)]


def test_a_metric_of_which_less_is_better_is_minimised(monkeypatch) -> None:
    falling = dataclasses.replace(METRICS["accuracy"], larger_is_better=False)
    monkeypatch.setitem(METRICS, "mse", falling)
    grid = Grid(R, {}, Rates((0.01, 0.1, 1.0)))
    rows = finished(grid, by_rate({0.01: (3.0, 1), 0.1: (2.0, 1), 1.0: (4.0, 1)}))
    for found in rows.values():
        found["outcome"]["metric"] = "mse"
        found["outcome"]["dev"]["mse"] = found["outcome"]["dev"].pop("accuracy")
    assert chosen(grid, rows)[0].lr == 0.1


def test_a_dev_value_that_is_not_finite_is_worse_than_any_and_better_than_divergence() -> None:
    grid = Grid(R, {}, Rates((0.01, 0.1, 1.0)))
    values = {0.01: None, 0.1: (None, None), 1.0: None}
    assert chosen(grid, finished(grid, by_rate(values)))[0].lr == 0.1
    values = {0.01: (0.1, 1.0), 0.1: (0.2, 9.0), 1.0: (None, 0.0)}
    assert chosen(grid, finished(grid, by_rate(values)))[0].lr == 0.1


def test_a_rate_is_not_chosen_without_dev_examples() -> None:
    grid = Grid(R, {}, Rates((0.1, 0.2)))
    rows = finished(grid)
    for found in rows.values():
        found["outcome"]["dev"] = None
    with pytest.raises(ls.UserError, match="expected dev examples"):
        wanted(grid, rows)


def test_each_mask_and_seed_of_a_cell_has_the_rate_of_the_first() -> None:
    grid = Grid(R, {"seed": [0, 1], "mask_seed": [0, 1]}, Rates((0.01, 0.1, 1.0)))
    (choice,) = chosen(grid, finished(grid))
    # a mask's seed that is the run's seed is None
    expected = [(0, None), (0, 1), (1, 0), (1, None)]
    assert [(run.seed, run.mask_seed) for run in choice.runs] == expected
    tried = [job.config for job in wanted(grid, {})]
    assert {(run.seed, run.mask_seed) for run in tried} == {(0, None)}


def test_each_seed_chooses_its_own_rate_where_that_is_asked() -> None:
    dev = lambda config: peak(config, at=0.01 if config.seed == 0 else 1.0)  # noqa: E731
    axes = {"seed": [0, 1], "mask_seed": [5, 6]}
    rates = Rates((1e-3, 1e-2, 1e-1, 1.0, 10.0), most=10, every_seed=True)
    grid = Grid({"method": "bitfit"}, axes, rates)
    found = chosen(grid, finished(grid, dev))
    assert [(c.lr, [r.seed for r in c.runs]) for c in found] == [(0.01, [0, 0]), (1.0, [1, 1])]


def test_cells_that_differ_in_anything_but_seeds_choose_for_themselves() -> None:
    grid = Grid({}, {"ratio": [1e-2, 1e-3], "seed": [0, 1]}, Rates((1e-6, 1e-5, 1e-4), True))
    found = chosen(grid, finished(grid))
    assert [(c.runs[0].ratio, c.lr) for c in found] == [(1e-2, 1e-3), (1e-3, 1e-2)]


def test_grids_share_runs_and_each_is_measured_as_both_ask() -> None:
    one = Grid(R | {"lr": 0.1}, {"seed": [0, 1]}, measure={"sharpness": {}})
    two = Grid(R | {"lr": 0.1}, {"seed": [1, 2]}, measure={"trace": {"examples": 3}})
    found = wanted([one, two], {})
    assert [(job.config.seed, dict(job.measure)) for job in found] == [
        (0, {"sharpness": {}}),
        (1, {"sharpness": {}, "trace": {"examples": 3}}),
        (2, {"trace": {"examples": 3}}),
    ]


def test_one_run_that_is_measured_in_two_ways_by_one_name_is_two_jobs() -> None:
    grids = [Grid(R | {"lr": 0.1}, measure={"sharpness": {"examples": k}}) for k in (1, 2, 1)]
    assert [dict(job.measure) for job in wanted(grids, {})] == [
        {"sharpness": {"examples": 1}}, {"sharpness": {"examples": 2}},
    ]  # fmt: skip


def test_a_grid_that_grew_needs_all_that_the_smaller_one_needed() -> None:
    small = Grid({}, {"ratio": [1e-2], "seed": [0, 1]}, Rates((1e-3, 1e-2)))
    large = Grid({}, {"ratio": [1e-2, 1e-3], "seed": [0, 1, 2]}, Rates((1e-4, 1e-3, 1e-2)))
    rows = finished(small)
    needed = {job.config.address for job in wanted(large, rows | finished(large))}
    assert {job.config.address for job in wanted(small, rows)} <= needed


def test_rows_of_other_grids_do_not_change_a_plan() -> None:
    grid = Grid({}, {"ratio": [1e-2, 1e-3], "seed": [0, 1]}, RATES)
    rows = finished(grid)
    strange = rows_of([RunConfig(lr=lr, ratio=1e-2, seed=s) for lr in (3.0, 7.0) for s in (0, 9)])
    assert wanted(grid, rows | strange) == wanted(grid, rows)


def test_no_more_runs_than_said_are_ever_needed() -> None:
    grid = Grid({}, {"ratio": [1e-2, 1e-3], "seed": [0, 1, 2]}, RATES)
    # two rates, two more, two further seeds; for each of two ratios
    assert at_most(grid, {}) == 2 * (2 + 2 + 2)
    for dev in (peak, lambda config: (config.lr, 1.0), lambda config: None):
        rows: dict[str, dict] = {}
        while new := [j.config for j in wanted(grid, rows) if j.config.address not in rows]:
            assert at_most(grid, rows) <= 12
            rows |= rows_of(new[:1], dev)
        assert at_most(grid, rows) == len(rows) <= 12


@settings(max_examples=20, deadline=None)
@given(data=st.data(), at=st.sampled_from([1e-8, 1e-6, 1e-5, 3e-3, 1.0]), widen=st.integers(0, 3))
def test_whatever_order_jobs_finish_in_the_runs_and_the_choices_are_the_same(
    data: st.DataObject, at: float, widen: int
) -> None:
    """Jobs finish in random subsets, as where a sweep is stopped and goes on again and again."""

    def dev(config: RunConfig) -> tuple[float, float] | None:
        value, loss = peak(config, at)
        return None if config.lr > 0.3 else (round(value, 1), math.floor(loss))

    grids = [
        Grid({}, {"ratio": [1e-2, 1e-3], "seed": [0, 1]}, Rates((1e-6, 1e-5), True, widen=widen)),
        Grid({"ratio": 1e-3}, {"seed": [0, 1, 2], "lr": [1e-3, 1e-2]}),
        Grid({"method": "bitfit"}, {"seed": [1, 0]}, Rates((1e-3, 1e-2), widen=widen)),
    ]
    rows: dict[str, dict] = {}
    while new := [j.config for j in wanted(grids, rows) if j.config.address not in rows]:
        some = data.draw(st.lists(st.sampled_from(new), min_size=1, unique_by=lambda c: c.address))
        rows |= rows_of(some, dev)
    expected = finished(grids, dev)
    assert rows == expected
    assert list(map(str, wanted(grids, rows))) == list(map(str, wanted(grids, expected)))
    assert chosen(grids, rows) == chosen(grids, expected)


def test_a_rate_without_a_rival_is_measured_in_the_first_training() -> None:
    grid = Grid(R, {"seed": (0, 1)}, Rates((0.1,)), {"sharpness": {"tol": 0.1}})
    assert [dict(job.measure) for job in wanted(grid, {})] == [{"sharpness": {"tol": 0.1}}] * 2
    rivals = Grid(R, {"seed": (0, 1)}, Rates((0.1, 0.2)), {"sharpness": {"tol": 0.1}})
    assert [dict(job.measure) for job in wanted(rivals, {})] == [{}, {}]
