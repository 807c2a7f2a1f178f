"""How commands end: exit codes, what the system refuses, Ctrl-C, readers that leave."""

from __future__ import annotations

import errno
import json
import math
import os
import runpy
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from samples import glue_folder, model_folder
from sentences import THREE_PARTS

import landscape as ls
from landscape import cli
from landscape.cli.guard import (
    EXIT_CODES,
    FAILED,
    MISTAKE,
    NOT_CONVERGED,
    PIPE_CLOSED,
    STOPPED,
    tell,
)
from landscape.training import Loop


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("small")
    arguments = {
        "--model": model_folder(folder / "opt"), "--task": "sst2",
        "--source": glue_folder(folder / "sst2"), "--num-train": 8, "--num-dev": 4,
        "--num-test": 4, "--count": 9,
    }  # fmt: skip
    return [str(word) for pair in arguments.items() for word in pair]


def test_debug_anywhere_shows_the_traceback_of_a_mistake(capsys) -> None:
    assert cli.main(["finetune", "--debug", "--lr", "-1"]) == MISTAKE
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("error: ")


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch, small) -> None:
    monkeypatch.setattr(ls, "load_task", lambda *_, **__: {}["a key that lacks"])
    with pytest.raises(KeyError):
        cli.main(["sharpness", *small])


