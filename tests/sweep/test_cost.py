"""What a sweep would cost, against times that were written by hand."""

from __future__ import annotations

import pytest
from formula_runs import peak, row, rows_of

from landscape.folders import device_name
from landscape.models import PACKAGED
from landscape.sweep import cost
from landscape.sweep.config import RunConfig
from landscape.sweep.cost import TOKENS, estimate, work
from landscape.sweep.grid import Grid
from landscape.sweep.rates import Rates

SIZES = {"model": "minilm-l6", "epochs": 2, "num_train": 100, "num_dev": 50, "num_test": 60}
GRID = Grid(SIZES | {"lr": 0.1}, {"ratio": [1e-2, 1e-3], "seed": [0, 1]})
#: of examples: two epochs of three passes and an evaluation on dev, and one on test
WORK = 2 * (3 * 100 + 50) + 60


@pytest.fixture(autouse=True)
def speed(monkeypatch) -> None:
    monkeypatch.setattr(cost, "measured_speed", lambda: 1e9)


def timed(
    config: RunConfig, seconds: float | None, threads: int = 1, device: str = device_name()
) -> dict:
    made = row(config)
    made["outcome"]["seconds"] = seconds
    return made | {"provenance": {"threads": threads, "device": device}}


def test_runs_like_finished_ones_take_their_median_time() -> None:
    """Others: the same but for ratio, rate, mask and seed; one had two threads."""
    like = RunConfig(**SIZES, lr=3.0, ratio=0.5, seed=8, mask_seed=9)
    others = [timed(like.replace(seed=s), t) for s, t in enumerate((10.0, 30.0, 500.0))]
    others[1]["outcome"]["seconds"], others[1]["provenance"]["threads"] = 15.0, 2
    found = estimate([GRID], {}, others)
    assert (found.known, found.finished, found.most, found.seconds) == (4, 0, 4, 120.0)
    assert found.most_seconds == 120.0
    assert found.basis == ("4 runs as finished ones like them took",)


def test_other_runs_of_the_model_and_task_give_the_pace() -> None:
    like = RunConfig(**SIZES | {"num_train": 10, "epochs": 1}, lr=1.0, method="bitfit")
    found = estimate([GRID], {}, [timed(like, 14.0)])
    assert work(like) == 3 * 10 + 50 + 60
    assert found.seconds == pytest.approx(4 * 14.0 / 140 * WORK)
    assert "by the examples seen" in found.basis[0]


def test_what_was_never_run_takes_its_operations_at_the_speed_of_this_machine() -> None:
    found = estimate([GRID], {}, [timed(RunConfig(**SIZES, task="sst2"), 1.0)])
    one = 2 * PACKAGED["minilm-l6"].parameters * TOKENS * WORK / 1e9
    assert found.seconds == pytest.approx(4 * one)
    assert (
        "at 64 tokens an example (short texts take a fraction) and the 1 GFLOP/s" in found.basis[0]
    )


def test_a_model_of_which_nothing_is_known_has_no_estimate() -> None:
    found = estimate([Grid({"model": "somewhere/model", "lr": 0.1, "count": 9})], {}, [])
    assert (found.known, found.seconds, found.most_seconds) == (1, None, None)
    said = f"on rotten_tomatoes at a time that is unknown: no such is finished on {device_name()}"
    assert said in found.basis[0]


def test_a_gpus_runs_tell_nothing_of_a_processors_nor_the_other_way_round() -> None:
    like = RunConfig(**SIZES, lr=3.0, ratio=0.5)
    others = [timed(like, 900.0, threads=2), timed(like.replace(seed=1), 9.0, 2, "cuda")]
    here, there = (estimate([GRID], {}, others, device) for device in (None, "cuda"))
    assert (here.seconds, here.device) == (4 * 1800.0, device_name())
    assert (there.seconds, there.device) == (4 * 9.0, "cuda")  # no GPU is here to have a name
    for found in (here, there):
        assert found.basis[-1] == "1 finished run of other devices tell nothing"
    unknown = estimate([GRID], {}, others[:1], "cuda")
    assert (unknown.seconds, unknown.most_seconds) == (None, None)
    assert "4 runs of minilm-l6 on rotten_tomatoes at a time that is unknown" in unknown.basis[0]


def test_the_time_of_a_run_that_is_not_known_says_nothing() -> None:
    found = estimate([GRID], {}, [timed(RunConfig(**SIZES, lr=1.0), None)])
    assert "GFLOP/s" in found.basis[0]


def test_finished_runs_cost_nothing_and_further_ones_as_much_as_the_known() -> None:
    grid = Grid(SIZES | {"ratio": 1e-3}, {"seed": [0, 1, 2]}, Rates((1e-2, 1e-1)), {"trace": {}})
    tried = [RunConfig(**SIZES, ratio=1e-3, lr=lr) for lr in (1e-2, 1e-1)]
    rows = rows_of(tried[:1], peak)
    found = estimate([grid], rows, [timed(tried[0], 7.0)])
    # two rates, of which one is finished; two beyond, and two further seeds
    assert (found.known, found.finished, found.most) == (2, 1, 6)
    assert (found.seconds, found.most_seconds) == (7.0, 35.0)
    assert found.basis == (
        "1 run as finished ones like them took", "measurements are not counted",
    )  # fmt: skip


def test_evaluating_the_pretrained_model_trains_nothing() -> None:
    assert work(RunConfig(method="none", num_dev=10, num_test=20)) == 30


def test_the_speed_of_this_machine_is_a_speed_and_its_threads_stay(monkeypatch) -> None:
    import torch

    monkeypatch.undo()
    before = torch.get_num_threads()
    assert 1e7 < cost.measured_speed(64) < 1e13
    assert torch.get_num_threads() == before
