"""Starting: what a command line loads before it knows what it is asked to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
#: each takes longer to import than a user waits for a list of options
HEAVY = ("torch", "transformers", "scipy", "pandas", "matplotlib", "seaborn")

HELP_OF_ALL = """
import argparse, contextlib, io, json, sys

def lines(parser, before=()):
    yield [*before, "--help"]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from lines(inner, (*before, name))

loaded = {}
for line in [*lines(program._parser()), *more]:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert program.main(line) == 0, line
    assert said.getvalue()
    loaded[" ".join(line)] = sorted(set(HEAVY) & set(sys.modules))
print(json.dumps(loaded))
"""


def loaded_by(program: str, more: list[list[str]]) -> dict[str, list[str]]:
    """Ask for the help of every command of a program, and run some; return what each loaded."""
    code = f"import {program} as program\nHEAVY, more = {HEAVY!r}, {more!r}\n{HELP_OF_ALL}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("program", "more", "known"),
    [("landscape.cli", [], "delta merge --help"),
     ("experiments.__main__", [["list"]], "publish --help")],
)  # fmt: skip
def test_no_help_and_no_list_loads_what_takes_seconds_to_import(program, more, known) -> None:
    loaded = loaded_by(program, more)
    assert known in loaded
    assert all(" ".join(line) in loaded for line in more)
    assert {line: modules for line, modules in loaded.items() if modules} == {}
