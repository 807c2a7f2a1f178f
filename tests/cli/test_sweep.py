"""``landscape sweep``: grids on the command line, a dry run, and how it ends."""

from __future__ import annotations

import dataclasses
import json

import pytest
from formula_runs import ByFormula
from tiny_jobs import SIZES, Tiny, lasting

import landscape as ls
from experiments.__main__ import main as experiments
from landscape.cli import main
from landscape.cli.guard import DONE, FAILED, MISTAKE, STOPPED
from landscape.cli.sweep import AXES
from landscape.sweep import driver
from landscape.sweep.executors import Job
from landscape.sweep.running import run_job


@pytest.fixture
def executor(monkeypatch) -> ByFormula:
    made = ByFormula()
    monkeypatch.setattr(driver, "executor_of", lambda name, **options: made)
    return made


def test_every_field_of_a_run_is_an_option() -> None:
    assert list(AXES) == [field.name for field in dataclasses.fields(ls.RunConfig)]


def test_axes_on_the_command_line_become_a_grid(tmp_path, executor, capsys) -> None:
    line = f"sweep --folder {tmp_path} --model minilm-l6 --ratio 1e-2 1e-3 --seed 0 1 2 --lr 1e-3"
    assert main(line.split()) == DONE
    frame = ls.runs(tmp_path)
    assert sorted(zip(frame["ratio"], frame["seed"], strict=True)) == [
        (ratio, seed) for ratio in (1e-3, 1e-2) for seed in (0, 1, 2)
    ]
    assert set(frame["model"]) == {"minilm-l6"}
    said = capsys.readouterr().out
    assert "6 runs finished" in said
    assert main(line.split()) == DONE
    assert len(executor.trained) == 6


def test_an_option_that_is_given_again_adds_its_values(tmp_path, executor) -> None:
    line = "--ratio 1e-2 --lr 1e-3 --ratio 1e-3 --seed 0 1 --measure sharpness --measure trace"
    assert main(f"sweep --folder {tmp_path} {line}".split()) == DONE
    assert sorted(set(ls.runs(tmp_path)["ratio"])) == [1e-3, 1e-2]
    assert all(len(row["measured"]) == 2 for row in ls.RunStore(tmp_path).rows())


@pytest.mark.parametrize("command", [
    "sweep --folder OUT --lr 1 --count 9 --task sst2", "run figure4 --preset smoke --store OUT"
])  # fmt: skip
def test_both_command_lines_say_the_same_of_where_runs_are_computed(
    tmp_path, monkeypatch, command
) -> None:
    told = {}

    def caught(name: str, **options: object) -> None:
        told.update(options, name=name)
        raise ls.UserError("enough")

    monkeypatch.setattr(driver, "executor_of", caught)
    line = command.replace("OUT", str(tmp_path / "out"))
    run = experiments if line.startswith("run") else main
    where = "--executor packed --workers 2 --pack 32 --shared --address a:1"
    assert run(f"{line} {where}".split()) == MISTAKE
    assert told == {"name": "packed", "workers": 2, "pack": 32, "address": "a:1", "shared": True}


def test_options_targets_and_settings_are_read_as_values(tmp_path, executor) -> None:
    options = ["--options", '{"rank": 8}', '{"rank": 4}', "--targets", "*.q,*.v", "*.o",
               "--settings", '{"weight_decay": 0.1}']  # fmt: skip
    line = f"sweep --folder {tmp_path} --lr 0.1 --method lora"
    assert main([*line.split(), *options]) == DONE
    configs = [row["config"] for row in ls.RunStore(tmp_path).rows()]
    found = {(c["options"]["rank"], tuple(c["targets"])) for c in configs}
    assert found == {(rank, t) for rank in (8, 4) for t in (("*.q", "*.v"), ("*.o",))}
    assert {c["settings"]["weight_decay"] for c in configs} == {0.1}


