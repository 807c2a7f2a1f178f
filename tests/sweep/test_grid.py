"""Grids: what they are made of, and what is refused before anything runs."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.sweep.config import RunConfig
from landscape.sweep.grid import Grid
from landscape.sweep.gridfile import grids_of, read_grids
from landscape.sweep.rates import Rates


def test_cells_are_the_product_of_the_axes_with_the_last_one_fastest() -> None:
    grid = Grid({"lr": 0.1}, {"ratio": [1e-2, 1e-3], "seed": [0, 1, 2]})
    expected = list(itertools.product([1e-2, 1e-3], [0, 1, 2]))
    assert [(c.ratio, c.seed) for c in grid.cells()] == expected
    assert {c.lr for c in grid.cells()} == {0.1}


def test_joined_axes_move_together() -> None:
    grid = Grid({}, {"method+lr+ratio": [("random", 0.1, 1e-3), ("bitfit", 0.2, None)]})
    assert [(c.method, c.lr, c.ratio) for c in grid.cells()] == [
        ("random", 0.1, 1e-3), ("bitfit", 0.2, None),
    ]  # fmt: skip


def test_one_run_has_one_address_however_its_values_are_written() -> None:
    plain = RunConfig(
        method="lora", lr=0.001, count=30, options={"alpha": 2, "rank": 8}, targets=("a", "b"),
        settings={"betas": [0.9, 0.99]}, seed=3,
    )  # fmt: skip
    other = RunConfig(
        settings={"betas": (0.9, np.float64(0.99))}, lr=np.float64(1e-3), count=np.int64(30),
        options={"rank": np.int64(8), "alpha": 2}, targets=["a", "b"], seed=np.int32(3),
        mask_seed=3, method="lora",
    )  # fmt: skip
    assert other.address == plain.address == RunConfig.of(json.loads(json.dumps(
        other.as_dict()))).address  # fmt: skip
    assert plain.replace(targets=("b", "a")).address != plain.address


@pytest.mark.parametrize("value", [math.inf, math.nan, torch.optim.SGD, [1.0, -math.inf], {1j}])
def test_what_a_file_cannot_hold_is_no_setting_of_a_run(value: object) -> None:
    for name in ("settings", "options"):
        with pytest.raises(ls.UserError, match=f"for the entry limit of {name}, got"):
            RunConfig(**{name: {"limit": value}})


def test_a_grid_without_axes_is_one_run() -> None:
    assert list(Grid({"lr": 0.1, "seed": 3}).cells()) == [RunConfig(lr=0.1, seed=3)]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"axes": {"ration": [0.1]}}, ["'ration'", "did you mean ratio?"]),
        ({"shared": {"sede": 1}}, ["'sede'", "did you mean seed?"]),
        ({"axes": {"zzz": [1]}}, ["'zzz'", "check the spelling"]),
        ({"axes": {"lr+raito": [(1, 1)]}}, ["'raito'", "did you mean ratio?"]),
        ({"axes": {"seed": []}}, ["the axis seed", "got none"]),
        ({"axes": {"seed": [0, 1, 0]}}, ["the axis seed", "got 0 twice"]),
        ({"axes": {"seed": "012"}}, ["the axis seed", "'012'"]),
        ({"axes": {"seed": 3}}, ["the axis seed", "got 3"]),
        ({"axes": {"ratio": [1e-3, 2]}}, ["ratio", "got 2"]),
        ({"axes": {"ratio": [1e-3, "much"]}}, ["ratio", "'much'"]),
        ({"axes": {"epochs": [1.5]}}, ["epochs", "got 1.5"]),
        ({"axes": {"model": [3]}}, ["model", "got 3"]),
        ({"axes": {"options": [3]}}, ["options", "got 3"]),
        ({"axes": {"settings": [["a"]]}}, ["settings", "['a']"]),
        ({"axes": {"targets": [[3]]}}, ["targets", "got 3"]),
        ({"axes": {"count": [0]}}, ["count", "got 0"]),
        ({"axes": {"method": ["random", "lora", "lorra"]}}, ["method", "did you mean lora?"]),
        ({"shared": {"task": "sst"}}, ["task", "did you mean sst2?"]),
        ({"axes": {"schedule": ["", "repaet"]}}, ["schedule", "did you mean repeat?"]),
        ({"axes": {"head": ["none"]}}, ["head", "'none'"]),
        ({"shared": {"lr": -1}}, ["lr", "got -1"]),
        ({"shared": {"lr": 1}, "axes": {"lr": [1]}}, ["lr twice"]),
        ({"axes": {"lr": [1], "lr+seed": [(1, 2)]}}, ["lr twice"]),
        ({"axes": {"seed+seed": [(1, 2)]}}, ["seed twice"]),
        ({"axes": {"lr+seed": [(1, 2), 3]}}, ["the axis lr+seed", "2 parts", "got 3"]),
        ({"axes": {"lr+seed": [(1, 2, 3)]}}, ["the axis lr+seed", "2 parts", "(1, 2, 3)"]),
        ({"axes": {"lr+seed": ["12"]}}, ["the axis lr+seed", "2 parts", "'12'"]),
        ({"axes": [1]}, ["axes", "[1]"]),
        ({"shared": [1]}, ["shared", "[1]"]),
        ({"rates": 0.1}, ["rates", "got 0.1"]),
        ({"shared": {"lr": 0.1}, "rates": {"tried": [0.1, 1.0]}}, ["got both, lr and rates"]),
        ({"axes": {"lr": [0.1]}, "rates": {"tried": [0.1, 1.0]}}, ["got both, lr and rates"]),
        ({"axes": {"method+lr": [["snip", 1.0]]}, "rates": {"tried": [0.1]}}, ["lr and rates"]),
        ({"measure": {"sharpness": 3}}, ["the options of sharpness", "got 3"]),
        ({"measure": {"sharpnes": {}}}, ["'sharpnes'", "did you mean sharpness?"]),
        ({"measure": "sharpnes"}, ["'sharpnes'", "did you mean sharpness?"]),
        (
            {"measure": {"sharpness": {"max_matvec": 9}}},
            [
                "an option of sharpness among examples, batch_size, tol, max_matvecs",
                "did you mean max_matvecs?",
            ],
        ),
        ({"measure": {"trace": {"tol": 0.1}}}, ["an option of trace", "got 'tol'"]),
        ({"measure": {"tracking": {"k": 1}}}, ["an option of tracking", "got 'k'"]),
        ({"measure": {"preconditioned": {"every": 1}}}, ["preconditioned", "got 'every'"]),
        ({"rates": {"tried": []}}, ["learning rates", "got none"]),
        ({"rates": {}}, ["tried", "got none"]),
        ({"rates": {"tried": [0.1, 0.1]}}, ["learning rates", "one twice"]),
        ({"rates": {"tried": [0.0]}}, ["tried", "above 0", "got 0"]),
        ({"rates": {"tried": [2.0]}}, ["tried", "at most 1", "got 2"]),
        ({"rates": {"tried": 0.1}}, ["tried", "got 0.1"]),
        ({"rates": {"tried": [0.1], "widne": 1}}, ["'widne'", "did you mean widen?"]),
        ({"rates": {"tried": [0.1], "widen": -1}}, ["widen", "got -1"]),
        ({"rates": {"tried": [0.1], "most": 0}}, ["most to be", "got 0;"]),
        ({"rates": {"tried": [0.1], "over_ratio": 1}}, ["over_ratio", "got 1"]),
        ({"rates": {"tried": [0.1], "every_seed": 1}}, ["every_seed", "got 1"]),
        ({"axis": {"seed": [1]}}, ["'axis'", "did you mean axes?"]),
    ],
    ids=str,
)
def test_a_grid_that_cannot_be_is_refused_with_its_axis_and_value(parts, words) -> None:
    with pytest.raises(ls.UserError) as said:
        Grid.of(parts)
    for word in words:
        assert word in str(said.value)


def test_names_of_measurements_alone_have_no_options() -> None:
    assert Grid.of({"measure": ["sharpness", "trace"]}).measure == {"sharpness": {}, "trace": {}}
    assert Grid.of({"measure": "sharpness"}).measure == {"sharpness": {}}


def test_rates_over_the_ratio_are_clipped_and_have_three_digits() -> None:
    rates = Rates((1e-5, 1e-6, 1e-4), over_ratio=True, most=0.5)
    assert rates.start(1e-2) == (1e-4, 1e-3, 1e-2)
    assert rates.start(3e-4) == (0.00333, 0.0333, 0.333)
    assert rates.start(1e-5) == (0.1, 0.5)
    assert Rates((0.3, 0.1)).start(None) == (0.1, 0.3)


def test_a_rate_beyond_is_one_step_of_the_grid_at_the_edge_of_the_best() -> None:
    rates = Rates((0.01, 0.02, 0.2), most=1.0)
    tried = (0.01, 0.02, 0.2)
    assert rates.beyond(tried, 0.2) == 1.0  # a step of 10, but at most 1
    assert rates.beyond(tried, 0.01) == 0.005  # a step of 2
    assert rates.beyond(tried, 0.02) is None
    assert rates.beyond((*tried, 1.0), 1.0) is None
    assert Rates((0.1,)).beyond((0.1,), 0.1) is None


def test_rates_over_the_ratio_of_a_run_without_one_are_refused() -> None:
    with pytest.raises(ls.UserError, match="a ratio of every run"):
        Rates((1e-6,), over_ratio=True).start(None)


def test_a_toml_file_holds_one_grid_or_several_that_share_what_stands_outside(tmp_path) -> None:
    one = tmp_path / "one.toml"
    one.write_text('shared = {task = "sst2", lr = 1e-3}\naxes = {seed = [0, 1]}\n')
    assert read_grids(one) == [Grid({"task": "sst2", "lr": 1e-3}, {"seed": [0, 1]})]
    several = tmp_path / "several.toml"
    several.write_text("""
        measure = {sharpness = {examples = 1}}
        shared = {task = "sst2", lr = 1e-3}
        axes = {seed = [0, 1]}
        [[grid]]
        axes = {ratio = [1e-2]}
        [[grid]]
        shared = {method = "bitfit", lr = 1e-4}
        [[grid]]
        axes = {seed = [5]}
    """)
    shared, measure = {"task": "sst2", "lr": 1e-3}, {"sharpness": {"examples": 1}}
    assert read_grids(several) == [
        Grid(shared, {"seed": [0, 1], "ratio": [1e-2]}, measure=measure),
        Grid(shared | {"method": "bitfit", "lr": 1e-4}, {"seed": [0, 1]}, measure=measure),
        Grid(shared, {"seed": [5]}, measure=measure),
    ]


def test_a_json_file_and_plain_values_are_the_same_grids(tmp_path) -> None:
    plain = {"shared": {"ratio": 1e-3}, "axes": {"targets": [["a", "b"], ["c"]]},
             "rates": {"tried": [1e-6, 1e-5], "over_ratio": True}}  # fmt: skip
    path = tmp_path / "grid.json"
    path.write_text(json.dumps({"grid": [plain, plain]}))
    grid = Grid({"ratio": 1e-3}, {"targets": [["a", "b"], ["c"]]},
                Rates((1e-6, 1e-5), over_ratio=True))  # fmt: skip
    assert grids_of(path) == [grid, grid]
    assert grids_of(plain) == grids_of([grid]) == grids_of(grid) == [grid]
    assert [c.targets for c in grid.cells()] == [("a", "b"), ("c",)]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("g.toml", "axes = {seed = [0", ["TOML", "g.toml"]),
        ("g.toml", "axes = {sede = [0]}", ["g.toml", "'sede'", "did you mean seed?"]),
        ("g.toml", "grid = []", ["g.toml", "got none"]),
        ("g.toml", "grid = 3", ["g.toml", "got 3"]),
        ("g.toml", "grid = [3]", ["g.toml", "got 3"]),
        ("g.json", "[1]", ["g.json", "got a list"]),
        ("g.yaml", "", ["TOML or JSON", "g.yaml"]),
        ("g.toml", None, ["g.toml", "No such file"]),
    ],
)
def test_a_file_that_holds_no_grids_is_refused_by_its_name(tmp_path, name, text, words) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ls.UserError) as said:
        read_grids(tmp_path / name)
    for word in words:
        assert word in str(said.value)


def test_no_grid_at_all_is_refused() -> None:
    with pytest.raises(ls.UserError, match="expected a grid, got none"):
        grids_of([])
