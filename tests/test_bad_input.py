"""One sentence for every bad input: arguments, files and the system, in three tables.

A sentence says what was expected, what came, and what to do. A command adds its exit code, one
line on the error stream, no traceback and no file.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import json
import math
import os
import re
import runpy
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import glue_folder, model_folder, review_file
from torch import nn

import landscape as ls
from experiments.__main__ import main as experiments
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
from landscape.errors import UserError
from landscape.training import finetuning

#: what was expected, what came, what to do
THREE_PARTS = re.compile(r"expected .+?, (got|but|found).+[;:] .+", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """Name a bad input, say how to provoke it, and what its sentence holds."""

    name: str
    provoke: Callable[..., object]
    words: tuple[str, ...]


def row(name: str, provoke: Callable[..., object], *words: str) -> pytest.ParameterSet:
    return pytest.param(Row(name, provoke, words), id=name)


def the_sentence(provoke: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        provoke()
    said = str(caught.value)
    assert THREE_PARTS.fullmatch(said), said
    return said


# ------------------------------------------------------------------ arguments of the library

TOKENIZER = ls.tiny_tokenizer()
RIGHT = ls.Example("a film", (" terrible", " great"), 1)


def task() -> ls.Task:
    splits = [(ls.Example(f"film {i}", (" terrible", " great"), i % 2),) for i in range(3)]
    return ls.Task("toy", *splits)


def plain() -> nn.Module:
    return ls.tiny_model("opt", hidden_size=8, word_embed_proj_dim=8, ffn_dim=8)


def finetune(**arguments: object) -> Callable[[], object]:
    return lambda: ls.finetune(plain(), TOKENIZER, task(), **{"lr": 1e-3, **arguments})


def mask(**arguments: object) -> Callable[[], object]:
    return lambda: ls.random_mask(plain(), **arguments)


def adamw(**arguments: object) -> Callable[[], object]:
    return lambda: ls.AdamW([nn.Parameter(torch.zeros(3))], **{"lr": 1e-3, **arguments})


def example(**fields: object) -> Callable[[], object]:
    return lambda: ls.Example(
        **{"prompt": "a", "candidates": (" b", " c"), "label": 0, **fields}  # type: ignore[arg-type]
    )


def toy(**fields: object) -> Callable[[], object]:
    return lambda: ls.Task(
        **{"name": "toy", "train": (RIGHT,), "dev": (RIGHT,), "test": (RIGHT,), **fields}  # type: ignore[arg-type]
    )


ARGUMENTS = [
    row("rate below zero", finetune(lr=-1), "lr", "above 0", "got -1"),
    row("rate of nan", finetune(lr=math.nan), "lr", "got nan"),
    row("rate as a text", finetune(lr="0.1"), "lr", "the text '0.1'"),
    row("half an epoch", finetune(epochs=1.5), "epochs", "whole number", "got 1.5"),
    row("no epoch", finetune(epochs=0), "epochs", "at least 1", "got 0"),
    row("epochs as a boolean", finetune(epochs=True), "epochs", "got True"),
    row("batches of none", finetune(batch_size=0), "batch_size", "got 0"),
    row("seed below zero", finetune(seed=-1), "seed", "from 0 to 4,294,967,295", "got -1"),
    row("seed of 2^32", finetune(seed=2**32), "seed", "got 4294967296"),
    row("seed of half", finetune(seed=0.5), "seed", "got 0.5"),
    row("decay below zero", finetune(weight_decay=-0.1), "weight_decay", "got -0.1"),
    row("one beta", finetune(betas=0.9), "betas", "two numbers", "got 0.9"),
    row("beta of one", finetune(betas=(0.9, 1.0)), "betas", "below 1", "got 1.0"),
    row("eps below zero", finetune(eps=-1e-8), "eps", "got -1e-08"),
    row("clipping at minus one", finetune(max_gradient_norm=-1), "max_gradient_norm", "got -1"),
    row("clipping at zero", finetune(max_gradient_norm=0), "max_gradient_norm", "above 0"),
    row("clipping at nan", finetune(max_gradient_norm=math.nan), "max_gradient_norm", "got nan"),
    row("no checkpoint", finetune(checkpoint_every=0), "checkpoint_every", "got 0"),
    row("no evaluation", finetune(evaluations_per_epoch=0), "evaluations_per_epoch", "got 0"),
    row("test as a number", finetune(test=1), "test", "True or False", "got 1"),
    row("schedule as a text", finetune(schedule="static"), "schedule", "the text 'static'"),
    row("no model", lambda: ls.finetune(None, TOKENIZER, task(), lr=1), "model", "got None"),
    row("a wrapped model", lambda: ls.evaluate(nn.DataParallel(plain()), TOKENIZER, task()),
        "a DataParallel", "give its .module"),
    row("no task", lambda: ls.finetune(plain(), TOKENIZER, None, lr=1), "task", "got None"),
    row("ratio as a text", mask(ratio="0.1"), "ratio", "the text '0.1'"),
    row("ratio of nan", mask(ratio=math.nan), "ratio", "got nan"),
    row("count of a half", mask(count=2.5), "count", "whole number", "got 2.5"),
    row("density above one", mask(density=1.5), "density", "at most 1", "got 1.5"),
    row("no budget", mask(), "exactly one of ratio, density and count", "got none"),
    row("two budgets", mask(ratio=0.1, count=2), "exactly one", "got ratio and count"),
    row("mask of no weight", mask(ratio=1e-12), "at least one weight", "got none", "raise"),
    row("mask's seed", mask(count=2, seed=-1), "seed", "got -1"),
    row("sampling", mask(count=2, sampling="quantum"), "bernoulli, exact", "'quantum'"),
    row("targets as a number", mask(count=2, targets=3), "targets", "got 3"),
    row("no targets", mask(count=2, targets=[]), "targets", "at least one pattern"),
    row("moments' rate", adamw(lr=0), "lr", "above 0"),
    row("moments' betas", adamw(betas=(0.9, -0.1)), "betas", "got -0.1"),
    row("moments' eps", adamw(eps=math.nan), "eps", "got nan"),
    row("moments' decay", adamw(weight_decay="no"), "weight_decay", "the text 'no'"),
    row("no prompt", example(prompt=None), "prompt", "a text", "got None"),
    row("label as a boolean", example(label=True), "label", "got True"),
    row("label of a half", example(label=0.5), "label", "got 0.5"),
    row("label without candidate", example(label=2), "label from 0 to 1", "got 2"),
    row("candidates in one text", example(candidates=" ab"), "candidates", "the text ' ab'"),
    row("candidate of a number", example(candidates=(" a", 3)), "candidates", "got 3"),
    row("unknown loss", toy(loss="lm"), "loss", "classification, language modelling", "'lm'"),
    row("unknown metric", toy(metric="bleu"), "metric", "accuracy", "'bleu'"),
    row("no examples", toy(dev=()), "at least one example in the dev split", "got none"),
    row("rows for examples", toy(train=[{"text": "a"}]), "train", "Example", "got {'text': 'a'}"),
    row("unknown task", lambda: ls.load_task("imdb"), "rotten_tomatoes, sst2", "'imdb'"),
    row("empty split", lambda: ls.load_task("sst2", num_dev=0), "num_dev", "at least 1", "got 0"),
    row("seed of a split", lambda: ls.load_task("sst2", seed=-1), "seed", "got -1"),
    row("one label", lambda: ls.load_model("minilm-l6", num_labels=1), "labels", "at least 2"),
    row("half a label", lambda: ls.load_model("minilm-l6", num_labels=2.5), "labels", "got 2.5"),
    row("whole weights", lambda: ls.load_model("x", dtype=torch.int8), "dtype", "torch.int8"),
    row("no name", lambda: ls.load_model(None), "name", "a path", "got None"),
    row("no such folder", lambda: ls.load_model("./nowhere"), "a folder at ./nowhere", "check"),
]  # fmt: skip


@pytest.mark.parametrize("bad", ARGUMENTS)
@pytest.mark.filterwarnings("ignore:expected splits")
def test_a_wrong_argument_is_refused_with_what_was_expected_what_came_and_what_to_do(bad) -> None:
    said = the_sentence(bad.provoke)
    for words in bad.words:
        assert words in said


def test_numpys_numbers_are_numbers_and_a_runs_configuration_holds_plain_ones(tmp_path) -> None:
    model = plain()
    ls.attach(model, ls.random_mask(model, count=np.int64(5), seed=np.uint32(3), sampling="exact"))
    run = ls.finetune(
        model, TOKENIZER, task(), lr=np.float32(0.5), epochs=np.int64(1), batch_size=np.int32(1),
        seed=np.int64(7), directory=tmp_path / "run",
    )  # fmt: skip
    assert [type(run.config[key]) for key in ("lr", "epochs", "batch_size", "seed")] == [
        float, int, int, int
    ]  # fmt: skip
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 7
    assert type(ls.Example("a", (" b", " c"), np.int64(1)).label) is int


def test_examples_in_two_splits_are_named_with_their_number_and_few_are_not() -> None:
    many = tuple(ls.Example(f"film {i}", (" b", " c"), 0) for i in range(400))
    with pytest.warns(UserWarning, match="3 of the 200 in dev are in train"):
        ls.Task("toy", many[:103], many[100:300], many[300:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ls.Task("toy", many[:102], many[100:300], many[300:])


def test_a_pattern_that_matches_nothing_is_answered_with_one_that_matches() -> None:
    cases = [
        (plain(), "*.0"),
        (nn.Sequential(nn.Linear(2, 2)), "*.0"),
        (ls.tiny_model("bert"), "*.q_proj"),
    ]
    suggested = []
    for model, pattern in cases:
        said = the_sentence(lambda: ls.random_mask(model, count=1, targets=pattern))  # noqa: B023
        suggested.append(eval(said.rpartition("give targets=")[2]))
        assert ls.random_mask(model, count=1, targets=suggested[-1], sampling="exact").count == 1
    assert suggested == ["*.[qv]_proj", "0", ["*.query", "*.value"]]


# ------------------------------------------------------------------ files


def table(name: str, content: bytes) -> Callable[[Path], object]:
    """Read a file of these bytes as sst2's train.tsv, or as a file of reviews."""

    def provoke(folder: Path) -> object:
        if name == "train.tsv":
            (glue_folder(folder / "sst2") / name).write_bytes(content)
            return ls.load_task("sst2", source=folder / "sst2", num_train=1, num_dev=1, num_test=1)
        (folder / name).write_bytes(content)
        return ls.load_task(
            "rotten_tomatoes", source=folder / name, num_train=1, num_dev=1, num_test=1
        )

    return provoke