ENDINGS = {
    "full disk": (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/b"), MISTAKE, "free some"),
    "full disk, told by safetensors": (
        type("SafetensorError", (Exception,), {})(
            'Error while serializing: I/O error: Os { code: 28, kind: StorageFull, message: "No'
        ), MISTAKE, "No space left on device; free some space"),
    "full disk, told by newer safetensors": (
        type("SafetensorError", (Exception,), {})(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ), MISTAKE, "No space left on device; free some space"),
    "read-only": (OSError(errno.EROFS, os.strerror(errno.EROFS), "/a"), MISTAKE, "can be written"),
    "forbidden": (PermissionError(errno.EACCES, "Permission denied", "/a"), MISTAKE, "write /a"),
    "a folder": (IsADirectoryError(errno.EISDIR, "Is a directory", "/a"), MISTAKE, "name a file"),
    "a file": (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/a"), MISTAKE, "another"),
    "no package": (ModuleNotFoundError("No module named 'peft'", name="peft.tuners"), MISTAKE,
                   "install it with: pip install peft"),
    "no memory": (MemoryError("Unable to allocate 61.0 GiB for an array"), MISTAKE, "61.0 GiB"),
    "no memory, told by torch": (
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MISTAKE, "expected enough memory"),
    "reader gone": (BrokenPipeError(errno.EPIPE, "Broken pipe"), PIPE_CLOSED, ""),
    "Ctrl-C": (KeyboardInterrupt(), STOPPED, "stopped; nothing was kept"),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_the_system_refuses_is_one_sentence_and_its_exit_code(ending, capsys) -> None:
    error, code, words = ENDINGS[ending]
    assert tell(error) == code
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == (1 if words else 0)
    if code == MISTAKE:
        assert THREE_PARTS.fullmatch(said.strip().removeprefix("error: "))


@pytest.mark.parametrize(
    "error", [ImportError("x", name="landscape.gone"), KeyError("x"), RuntimeError("x")]
)
def test_a_fault_of_the_program_is_raised_again(error) -> None:
    with pytest.raises(type(error)):
        tell(error)


def test_a_disk_that_fills_up_leaves_no_part_of_a_file(
    small, tmp_path, capsys, monkeypatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "theta")

    out = tmp_path / "run"
    monkeypatch.setattr(os, "replace", full)
    assert (
        cli.main(["finetune", *small, "--lr", "0.01", "--epochs", "1", "--output", str(out)]) == 2
    )
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "No space left on device" in said
    assert not out.exists() or not list(out.iterdir())


def test_ctrl_c_promises_to_go_on_only_where_there_is_something_to_go_on_from(
    small, tmp_path, capsys, monkeypatch
) -> None:
    def stop_at(step: int) -> None:
        def update(*given: object) -> object:
            nonlocal steps
            steps += 1
            if steps == step:
                raise KeyboardInterrupt
            return honest(*given)

        steps = 0
        monkeypatch.setattr(Loop, "update", update)

    honest = Loop.update
    line = ["finetune", *small, "--lr", "0.01", "--batch-size", "4", "--epochs", "2"]
    for step, output, words in (
        (1, [], "nothing was kept"),
        (1, ["--output", str(tmp_path / "run")], "starts afresh"),
        (2, ["--output", str(tmp_path / "run")], "goes on from there"),
    ):
        stop_at(step)
        assert cli.main([*line, *output]) == STOPPED
        said = capsys.readouterr().err
        assert words in said
        assert "Traceback" not in said
        assert (tmp_path / "run" / "checkpoint.safetensors").exists() == (step == 2)


@pytest.mark.parametrize("step", [1, 4], ids=["the first of four", "the last of four"])
def test_ctrl_c_in_a_step_keeps_that_step_and_the_run_ends_as_if_never_stopped(
    small, tmp_path, capsys, monkeypatch, request, step
) -> None:
    line = ["finetune", *small, "--lr", "0.01", "--batch-size", "4", "--epochs", "2", "--output"]
    assert cli.main([*line, str(tmp_path / "whole")]) == 0
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    honest, taken = Loop.update, []

    def pressed(loop: Loop, loss: float) -> object:
        taken.append(loss)
        if len(taken) == step:
            os.kill(os.getpid(), signal.SIGINT)  # in the middle of a step
        return honest(loop, loss)

    monkeypatch.setattr(Loop, "update", pressed)
    assert cli.main([*line, str(tmp_path / "run")]) == STOPPED
    assert "goes on from there" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr(Loop, "update", honest)
    assert cli.main([*line, str(tmp_path / "run")]) == 0
    assert f"goes on after step {step} of 4" in capsys.readouterr().out
    ends = [load_file(tmp_path / name / "theta.safetensors") for name in ("run", "whole")]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


@pytest.mark.parametrize(
    "line",
    ["sharpness", "density", "evaluate", "suggest-lr --batch-size 2", "finetune --lr 1",
     "surface --output OUT", "finetune --lr 1 --output OUT"],
)  # fmt: skip
def test_ctrl_c_says_plainly_what_was_kept(line, small, tmp_path, capsys, monkeypatch) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ls, "load_task", pressed)
    name, *more = line.replace("OUT", str(tmp_path / "out")).split()
    given = small[:-2] if name == "evaluate" else small
    assert cli.main([name, *given, *more]) == STOPPED
    said = capsys.readouterr().err
    assert said.startswith("stopped; ")
    assert said.count("\n") == 1
    kept = "the same command starts afresh" if "OUT" in line else "nothing was kept"
    assert kept in said


def test_exit_codes_tell_diverged_from_not_converged(small, capsys, monkeypatch) -> None:
    assert cli.main(["sharpness", *small, "--examples", "4", "--tol", "1e-9", "--max-matvecs", "2",
                     "--json"]) == NOT_CONVERGED  # fmt: skip
    assert json.loads(capsys.readouterr().out)["converged"] is False
    monkeypatch.setattr(Loop, "gradient", lambda *_, **__: math.inf)
    assert cli.main(["finetune", *small, "--lr", "1", "--epochs", "1", "--json"]) == FAILED
    assert json.loads(capsys.readouterr().out)["metrics"]["diverged"] is True


LIGHT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where started in background
from landscape.cli import guarded, main
"""


def process(command: str, stdout: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LIGHT + command],
        stdout=stdout,  # type: ignore[arg-type]
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    )


def test_a_reader_that_leaves_ends_a_command_without_a_word() -> None:
    """As in ``landscape --help | head -0``; the pipe is told of when the output is flushed."""
    read, write = os.pipe()
    os.close(read)
    piped = process("sys.exit(main(['--help']))", write)
    os.close(write)
    assert piped.communicate()[1] == ""
    assert piped.returncode == PIPE_CLOSED


def test_a_full_disk_under_the_output_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        filled = process("sys.exit(main(['--help']))", full)
        said = filled.communicate()[1]
    assert filled.returncode == MISTAKE
    assert "No space left on device; free some space" in said
    assert said.count("\n") == 1


def test_ctrl_c_ends_a_process_with_130_and_one_sentence() -> None:
    stopped = process(
        "sys.exit(guarded(lambda _: print('ready', flush=True) or time.sleep(60)))", subprocess.PIPE
    )
    assert stopped.stdout is not None
    assert stopped.stdout.readline() == "ready\n"
    stopped.send_signal(signal.SIGINT)
    assert stopped.communicate()[1] == "stopped; nothing was kept\n"
    assert stopped.returncode == STOPPED


def test_the_package_runs_as_a_module_and_its_help_names_the_exit_codes(
    capsys, monkeypatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["landscape", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("landscape", run_name="__main__")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert " ".join(EXIT_CODES.split()) in " ".join(said.split())