def test_rates_are_chosen_and_told_with_their_edge(tmp_path, executor, capsys) -> None:
    line = (
        f"sweep --folder {tmp_path} --ratio 1e-2 1e-3 --seed 0 1 --choose-lr 1e-7 1e-6 "
        "--over-ratio --widen 1 --measure sharpness --json"
    )
    assert main(line.split()) == DONE
    found = json.loads(capsys.readouterr().out)
    assert [(c["ratio"], c["lr"], c["edge"], c["n"]) for c in found["cells"]] == [
        (1e-2, 1e-3, "highest", 2), (1e-3, 1e-2, "highest", 2),
    ]  # fmt: skip
    # a peak at 1e-5 over the ratio: .9 and one thousandth for the seed 1
    assert [c["dev"] for c in found["cells"]] == pytest.approx([0.9005, 0.9005])
    assert len(executor.measured) == 4


def test_a_file_of_grids_is_swept(tmp_path, executor) -> None:
    path = tmp_path / "grid.toml"
    path.write_text("""
        shared = {lr = 1e-3}
        [[grid]]
        axes = {ratio = [1e-3], seed = [0, 1]}
        [[grid]]
        shared = {method = "bitfit"}
    """)
    assert main(["sweep", str(path), "--folder", str(tmp_path / "store")]) == DONE
    assert sorted(ls.runs(tmp_path / "store")["method"]) == ["bitfit", "random", "random"]


def test_a_failed_run_ends_with_its_sentence_and_code_1(tmp_path, executor, capsys) -> None:
    bad = ls.RunConfig(lr=0.1, seed=1, ratio=1e-3)
    executor.refused = {bad.address: "expected x, got y; do z"}
    line = f"sweep --folder {tmp_path} --ratio 1e-3 --lr 0.1 --seed 0 1 2 --json"
    assert main(line.split()) == FAILED
    said = capsys.readouterr()
    assert json.loads(said.out)["failed"] == {bad.address: "expected x, got y; do z"}
    assert f"{bad.address} (seed 1): expected x, got y; do z" in said.err


def test_diverged_runs_are_results(tmp_path, executor, capsys) -> None:
    executor.dev = lambda config: None
    assert (
        main(f"sweep --folder {tmp_path} --ratio 1e-3 --lr 0.1 --seed 0 1 --json".split()) == DONE
    )
    assert len(json.loads(capsys.readouterr().out)["diverged"]) == 2


def test_a_cell_says_how_many_of_its_runs_diverged_where_any_did(
    tmp_path, executor, capsys
) -> None:
    line = f"sweep --folder {tmp_path} --ratio 1e-2 1e-3 --seed 0 1 2 --lr"
    assert main([*line.split(), "0.1"]) == DONE
    told = [x.split() for x in capsys.readouterr().out.splitlines() if "finished" not in x]
    assert told[-3][-1] == "test"  # the last head of the table
    executor.dev = lambda config: None if (config.ratio, config.seed) == (1e-3, 1) else (0.5, 0.5)
    assert main([*line.split(), "0.2"]) == DONE
    said = capsys.readouterr().out
    heads, *cells = [line.split() for line in said.splitlines() if "finished" not in line][-3:]
    assert heads[-1] == "diverged"
    assert [cell[-1] for cell in cells] == ["0", "1"]
    assert main([*line.split(), "0.2", "--json"]) == DONE
    told = json.loads(capsys.readouterr().out)["cells"]
    assert [cell["diverged"] for cell in told] == [0, 1]


def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path, executor, capsys) -> None:
    executor.stop = 1
    line = f"sweep --folder {tmp_path} --ratio 1e-3 --lr 0.1 --seed 0 1"
    assert main(line.split()) == STOPPED
    assert "the same command goes on" in capsys.readouterr().err
    executor.stop = 9
    assert main(line.split()) == DONE
    assert len(set(executor.trained)) == len(executor.trained) == 2