def model(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """Load a model's folder after a change to it."""

    def provoke(folder: Path) -> object:
        change(model_folder(folder / "model"))
        return ls.load_model(folder / "model")

    return provoke


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def forget_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    held = load_file(folder / "model.safetensors")
    held.pop("model.decoder.layers.1.fc1.weight")
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


HEAD = b"category,text,movie_name\n"
FILES = [
    row("latin-1 tsv", table("train.tsv", "sentence\tlabel\ngut\t1\nschön\t0\n".encode("latin-1")),
        "UTF-8", "train.tsv, line 3", "0xf6", "save the file as UTF-8"),
    row("latin-1 csv", table("r.csv", HEAD + "fresh,schön,a\n".encode("latin-1")),
        "UTF-8", "r.csv, line 2", "0xf6"),
    row("utf-16 without mark", table("r.csv", HEAD.decode().encode("utf-16-le")),
        "r.csv, line 1", "NUL"),
    row("nul byte", table("train.tsv", b"sentence\tlabel\na\0b\t1\n"), "train.tsv, line 2", "NUL"),
    row("long field", table("r.csv", HEAD + b'fresh,"' + b"a" * 131_073 + b'",a\n'),
        "r.csv, line 2", "131072", "quote"),
    row("open quote", table("r.csv", HEAD + b'fresh,"good,a\nrotten,bad,b\n'), "r.csv", "quote"),
    row("ragged csv", table("r.csv", HEAD + b"fresh,good\n"), "3 values", "line 2", "got 2"),
    row("ragged tsv", table("train.tsv", b"sentence\tlabel\na\t1\t2\n"), "2 values", "got 3"),
    row("column twice", table("train.tsv", b"label\tlabel\n1\t1\n"), "different names", "label"),
    row("empty csv", table("r.csv", b""), "r.csv", "empty file"),
    row("empty tsv", table("train.tsv", b""), "train.tsv", "empty file"),
    row("cut bz2", table("r.csv.bz2", bz2.compress(HEAD * 9)[:-9]), "a whole .bz2", "r.csv.bz2"),
    row("no bz2", table("r.csv.bz2", HEAD), "a whole .bz2 file", "name a plain file"),
    row("cut gz", table("r.csv.gz", gzip.compress(HEAD * 9)[:-9]), "a whole .gz file"),
    row("no gz", table("r.csv.gz", HEAD), "a whole .gz file"),
    row("cut weights", model(lambda folder: cut(folder / "model.safetensors")),
        "causal language model", "not fully covered", "save_pretrained"),
    row("a weight lacks", model(forget_a_weight),
        "all weights", "got none for model.decoder.layers.1.fc1.weight", "fetch"),
    row("no tokenizer", model(without_tokenizer), "a tokenizer in", "knows no token of text"),
    row("no json", model(lambda folder: (folder / "config.json").write_text("{")),
        "causal language model", "config.json", "not a valid JSON file"),
    row("json of another kind", model(
        lambda folder: (folder / "tokenizer_config.json").write_text("[]")), "save_pretrained"),
]  # fmt: skip


@pytest.mark.parametrize("bad", FILES)
def test_a_file_that_cannot_be_read_is_refused_by_name_and_line(bad, tmp_path) -> None:
    said = the_sentence(lambda: bad.provoke(tmp_path))
    for words in bad.words:
        assert words in said


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_table_reads_alike_in_every_encoding_that_marks_itself(encoding, tmp_path) -> None:
    folder = glue_folder(tmp_path / "sst2")
    text = "sentence\tlabel\nschön\t1\nübel\t0\n"
    (folder / "train.tsv").write_bytes(text.encode(encoding))
    found = ls.load_task("sst2", source=folder, num_train=1, num_dev=1, num_test=1)
    assert {e.prompt for e in found.train + found.dev} == {"schön It was", "übel It was"}


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_a_packed_table_reads_like_a_plain_one(suffix, pack, tmp_path) -> None:
    text = bz2.decompress(review_file(tmp_path / "r.csv.bz2").read_bytes())
    (tmp_path / "plain.csv").write_bytes(text)
    (tmp_path / f"packed.csv{suffix}").write_bytes(pack(text))
    sizes = {"num_train": 9, "num_dev": 9, "num_test": 9}
    one, two = (
        ls.load_task("rotten_tomatoes", source=tmp_path / name, **sizes)
        for name in ("plain.csv", f"packed.csv{suffix}")
    )
    assert (one.train, one.dev, one.test) == (two.train, two.dev, two.test)


# ------------------------------------------------------------------ the command line


@dataclass(frozen=True)
class Command:
    """Name a command line that must fail, the words of its sentence, and its program."""

    line: str
    words: tuple[str, ...]
    main: Callable[[list[str]], int] = cli.main


def command(line: str, *words: str, main: Callable[[list[str]], int] = cli.main):
    return pytest.param(Command(line, words, main), id=line)


COMMANDS = [
    command("finetune --lr -1", "--lr", "above 0", "got -1"),
    command("finetune --lr nan", "--lr", "got nan"),
    command("finetune --lr much", "--lr", "the text 'much'"),
    command("finetune", "--lr", "landscape finetune --help"),
    command("finetune --lr 1 --epochs 0", "--epochs", "at least 1", "got 0"),
    command("finetune --lr 1 --epochs 1.5", "--epochs", "whole number", "'1.5'"),
    command("finetune --lr 1 --batch-size 0", "--batch-size", "got 0"),
    command("finetune --lr 1 --seed -1", "--seed", "from 0 to 4,294,967,295", "got -1"),
    command("finetune --lr 1 --seed 4294967296", "--seed", "got 4294967296"),
    command("finetune --lr 1 --mask-seed -1", "--mask-seed", "got -1"),
    command("finetune --lr 1 --ratio 2", "--ratio", "at most 1", "got 2"),
    command("finetune --lr 1 --count 0", "--count", "got 0"),
    command("finetune --lr 1 --ratio 0.1 --count 3", "--count", "--ratio"),
    command("finetune --lr 1 --num-labels 1", "--num-labels", "at least 2"),
    command("finetune --lr 1 --num-train 0", "--num-train", "got 0"),
    command("finetune --lr 1 --trajectory 5", "--output", "got none"),
    command("finetune --lr 1 --trajectory 0 --output OUT", "--trajectory", "at least 1"),
    command("finetune --lr 1 --output /proc/x", "--output", "can be written", "/proc"),
    command("finetune --lr 1 --output FILE", "--output", "a folder", "the file"),
    command("finetune --lr 1 --output FILE/below", "--output", "Not a directory"),
    command("finetune --lr 1 --nonsense", "--nonsense", "landscape --help"),
    command("nonsense", "nonsense", "landscape --help"),
    command("sharpness --delta nowhere", "--delta", "a file at nowhere", "got none"),
    command("sharpness --k 0", "--k", "at least 1"),
    command("sharpness --tol 0", "--tol", "above 0"),
    command("sharpness --max-products 0", "--max-products", "got 0"),
    command("sharpness --examples 0", "--examples", "got 0"),
    command("sharpness --which XX", "--which", "'XX'"),
    command("density --steps 0", "--steps", "at least 1", "got 0"),
    command("density --vectors 0", "--vectors", "got 0"),
    command("density --bins 0", "--bins", "got 0"),
    command("density --picture OUT/x.xyz", "x.xyz", "rename it"),
    command("density --picture FOLDER", "--picture", "the folder"),
    command("surface", "--output"),
    command("surface --output OUT --points 4", "odd number of --points", "got 4"),
    command("surface --output OUT --points 1", "--points", "at least 3"),
    command("surface --output OUT --span 0", "--span", "above 0"),
    command("surface --output OUT --to nowhere", "--to", "got none"),
    command("surface --output OUT --directions displacement", "--delta FILE", "got none"),
    command("suggest-lr --batch-size 0", "--batch-size", "got 0"),
    command("suggest-lr --examples x", "--examples", "the text 'x'"),
    command("delta info nowhere", "a file at nowhere", "got none"),
    command("delta scale FILE --factor nan --output OUT", "--factor", "got nan"),
    command("delta add FILE FILE --output FOLDER", "--output", "the folder"),
    command("delta merge FILE --output FOLDER", "new or empty folder"),
    command("bench step --rounds 0", "--rounds", "got 0"),
    command("run figure4 --seed -1", "--seed", "got -1", main=experiments),
    command("run figure4 --output /proc/x", "--output", "/proc", main=experiments),
    command("run figure4 --preset huge", "smoke, local", "'huge'", main=experiments),
    command("check figure4 --output nowhere", "run of figure4 in nowhere", main=experiments),
    command("check figure4", "figure4/smoke, got none", "give --preset one", main=experiments),
]  # fmt: skip


@pytest.mark.parametrize("bad", COMMANDS)
def test_a_command_refuses_its_arguments_in_one_line_before_it_loads_anything(
    bad, tmp_path, capsys, monkeypatch
) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("loaded before the arguments were checked")

    for name in ("load_model", "load_task"):
        monkeypatch.setattr(ls, name, loaded)
    file, folder, out = tmp_path / "file", tmp_path / "folder", tmp_path / "out"
    file.write_text("")
    folder.mkdir()
    (folder / "full").write_text("")
    line = bad.line
    for word, path in (("FILE", file), ("FOLDER", folder), ("OUT", out)):
        line = line.replace(word, str(path))
    before = sorted(tmp_path.rglob("*"))
    assert bad.main(line.split()) == MISTAKE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    for words in bad.words:
        assert words in said.err
    assert sorted(tmp_path.rglob("*")) == before


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
        monkeypatch.setattr("landscape.training.finetuning._update", update)

    honest = finetuning._update
    line = ["finetune", *small, "--lr", "0.01", "--batch-size", "4", "--epochs", "2"]
    for step, output, words in (
        (2, [], "nothing was kept"),
        (2, ["--output", str(tmp_path / "run")], "starts afresh"),
        (3, ["--output", str(tmp_path / "run")], "goes on from there"),
    ):
        stop_at(step)
        assert cli.main([*line, *output]) == STOPPED
        said = capsys.readouterr().err
        assert words in said
        assert "Traceback" not in said
        assert (tmp_path / "run" / "checkpoint.safetensors").exists() == (step == 3)


def test_exit_codes_tell_diverged_from_not_converged(small, capsys, monkeypatch) -> None:
    assert cli.main(["sharpness", *small, "--examples", "4", "--tol", "1e-9", "--max-products", "2",
                     "--json"]) == NOT_CONVERGED  # fmt: skip
    assert json.loads(capsys.readouterr().out)["converged"] is False
    monkeypatch.setattr("landscape.training.finetuning._backward", lambda *_, **__: math.inf)
    assert cli.main(["finetune", *small, "--lr", "1", "--epochs", "1", "--json"]) == FAILED
    assert json.loads(capsys.readouterr().out)["metrics"]["diverged"] is True


# ------------------------------------------------------------------ processes

LIGHT = """
import sys, time
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
