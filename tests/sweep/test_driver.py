"""The driver of a sweep: each run once, whatever stops it, and failures told at the end."""

from __future__ import annotations

import io
import itertools
import json
import multiprocessing
import random
import time
from pathlib import Path

import pytest
from formula_runs import ByFormula, peak
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from tiny_jobs import Tiny, lasting

import landscape as ls
from landscape.cli import main
from landscape.sweep.driver import executor_of, sweep
from landscape.sweep.executors import Event, Job, Places
from landscape.sweep.executors.local import local
from landscape.sweep.executors.packed import packed
from landscape.sweep.grid import Grid
from landscape.sweep.plan import chosen
from landscape.sweep.progress import Counts, Progress, duration
from landscape.sweep.rates import Rates

R = {"ratio": 1e-3}
FIXED = Grid({"lr": 0.1}, {"ratio": [1e-2, 1e-3], "seed": [0, 1]})
CHOSEN = Grid(
    {}, {"ratio": [1e-2, 1e-3], "seed": [0, 1]}, Rates((1e-7, 1e-6), True), {"sharpness": {}}
)


def run(grid, folder, executor, **options):
    return ls.run_grid(grid, folder, executor=executor, progress=False, **options)


def test_a_grid_comes_back_as_a_frame_in_its_own_order(tmp_path) -> None:
    run(Grid(R | {"lr": 0.2}), tmp_path, ByFormula())  # another grid's, in the same store
    frame = run(FIXED, tmp_path, ByFormula())
    assert list(zip(frame["ratio"], frame["seed"], strict=True)) == [
        (1e-2, 0), (1e-2, 1), (1e-3, 0), (1e-3, 1),
    ]  # fmt: skip
    assert frame["test_accuracy"].tolist() == [peak(c)[0] for c in FIXED.cells()]


def test_finished_runs_are_not_computed_again_and_a_larger_grid_adds_what_is_new(tmp_path) -> None:
    first, again, larger = ByFormula(), ByFormula(), ByFormula()
    run(FIXED, tmp_path, first)
    run(FIXED, tmp_path, again)
    assert (len(first.trained), again.batches) == (4, [])
    run(Grid({"lr": 0.1}, {"ratio": [1e-2, 1e-3], "seed": [0, 1, 2]}), tmp_path, larger)
    assert len(larger.trained) == 2


def test_a_search_is_widened_and_its_best_run_is_measured_and_repeated(tmp_path) -> None:
    executor = ByFormula()
    frame = run(CHOSEN, tmp_path, executor)
    # two rates of each ratio, one beyond, another, and then the second seeds
    assert executor.batches == [4, 2, 2, 4]
    assert len(executor.trained) == len(set(executor.trained)) == 2 * (2 + 2 + 1)
    rows = {row["address"]: row for row in ls.RunStore(tmp_path).rows()}
    found = chosen(CHOSEN, rows)
    assert [(c.lr, c.edge) for c in found] == [(1e-3, ""), (1e-2, "")]
    assert executor.measured == [r.address for c in found for r in c.runs]
    assert len(frame) == 10


def test_two_grids_share_their_runs(tmp_path) -> None:
    executor = ByFormula()
    run([FIXED, Grid({"lr": 0.1, "ratio": 1e-2}, {"seed": [1, 2]})], tmp_path, executor)
    assert len(executor.trained) == len(set(executor.trained)) == 5


def test_one_run_in_two_ways_to_measure_is_never_in_the_same_batch_twice(tmp_path) -> None:
    grids = [Grid(R | {"lr": 0.1}, measure={"sharpness": {"examples": k}}) for k in (1, 2)]
    executor = ByFormula()
    run(grids, tmp_path, executor)
    assert executor.batches == [1, 1]
    assert (len(executor.trained), len(executor.measured)) == (1, 2)


def test_a_measurement_that_is_asked_for_later_trains_nothing(tmp_path) -> None:
    run(FIXED, tmp_path, ByFormula())
    executor = ByFormula()
    run(Grid(FIXED.shared, FIXED.axes, measure={"trace": {}}), tmp_path, executor)
    assert (executor.trained, len(executor.measured)) == ([], 4)


