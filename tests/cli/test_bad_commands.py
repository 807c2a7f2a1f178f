"""One line for every command that cannot be: no traceback, no file, nothing loaded."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sentences import THREE_PARTS

import landscape as ls
from experiments.__main__ import _parser as experiments_parser
from experiments.__main__ import main as experiments
from landscape import cli
from landscape.cli.arguments import output_file, output_folder
from landscape.cli.guard import MISTAKE
from landscape.cli.shared import Outcome, run


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
    command("finetune --lr 1 --num-labels 0", "--num-labels", "at least 1"),
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
    command("sharpness --max-matvecs 0", "--max-matvecs", "got 0"),
    command("sharpness --examples 0", "--examples", "got 0"),
    command("sharpness --which XX", "--which", "'XX'"),
    command("density --steps 0", "--steps", "at least 1", "got 0"),
    command("density --num-vectors 0", "--num-vectors", "got 0"),
    command("density --vectors 8", "--vectors", "did you mean --num-vectors?"),
    command("density --bins 0", "--bins", "got 0"),
    command("density --figure OUT/x.xyz", "x.xyz", "rename it"),
    command("density --figure FOLDER", "--figure", "the folder"),
    command("surface", "--output"),
    command("surface --output OUT --points 4", "odd number of --points", "got 4"),
    command("surface --output OUT --points 1", "--points", "at least 3"),
    command("surface --output OUT --span 0", "--span", "above 0"),
    command("surface --output OUT --to nowhere", "--to", "got none"),
    command("surface --output OUT --directions displacement", "--delta FILE", "got none"),
    command("suggest-lr --batch-size 0", "--batch-size", "got 0"),
    command("suggest-lr --batch-size 1", "--batch-size", "at least 2", "got 1"),
    command("suggest-lr --batch-size 1 --optimizer sgd --examples 2", "three batches", "got 2"),
    command("suggest-lr --examples 8", "three batches of 8", "got 8"),
    command("suggest-lr --num-train 20", "three batches of 8", "got 20"),
    command("sharpness --device cudda", "--device", "did you mean cuda?"),
    command("sharpness --device cuda:x", "--device", "'cuda:x'"),
    command("sweep --folder OUT --device gpu", "--device", "'gpu'"),
    command("bench protocol --data nowhere", "--data", "a folder at nowhere", "got none"),
    command("suggest-lr --examples x", "--examples", "the text 'x'"),
    command("delta info nowhere", "a file at nowhere", "got none"),
    command("delta scale FILE --factor nan --output OUT", "--factor", "got nan"),
    command("delta add FILE FILE --output FOLDER", "--output", "the folder"),
    command("delta merge FILE --output FOLDER", "new or empty folder"),
    command("delta export FILE --output OUT", "--format", "landscape delta export --help"),
    command("delta export FILE --format onnx --output OUT", "--format", "'onnx'", "super-tuning"),
    command("delta export FILE --format vllm", "--output", "landscape delta export --help"),
    command("delta export FILE --format vllm --output FILE", "a new file", "there already"),
    command("delta export FILE --format trl --output FOLDER", "--output", "the folder"),
    command("delta export FILE --format trl --output OUT --restore FILE", "there already"),
    command("delta export FILE --format trl --output OUT --restore OUT", "two files", "for both"),
    command("delta export FILE --format shira --output FILE", "--output", "the file"),
    command("delta export FILE --format shira --output FOLDER", "new or empty folder"),
    command("delta export FILE --format merged --output OUT --restore OUT2", "with a patch"),
    command("delta export FILE --format vllm --output /proc/x", "--output", "can be written"),
    command("delta export FILE --format vllm --output OUT --dtype int8", "--dtype", "'int8'"),
    command("delta export nowhere --format vllm --output OUT", "a file at nowhere", "got none"),
    command("bench step --rounds 0", "--rounds", "got 0"),
    command("bench packed --runs 1", "--runs", "got 1"),
    command("run figur4", "an artefact among", "did you mean figure4?", main=experiments),
    command("run figure4 --workers 0", "--workers", "got 0", main=experiments),
    command("run figure4 --store /proc/x", "--store", "/proc", main=experiments),
    command("run figure4 --preset huge", "smoke, local", "'huge'", main=experiments),
    command("run figure4 --executor locl", "'local', 'packed'", "'locl'", main=experiments),
    command("check figure4 --store nowhere", "rows at nowhere", "run figure4", main=experiments),
    command("verify rm-stedy", "a claim", "did you mean rm-steady?", main=experiments),
]  # fmt: skip


def leaves(parser: argparse.ArgumentParser, *before: str) -> Iterator[tuple[list[str], Any]]:
    """List the commands of a program, with their parsers."""
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for name, one in inner[0].choices.items() if inner else ():
        yield from leaves(one, *before, name)
    if not inner:
        yield [*before], parser


def refusing(parser: argparse.ArgumentParser) -> list[str]:
    """Name the options of a command whose reader refuses a text that is nothing."""
    found = []
    for action in parser._actions:
        try:
            if action.option_strings and action.type:
                action.type(NOTHING)  # type: ignore[operator]
        except (argparse.ArgumentTypeError, ValueError):
            found.append(action.option_strings[0])
    return found


NOTHING = "no such thing"
#: texts that a command hands on, to be judged by whoever knows the data
FREE = {
    "--model", "--source", "--text", "--label", "--answer", "--separator", "--prompt", "--group",
    "--metric", "--targets", "--dense", "--executor", "--address", "--method", "--schedule",
    "--measure", "--where", "--sort", "--preset", "--restore",
}  # fmt: skip
#: those that are read when the command runs, still before anything is loaded
LATER = {"--dtype": "sweep", "--head": "sweep", "--output": "export", "--store": ""}
EVERY = [
    pytest.param(main, words, parser, id=" ".join(words))
    for main, program in ((cli.main, cli._parser()), (experiments, experiments_parser()))
    for words, parser in leaves(program)
]


@pytest.mark.parametrize(("main", "words", "parser"), EVERY)
def test_every_option_of_every_command_refuses_nonsense_before_anything_is_loaded(
    main, words, parser, capsys, monkeypatch
) -> None:
    """With all that is required missing: an option's own value is judged first."""

    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("loaded before the arguments were checked")

    for name in ("load_model", "load_task", "task_from"):
        monkeypatch.setattr(ls, name, loaded)
    for option in refusing(parser):
        assert main([*words, option, NOTHING]) == MISTAKE
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"error: argument {option}")
        assert THREE_PARTS.search(said.err)
        assert said.err.count("\n") == 1


