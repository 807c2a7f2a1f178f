"""Peak memory of one side of a comparison, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from landscape.bench.memory import peak_memory
from landscape.bench.protocol.cases import find_cases
from landscape.bench.protocol.sides import SIDES, Bench, parts_of


def peak_of(side: str, name: str, data: Path | None, seed: int) -> int:
    """Return the peak resident memory, in bytes, of a process that does all of a case.

    Args:
        side: "literal" or "ours".
        name: of the case.
        data, seed: of `find_cases`.
    """
    arguments = [side, name, str(seed), *([str(data)] if data else [])]
    command = [sys.executable, "-m", "landscape.bench.protocol.peak", *arguments]
    # large tensors that are freed go back to the system at once: holes are not the protocol's
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 18)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return int(json.loads(done.stdout.splitlines()[-1]))


def measure(side: str, name: str, seed: str, data: str | None = None) -> None:
    """Do all of a case on one side, and print this process's peak memory in bytes."""
    bench = Bench.load(int(seed))
    cases = find_cases(Path(data) if data else None, int(seed))
    (case,) = (case for case in cases if case.name == name)
    with peak_memory() as peak:
        for what, examples in parts_of(bench, case).items():
            SIDES[what][("literal", "ours").index(side)](bench, case, examples)
    print(json.dumps(peak["bytes"]))


if __name__ == "__main__":
    measure(*sys.argv[1:])