@settings(max_examples=10, deadline=None)
@given(stops=st.lists(st.integers(0, 6), max_size=12))
def test_a_sweep_that_is_stopped_anywhere_ends_as_one_that_is_not(
    stops: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole, parts = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("parts")
    grids = [FIXED, CHOSEN]
    expected = ByFormula()
    run(grids, whole, expected)
    trained, measured = [], []
    for stop in (*stops, None):
        executor = ByFormula() if stop is None else ByFormula(stop=stop)
        try:
            run(grids, parts, executor)
        except KeyboardInterrupt:
            assert stop is not None
        trained += executor.trained
        measured += executor.measured
    assert sorted(trained) == sorted(expected.trained)
    assert sorted(measured) == sorted(expected.measured)
    rows = [
        [{name: row[name] for name in ("config", "outcome", "measured")} for row in store.rows()]
        for store in (ls.RunStore(whole), ls.RunStore(parts))
    ]
    assert rows[0] == rows[1]


def test_failed_runs_are_told_at_the_end_and_the_others_are_kept(tmp_path) -> None:
    bad = list(FIXED.cells())[1]
    with pytest.raises(ls.UserError) as said:
        run(FIXED, tmp_path, ByFormula(refused={bad.address: "expected x, got y; do z"}))
    assert "got 1 that failed" in str(said.value)
    assert f"{bad.address} (ratio 0.01, seed 1): expected x, got y; do z" in str(said.value)
    assert len(ls.runs(tmp_path)) == 3
    assert len(run(FIXED, tmp_path, mended := ByFormula())) == 4
    assert mended.trained == [bad.address]


@pytest.mark.parametrize("measure", [{}, {"sharpness": {}}])
def test_a_run_that_failed_here_and_that_another_process_finished_is_no_failure(
    tmp_path, measure
) -> None:
    grid = Grid({"lr": 0.1, **R}, {"seed": [0, 1]}, measure=measure)
    executor = ByFormula()

    def compute(jobs, store, places, tell) -> None:
        tell(Event("failed", jobs[0], said="RuntimeError: out of memory"))
        executor(jobs, store, places, lambda event: None)  # as that process does

    found = sweep([grid], ls.RunStore(tmp_path), compute, Places(), Progress(False), shared=True)
    assert (found.failed, len(found.rows)) == ({}, 2)


def test_a_run_that_failed_and_was_tried_once_more_is_finished(tmp_path) -> None:
    """As where a worker was killed."""
    again = ByFormula()

    def clumsy(jobs, store, places, tell) -> None:
        tell(Event("failed", jobs[0], said="its process was killed"))
        again(jobs, store, places, tell)

    found = sweep([FIXED], ls.RunStore(tmp_path), clumsy, Places(), progress := Progress(False))
    assert (found.failed, len(found.rows)) == ({}, 4)
    assert progress.counts.row()["failed"] == "0"
    assert progress.counts.here == 4


def test_a_full_disk_ends_a_sweep_at_once_and_it_goes_on_where_it_was(tmp_path) -> None:
    cells = list(FIXED.cells())
    full = f"expected to write {tmp_path}, got: No space left on device; free some space"
    executor = ByFormula(refused={cells[1].address: full}, ends=True)
    with pytest.raises(ls.UserError, match="No space left on device; free some space"):
        run(FIXED, tmp_path, executor)
    assert executor.trained == [cells[0].address]
    run(FIXED, tmp_path, mended := ByFormula())
    assert mended.trained == [cell.address for cell in cells[1:]]


def test_a_cell_whose_search_has_a_failed_run_waits_and_the_others_finish(tmp_path) -> None:
    tried = [cell.replace(lr=1e-5) for cell in CHOSEN.cells()]
    executor = ByFormula(refused={tried[0].address: "expected x, got y; do z"})
    found = sweep([CHOSEN], ls.RunStore(tmp_path), executor, Places(), Progress(False))
    assert list(found.failed) == [tried[0].address]
    assert [c.runs[0].ratio for c in chosen(CHOSEN, found.rows)] == [1e-3]


def test_an_executor_that_does_nothing_is_asked_once_and_told_of(tmp_path) -> None:
    asked = []

    def idle(jobs, store, places, tell) -> None:
        asked.append(len(jobs))

    with pytest.raises(ls.UserError, match="neither finished nor refused"):
        run(FIXED, tmp_path, idle)
    assert asked == [4]


def test_runs_that_diverge_are_results(tmp_path) -> None:
    frame = run(FIXED, tmp_path, ByFormula(dev=lambda config: None))
    assert frame["diverged"].tolist() == [True] * 4


def test_a_damaged_run_is_set_aside_and_run_again(tmp_path, capsys) -> None:
    run(FIXED, tmp_path, ByFormula())
    bad = next(FIXED.cells())
    path = ls.RunStore(tmp_path).path(bad) / "result.json"
    path.write_text(path.read_text().replace("accuracy", "accuracx"))
    executor = ByFormula()
    ls.run_grid(FIXED, tmp_path, executor=executor)
    assert executor.trained == [bad.address]
    assert bad.address in capsys.readouterr().out


def test_two_sweeps_on_one_folder_are_refused(tmp_path) -> None:
    with ls.RunStore(tmp_path).locked(), pytest.raises(ls.UserError, match="no other sweep"):
        run(FIXED, tmp_path, ByFormula())


def test_a_grid_that_cannot_be_leaves_no_folder(tmp_path) -> None:
    with pytest.raises(ls.UserError, match="a learning rate for every run"):
        run(Grid({"ratio": 1e-3}), tmp_path / "new", ByFormula())
    assert not (tmp_path / "new").exists()


def test_an_executor_is_told_where_inputs_lie(tmp_path) -> None:
    executor = ByFormula()
    grid = Grid(FIXED.shared | {"task": "sst2"}, FIXED.axes)
    run(grid, tmp_path, executor, sources={"sst2": "/data"}, device="cuda")
    assert executor.places == Places({"sst2": "/data"}, "cuda")


def test_a_source_of_a_task_that_the_grid_has_not_is_refused(tmp_path) -> None:
    with pytest.raises(ls.UserError, match="among rotten_tomatoes, got 'sst2'"):
        run(FIXED, tmp_path / "new", ByFormula(), sources={"sst2": "/data"})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("slurm", {}, "local, packed, ray"),
        ("local", {"workers": 0}, "got 0"),
        ("local", {"address": "auto"}, "no address with local, got auto"),
        ("local", {"pack": 4}, "no pack with local, got 4; it is of packed"),
        ("ray", {"pack": 4}, "no pack with ray, got 4"),
        ("packed", {"pack": 0}, "expected pack .*at least 1, got 0"),
        ("packed", {"workers": 0}, "got 0"),
    ],
)
def test_an_executor_by_a_wrong_name_or_setting_is_refused(name, options, words) -> None:
    with pytest.raises(ls.UserError, match=words):
        executor_of(name, **options)