@pytest.mark.parametrize(("main", "words", "parser"), EVERY)
def test_every_command_prints_json_and_nothing_else_where_it_is_asked_to(
    main, words, parser, capsys
) -> None:
    """What a command prints on its way is on the error stream, whatever it is."""
    assert any("--json" in action.option_strings for action in parser._actions), words

    def tell(chosen: argparse.Namespace) -> Outcome:
        print("prose")
        return Outcome({"nan": float("nan"), "text": "ü\n"}, 3)

    for asked in (True, False):
        assert run(tell, argparse.Namespace(json=asked)) == 3
        said = capsys.readouterr()
        assert said.out == ('{"nan": null, "text": "\\u00fc\\n"}\n' if asked else "prose\n")
        assert said.err == ("prose\n" if asked else "")


@pytest.mark.parametrize(("main", "words", "parser"), EVERY)
def test_every_commands_help_lists_debug(main, words, parser, capsys) -> None:
    assert main([*words, "--help"]) == 0
    assert "--debug" in capsys.readouterr().out.partition("Exit codes")[0]


@pytest.mark.parametrize(("main", "words", "parser"), EVERY)
def test_every_option_that_takes_a_value_has_a_reader_choices_or_is_free_text(
    main, words, parser
) -> None:
    refused = set(refusing(parser))
    for action in parser._actions:
        if not action.option_strings or action.nargs == 0 or action.choices:
            continue
        names = set(action.option_strings)
        free = names & FREE or any(LATER.get(n, "-") in ("", words[-1]) for n in names)
        assert free or names & refused or action.type in (output_file, output_folder), names


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
