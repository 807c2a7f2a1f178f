"""Fresh processes that do not import torch again: forks of one process that did nothing else.

A test that asks what another process does pays for its import, three seconds and more. Here one
process of its own hash seed imports, and forks for every question; what the parent of a fork has
not touched (kernels, caches, generators, process groups) the fork meets for the first time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SERVER = """
import json, os, sys, traceback
import numpy, torch
import landscape.kernels, landscape.masks
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
        code = 1
        try:
            os.environ.update(asked["environment"])
            exec(compile(asked["code"], "fork", "exec"), {"__name__": "__main__"})
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Forks:
    """Run code in fresh processes: ``forks.run(code)`` returns what it printed.

    Args:
        server: the process that forks.
        folder: for what forks print.
    """

    server: subprocess.Popen[str]
    folder: Path

    def run(self, code: str, **environment: str) -> tuple[str, str]:
        """Return what code printed to its output and to its errors; it must not fail."""
        out, err = self.folder / "out", self.folder / "err"
        asked = {"code": code, "environment": environment, "out": str(out), "err": str(err)}
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        ended = self.server.stdout.readline().strip()
        told = out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")
        assert ended == "0", f"exit code {ended}: {told[1]}"
        return told


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield Forks(server, tmp_path_factory.mktemp("forks"))
    assert server.stdin is not None
    server.stdin.close()
    server.wait(timeout=30)