def test_an_executor_by_its_name_computes_a_grid(tmp_path) -> None:
    tiny = Tiny.at(tmp_path)
    grid = {"shared": tiny.config(epochs=1).named(), "axes": {"mask_seed": [1, 2]}}
    options = {"sources": tiny.places.sources, "progress": False}
    frame = ls.run_grid(grid, tmp_path / "store", executor="local", **options)
    assert frame["steps"].tolist() == [4, 4]
    assert executor_of("local", workers=2) == local(2)
    assert executor_of("packed", workers=2, pack=32) == packed(32, 2)
    assert executor_of("packed") == packed(8)
    with pytest.raises(ls.UserError, match="no pack with an executor of your own, got 4"):
        ls.run_grid(grid, tmp_path / "store", executor=local(), pack=4, **options)


@pytest.mark.slow
def test_a_sweep_that_is_killed_at_random_has_the_runs_of_a_quiet_one(tmp_path) -> None:
    tiny = Tiny.at(tmp_path)
    shared = tiny.config(epochs=4).named()
    grid = {
        "shared": {name: value for name, value in shared.items() if name not in ("lr", "ratio")},
        "axes": {"ratio": [1e-2, 1e-3], "seed": [0, 1]},
        "rates": {"tried": [1e-6, 1e-5], "over_ratio": True},
        "measure": {"trace": {"examples": 4, "max_matvecs": 4}},
    }
    path, source = tmp_path / "grid.json", f"sst2={tiny.folder / 'SST-2'}"
    path.write_text(json.dumps(grid))
    # a clean process that has loaded all it needs, from which others are forked
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["landscape.sweep.running", "landscape.cli"])

    def compute(folder: Path, seconds: float | None = None) -> int | None:
        line = ["sweep", str(path), "--folder", str(folder), "--source", source]
        process = server.Process(target=main, args=(line,))
        process.start()
        process.join(seconds)
        process.kill()
        process.join()
        return process.exitcode

    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    assert compute(quiet) == 0
    begun = time.monotonic()
    assert compute(tmp_path / "again") == 0
    whole, draw = time.monotonic() - begun, random.Random(0)
    kills = sum(compute(killed, draw.uniform(0.1, 0.4) * whole) != 0 for _ in range(8))
    assert compute(killed) == 0
    rows = [list(map(lasting, ls.RunStore(folder).rows())) for folder in (quiet, killed)]
    assert (len(rows[0]) >= 6, kills >= 3) == (True, True)
    assert rows[0] == rows[1]


