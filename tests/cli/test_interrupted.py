"""Ctrl-C in the middle of every command: one true sentence, nothing half written; it goes on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import finished_runs
import pytest
import torch
from samples import glue_folder, model_folder

import landscape as ls
from experiments.__main__ import main as experiments
from landscape import bench, cli
from landscape.cli.guard import DONE, STOPPED
from theory.__main__ import main as theory

HERE = str(Path(ls.__file__).parent)
#: files that say how a command came to be where it is, not what it does
ENTRY = ("guard.py", "parser.py", "arguments.py")
TASK = "--task sst2 --source TASK --num-train 8 --num-dev 4 --num-test 4"
MASKED = f"--model MODEL {TASK} --count 9"
#: every command, with what it says of its work where it is interrupted at a model's first call
AT_A_MODEL = {
    f"finetune {MASKED} --lr 1 --epochs 1": "nothing was kept",
    f"finetune {MASKED} --lr 1 --epochs 1 --output OUT": "OUT holds nothing to go on from yet",
    f"evaluate --model MODEL {TASK}": "nothing was kept",
    "predict --model MODEL --data ROWS --prompt {text} --verbaliser a=good b=bad --output OUT.csv":
        "nothing was kept",
    f"sharpness {MASKED}": "nothing was kept",
    f"density {MASKED} --figure OUT.png": "nothing was kept",
    f"surface {MASKED} --output OUT": "OUT",
    f"suggest-lr {MASKED} --batch-size 2": "nothing was kept",
    f"sweep --folder OUT --model MODEL {TASK.replace('TASK', 'sst2=TASK')} --ratio 0.01 --lr 1":
        "OUT keeps what was done: the same command goes on",
}  # fmt: skip
#: commands that call no model, and those on files alone, which are stopped at several places
ON_FILES = (
    "tasks", "runs list STORE", "runs show STORE ADDRESS", "runs tidy STORE",
    "runs compare STORE method=random method=structured", "runs export STORE OUT.jsonl.gz",
    "runs import OUT ROWSFILE", "delta info DELTA --model MODEL",
    "delta overlap DELTA DELTA --model MODEL", "delta add DELTA DELTA --model MODEL --output OUT.d",
    "delta subtract DELTA DELTA --model MODEL --output OUT.d",
    "delta scale DELTA --factor 2 --model MODEL --output OUT.d",
    "delta merge DELTA --model MODEL --output OUT",
    "delta export DELTA --model MODEL --format vllm --output OUT.safetensors",
)  # fmt: skip


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("places")
    store = finished_runs.filled(folder / "store")
    ls.sweep.write_rows(folder / "rows.jsonl.gz", store.rows())
    (folder / "rows.csv").write_text("text\ngood film\nbad film\n")
    model_folder(folder / "model")
    glue_folder(folder / "task")
    model, _ = ls.load_model(folder / "model")
    ls.attach(model, ls.random_mask(model, count=9, sampling="exact"))
    for theta in ls.trainable(model).values():
        torch.nn.init.ones_(theta)
    ls.save_delta(model, folder / "delta.safetensors")
    address = finished_runs.config(method="random", seed=0).address
    return {
        "ROWSFILE": str(folder / "rows.jsonl.gz"), "ROWS": str(folder / "rows.csv"),
        "MODEL": str(folder / "model"), "STORE": str(store.folder), "ADDRESS": address,
        "DELTA": str(folder / "delta.safetensors"), "TASK": str(folder / "task"),
    }  # fmt: skip


def words_of(line: str, places: dict[str, str], out: Path) -> list[str]:
    words = []
    for word in line.split():
        for name, place in {**places, "OUT": str(out)}.items():
            word = word.replace(name, place) if name in word else word
        words.append(word)
    return words


@pytest.fixture
def interrupting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    handle = torch.nn.modules.module.register_module_forward_pre_hook(pressed)
    yield
    handle.remove()


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert said.startswith("stopped; "), said
    assert said.count("\n") == 1
    return said


def hidden(folder: Path) -> list[Path]:
    """Parts of files: they are written beside their places under hidden names."""
    return [path for path in folder.rglob(".*") if path.name != ".lock"]


@pytest.mark.parametrize("line", AT_A_MODEL, ids=lambda line: line.split(" --")[0])
def test_ctrl_c_at_a_models_first_call_is_one_true_sentence(
    line, places, tmp_path, capsys, interrupting
) -> None:
    out = tmp_path / "out"
    assert cli.main(words_of(line, places, out)) == STOPPED
    assert AT_A_MODEL[line].replace("OUT", str(out)) in sentence(capsys)
    assert hidden(tmp_path) == []
    if AT_A_MODEL[line] == "nothing was kept":
        assert list(tmp_path.iterdir()) == []


class Presses:
    """Interrupt at a call of the package's functions, counted from the command's first."""

    def __init__(self, at: int | None) -> None:
        self.at, self.calls = at, 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event != "call" or not file.startswith(HERE) or file.endswith(ENTRY):
            return
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt


def ran(words: list[str], at: int | None = None) -> tuple[int, int]:
    """Run a command, interrupted at a call; return its exit code and how many calls there were."""
    presses = Presses(at)
    sys.setprofile(presses)
    try:
        return cli.main(words), presses.calls
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("line", ON_FILES, ids=lambda line: " ".join(line.split()[:2]))
def test_ctrl_c_anywhere_in_a_command_on_files_leaves_all_or_nothing_and_it_goes_on(
    line, places, tmp_path, capsys
) -> None:
    assert cli.main(words_of(line, places, tmp_path / "first")) == DONE  # which imports as well
    code, calls = ran(words_of(line, places, tmp_path / "whole"))
    assert code == DONE
    for share in (0.3, 0.7, 0.95):
        out = tmp_path / f"at{100 * share:.0f}"
        capsys.readouterr()
        at = int(share * calls)
        while ran(words_of(line, places, out), at)[0] == DONE and at < calls:
            at += 7  # it fell into a destructor, whose exceptions Python drops
            out = tmp_path / f"at{100 * share:.0f}-{at}"
            capsys.readouterr()
        said = sentence(capsys)
        assert hidden(tmp_path) == []
        left = [path for path in tmp_path.iterdir() if path.name.split(".")[0] == out.name]
        if "nothing was kept" in said:
            assert left == []
        assert cli.main(words_of(line, places, out)) == DONE


@pytest.mark.parametrize("kind", ["step", "generate", "scoring", "kernels", "masks", "curvature",
                                  "packed", "protocol"])  # fmt: skip
def test_ctrl_c_in_a_bench_says_that_nothing_was_kept(kind, capsys, monkeypatch) -> None:
    def pressed(**_: object) -> None:
        raise KeyboardInterrupt

    __import__(f"landscape.bench.{kind}")
    monkeypatch.setattr(getattr(bench, kind), f"bench_{kind}", pressed)
    assert cli.main(["bench", kind]) == STOPPED
    assert sentence(capsys) == "stopped; nothing was kept\n"


#: a line of a program, where it is stopped, and what it says
PROGRAMS = {
    "list": ("experiments.__main__.artefacts", "nothing was kept"),
    "run figure4 --store OUT": ("landscape.sweep.driver.run_grid", "nothing to go on from yet"),
    "render table1 --preset local --output OUT": ("experiments.kit.rendering.render", "partly"),
    "publish figure4": ("experiments.__main__.publish", "whose views are not"),
    "check figure4 --preset local": ("experiments.__main__.rows_at", "nothing was kept"),
    "ledger --check": ("experiments.ledger.text_of", "nothing was kept"),
    "verify rm-matches-lora --store OUT": ("experiments.verification.verify", "nothing to go on"),
    "--n 4 --d 9": ("theory.suite.verify_all", "nothing was kept"),
    "explain prop-5.2": ("theory.suite.verify_all", "nothing was kept"),
    "--n 4 --d 9 --figures OUT": ("theory.figures.draw_figures", "holds what was drawn"),
}  # fmt: skip


@pytest.mark.parametrize("line", PROGRAMS)
def test_ctrl_c_in_the_experiments_and_the_theory_says_what_is_left(
    line, tmp_path, capsys, monkeypatch
) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    place, words = PROGRAMS[line]
    for name, value in (
        ("experiments.__main__.rows_at", lambda *_: []),
        ("experiments.kit.rendering.table_text", lambda *_: ""),
        ("theory.suite.verify_all", lambda *_, **__: ()),
        (place, pressed),
    ):  # fmt: skip
        monkeypatch.setattr(name, value)
    main = theory if place.startswith("theory") else experiments
    assert main([word.replace("OUT", str(tmp_path / "out")) for word in line.split()]) == STOPPED
    assert words in sentence(capsys)
    assert list(tmp_path.iterdir()) == []


def commands(parser: argparse.ArgumentParser, before: tuple[str, ...] = ()) -> Iterator[str]:
    kinds = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not kinds:
        yield " ".join(before)
    for action in kinds:
        for name, inner in action.choices.items():
            yield from commands(inner, (*before, name))


def test_every_command_is_among_those_that_are_interrupted() -> None:
    every = set(commands(cli._parser()))
    lines = [*AT_A_MODEL, *ON_FILES]
    tried = {name for name in every for line in lines if line.startswith(name)}
    assert every - tried == {name for name in every if name.startswith("bench ")}