def test_ctrl_c_before_the_first_run_says_what_an_earlier_sweep_left(
    tmp_path, executor, capsys, monkeypatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    line = f"sweep --folder {tmp_path} --ratio 1e-3 --lr 0.1"
    assert main(line.split()) == DONE
    monkeypatch.setattr(driver, "executor_of", stop)
    assert main(line.split()) == STOPPED
    assert f"{tmp_path} keeps what was done" in capsys.readouterr().err


def test_a_dry_run_says_which_runs_are_needed_and_which_may_follow(
    tmp_path, executor, capsys
) -> None:
    line = f"sweep --folder {tmp_path / 'store'} --ratio 1e-2 1e-3 --seed 0 1 2 --dry-run"
    assert main([*line.split(), "--choose-lr", "1e-7", "1e-6"]) == DONE
    said = capsys.readouterr().out
    assert "4 runs needed, 0 finished" in said
    assert "up to 8 more, once the finished ones choose rates" in said
    assert main([*line.split(), "--lr", "0.1"]) == DONE
    said = capsys.readouterr().out
    assert "6 runs needed" in said
    assert "more" not in said


def test_a_dry_run_counts_and_estimates_and_makes_nothing(tmp_path, executor, capsys) -> None:
    store = tmp_path / "store"
    line = f"sweep --folder {store} --ratio 1e-2 1e-3 --seed 0 1 2 --choose-lr 1e-7 1e-6 --dry-run"
    assert main([*line.split(), "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)
    # two rates of two ratios; with two more, and two seeds at the best
    assert (found["known"], found["finished"], found["most"]) == (4, 0, 12)
    assert found["most_seconds"] == pytest.approx(3 * found["seconds"])
    assert "GFLOP/s" in found["basis"][0]
    assert not store.exists()
    assert executor.batches == []


def test_a_dry_run_says_in_a_sentence_which_runs_are_damaged(tmp_path, executor, capsys) -> None:
    line = f"sweep --folder {tmp_path} --ratio 1e-3 --seed 0 1 --lr 0.1".split()
    assert main(line) == DONE
    path = min((tmp_path / "runs").glob("*/result.json"))
    path.write_text(path.read_text()[:100])
    capsys.readouterr()
    assert main([*line, "--dry-run"]) == DONE  # a warning would be an error here
    said = capsys.readouterr().out
    assert said.startswith(f"left out: expected {path} as it was written")
    assert "2 runs needed, 1 finished" in said


def test_a_dry_run_needs_nothing_of_finished_runs(tmp_path, executor, capsys) -> None:
    line = f"sweep --folder {tmp_path} --method full --count 9 --lr 0.1".split()
    assert main(line) == DONE  # by a formula, which computes what no model would
    assert main([*line, "--dry-run"]) == DONE
    assert "1 run needed, 1 finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sweep --lr 1", "--folder"),
        ("sweep --folder OUT", "expected a grid, got none"),
        ("sweep --folder OUT --ration 1e-2", "--ration; did you mean --ratio?"),
        ("sweep --folder OUT --sede 1", "--sede; did you mean --seed?"),
        ("sweep --folder OUT --ratio 2", "got 2"),
        ("sweep --folder OUT --ratio much", "'much'"),
        ("sweep --folder OUT --ratio 1e-3", "a learning rate for every run"),
        ("sweep --folder OUT --ratio 1e-3 1e-3 --lr 1", "got 0.001 twice"),
        ("sweep --folder OUT --head big --lr 1", "'big'"),
        ("sweep --folder OUT --task sst --lr 1", "sst2"),
        ("sweep --folder OUT --task xyz --lr 1", "got 'xyz'; choose one, such as rotten_toma"),
        ("sweep --folder OUT --options 3 --lr 1", "a JSON object"),
        ("sweep --folder OUT --lr 1 --measure sharpnes", "did you mean sharpness?"),
        ("sweep --folder OUT --lr 1 --choose-lr 1", "--lr or --choose-lr, got both"),
        ("sweep --folder OUT --lr 1 --over-ratio", "--choose-lr with --over-ratio"),
        ("sweep --folder OUT --choose-lr 1 --over-ratio --count 9", "a ratio of every run"),
        ("sweep --folder OUT --lr 1", "ratio or count"),
        ("sweep --folder OUT --choose-lr 1 --widen -1", "got -1"),
        ("sweep --folder OUT --lr 1 --workers 0", "got 0"),
        ("sweep --folder OUT --lr 1 --executor packed --pack 0", "got 0"),
        ("sweep --folder OUT --lr 1 --count 9 --pack 2", "no pack with local, got 2; it is of"),
        ("sweep --folder OUT --lr 1 --count 9 --executor ray --workers 2", "one worker with ray"),
        ("sweep --folder OUT --lr 1 --count 9 --address auto", "no address with local"),
        ("sweep --folder OUT --lr 1 --executor slurm", "'slurm'"),
        ("sweep --folder OUT --lr 1 --source sst2", "TASK=FOLDER"),
        ("sweep --folder OUT --lr 1 --source sst2=nowhere", "a folder that is there"),
        ("sweep --folder OUT --lr 1 --count 9 --source sst2=.", "rotten_tomatoes, got 'sst2'"),
        (
            "sweep --folder OUT --lr 1 --count 9 --source sst2=. --source sst2=/",
            "one --source for sst2, got . and /",
        ),
        ("sweep --folder OUT --lr 1 --count 9 --dry-run --address auto", "no address with local"),
        (
            "sweep --folder OUT --method random full bitfit --ratio 1e-3 --lr 1 --dry-run",
            "no budget for full, which has its own size, got ratio 0.001; leave it out, in a grid",
        ),
        ('sweep --folder OUT --count 9 --lr 1 --options {"rank":2} --dry-run', "'rank'"),
        ('sweep --folder OUT --count 9 --lr 1 --settings {"seed":2} --dry-run', "got 'seed'"),
        ("sweep nowhere.toml --folder OUT", "a file at nowhere.toml"),
        ("sweep GRID --folder OUT --seed 1", "GRID or axes"),
        ("sweep GRID --folder OUT", "did you mean ratio?"),
    ],
)
def test_a_wrong_sweep_is_refused_in_one_line_before_anything_is_made(
    tmp_path, capsys, line, words
) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text("axes = {raito = [1e-3]}\n")
    line = line.replace("OUT", str(tmp_path / "out"))
    line = line.replace("sweep GRID", f"sweep {grid}")
    assert main(line.split()) == MISTAKE
    said = capsys.readouterr()
    assert words in said.err
    assert "--data" not in said.err  # which a sweep has not
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_real_grid_of_a_tiny_model_is_swept_and_a_larger_one_adds_to_it(tmp_path, capsys) -> None:
    tiny = Tiny.at(tmp_path)
    sizes = " ".join(f"--{n.replace('_', '-')} {v}" for n, v in SIZES.items() if n != "lr")
    line = (
        f"sweep --folder {tmp_path / 'store'} --model {tmp_path / 'opt'} {sizes} --ratio 1e-2 "
        f"--source sst2={tmp_path / 'SST-2'} --choose-lr 1e-4 1e-3 --over-ratio --widen 0 --json"
    )
    assert main([*line.split(), "--seed", "0", "1"]) == DONE
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert (cell["n"], cell["lr"] in (1e-2, 1e-1)) == (2, True)
    store = ls.RunStore(tmp_path / "store")
    config = tiny.config(lr=cell["lr"], seed=1)
    assert cell["runs"][1] == config.address
    alone = run_job(Job(config), ls.RunStore(tmp_path / "alone"), tiny.places)
    assert lasting(store.row(config)) == lasting(alone)
    assert main([*line.split(), "--seed", "0", "1", "2"]) == DONE
    assert json.loads(capsys.readouterr().out)["runs"] == 4


def test_finetune_repeats_a_sweeps_run_if_it_draws_the_same_mask(tmp_path, capsys) -> None:
    tiny = Tiny.at(tmp_path)
    row = run_job(Job(tiny.config(seed=3)), ls.RunStore(tmp_path / "store"), tiny.places)
    sizes = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in SIZES.items())
    line = (
        f"finetune --model {tmp_path / 'opt'} --source {tmp_path / 'SST-2'} {sizes} --ratio 1e-2 "
        "--seed 3 --json"
    )
    for mask_seed, same in (("3", True), ("0", False)):
        assert main([*line.split(), "--mask-seed", mask_seed]) == DONE
        found = json.loads(capsys.readouterr().out)
        assert (found["distance"]["l2"] == row["outcome"]["distance"]) == same
        assert (found["metrics"]["test"]["loss"] == row["outcome"]["test"]["loss"]) == same
