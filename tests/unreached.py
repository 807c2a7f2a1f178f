"""A pytest plugin that lists the assertions that no test reached: loops over nothing, dead ifs.

    python -m pytest -p unreached tests/test_edge.py

In one process; assertions of tests that are skipped or deselected are listed too. The run fails
when there are any.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

_reached: set[tuple[str, int]] = set()
_files: set[str] = set()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note whose assertions are watched."""
    _files.update(str(item.path) for item in session.items if item.path.suffix == ".py")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Any:
    """Watch the lines of the test files while a test runs."""
    sys.settrace(_outside)
    try:
        return (yield)
    finally:
        sys.settrace(None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Print the assertions that were not reached, and fail."""
    missed = [
        f"{Path(file).name}:{line}: not reached: {text}"
        for file in sorted(_files)
        for line, text in assertions(Path(file).read_text(encoding="utf-8"))
        if (file, line) not in _reached
    ]
    print("", *missed, sep="\n")
    if missed and session.exitstatus == 0:
        session.exitstatus = 1


def assertions(source: str) -> list[tuple[int, str]]:
    """Return the line and the text of every assertion: ``assert``, and torch's ``assert_close``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        call = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("assert_close")
        if isinstance(node, ast.Assert) or call:
            found.append((node.lineno, ast.unparse(node).split("\n")[0][:90]))
    return sorted(found)


def _inside(frame: Any, event: str, _: Any) -> Any:
    _reached.add((frame.f_code.co_filename, frame.f_lineno))
    return _inside


def _outside(frame: Any, event: str, _: Any) -> Any:
    return _inside if frame.f_code.co_filename in _files else None