def test_a_terminal_shows_one_table_of_what_is_done() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80)
    jobs = [Job(cell) for cell in FIXED.cells()]
    with Progress(console=console) as progress:
        progress.plan(jobs, jobs, 0)
        progress.tell(Event("diverged", jobs[0]))
        progress.tell(Event("step", jobs[1], 1, 2))
    last = written.getvalue().rpartition("sweep")[2]
    assert [
        word for word in ("1 of 4", "diverged", "failed", "time left") if word not in last
    ] == []
    assert jobs[0].config.address not in written.getvalue()


def test_the_time_left_is_that_of_the_runs_left_at_the_pace_so_far() -> None:
    clock = itertools.chain([0.0], itertools.repeat(60.0))
    counts = Counts(known=10, done=3, clock=lambda: next(clock))
    jobs = [Job(cell) for cell in FIXED.cells()]
    assert counts.left is None
    counts.count(Event("finished", jobs[0]))
    counts.count(Event("diverged", jobs[1]))
    counts.count(Event("step", jobs[2], 5, 10))
    # 2.5 runs a minute; 10 known, 3 + 2 done, half of one running: 4.5 left
    assert counts.left == pytest.approx(60 / 2.5 * 4.5)
    assert counts.row() == {
        "done": "5 of 10", "running": "1", "diverged": "1", "failed": "0", "time left": "1.8 min",
    }  # fmt: skip
    counts.most = 12  # rates are open: two more may follow
    assert (counts.row()["done"], counts.row()["time left"]) == ("5 of 10 to 12", "1.8 min or more")
    counts.count(Event("failed", jobs[2], said="no"))
    assert (counts.row()["running"], counts.row()["failed"]) == ("0", "1")
    assert counts.left == pytest.approx(60 / 3 * 4)


def test_elsewhere_than_on_a_terminal_a_line_a_run_is_printed(tmp_path, capsys) -> None:
    bad = list(FIXED.cells())[3]
    with pytest.raises(ls.UserError):
        ls.run_grid(FIXED, tmp_path, executor=ByFormula(refused={bad.address: "no"}))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0] == "computing: 0 of 4 runs are done"
    assert "(ratio 0.01, seed 0) (1 of 4 done" in lines[1]
    assert lines[4].startswith(f"failed {bad.address} (ratio 0.001, seed 1): no (3 of 4 done")


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.2, "0 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2.0 h"), (172800, "2.0 days")],
)
def test_durations_are_written_in_the_unit_that_suits_them(seconds, written) -> None:
    assert duration(seconds) == written
