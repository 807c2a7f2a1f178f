"""Run mutants and publish the score: ``python -m tests.mutation --help``."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .mutants import Mutant, all_mutants, by_hand, is_python
from .run import ROOT, Loop, Reached
from .targets import BY_HAND, ELSEWHERE, GUARDS, HAND_ONLY, excuse, test_file

FOLDER = ROOT / ".mutation"
TABLE = Path(__file__).with_name("RESULTS.md")
SURVIVED = ("survived",)


def main(argv: list[str] | None = None) -> int:
    """Run the mutants that have no result yet, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--count", type=int, default=250, help="mutants made from the tree, in all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", default="", help="modules whose path holds this text")
    options = parser.parse_args(argv)
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # forks share no threads
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n")
    run = Run(options)
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    if run.modules:
        tests = sorted({test_file(t) for m in run.modules for t in GUARDS[m]})
        arguments = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:randomly", "-m", "not slow"]
        kept, stamps = FOLDER / "reached.json", {file: stamp(file) for file in tests}
        loop = Loop(list(GUARDS), run.choose, run.record, kept, stamps)
        os.chdir(ROOT)
        code = pytest.main([*arguments, "-o", "addopts=", *tests], plugins=[loop])
        if code not in (0, 1, 5):
            return int(code)
    run.publish()
    return 0


def stamp(test: str) -> str:
    """Return a hash of everything that the tests of a file may reach, and of the file."""
    paths = sorted(
        p
        for folder in ("landscape", "theory", "experiments")
        for p in (ROOT / folder).rglob("*.py")
    )
    helpers = sorted(p for p in (ROOT / "tests").rglob("*.py") if not p.name.startswith("test_"))
    told = [p.read_bytes() for p in [*paths, *helpers, ROOT / test]]
    return hashlib.sha256(b"\0".join([*told, repr(list(GUARDS)).encode()])).hexdigest()


class Run:
    """Hold the chosen mutants of the present sources and their results so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.modules = [m for m in GUARDS if options.only in m and (ROOT / m).exists()]
        self.sources = {m: (ROOT / m).read_text() for m in self.modules}
        self.file = FOLDER / "results.jsonl"
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.results = {row["id"]: row for row in map(json.loads, lines)}
        self.rows: list[dict[str, Any]] = []
        self.stale = [name for name in BY_HAND if BY_HAND[name][0] in self.modules]
        self.unreached: dict[str, int] = {}
        self.possible: dict[str, int] = {}

    def choose(self, reached: Reached) -> Iterator[Mutant]:
        """Yield the mutants to run now."""
        for mutant in self._sample(reached):
            known = self.results.get(self._id(mutant))
            if known and (
                known["verdict"] not in SURVIVED or known.get("tests") == self._tests(mutant)
            ):
                self.rows.append(known)
            else:
                yield mutant

    def _sample(self, reached: Reached) -> Iterable[Mutant]:
        chosen: list[Mutant] = []
        pools: dict[str, list[Mutant]] = {}
        for module, source in self.sources.items():
            for name, (where, old, new) in BY_HAND.items():
                made = by_hand(source, module, name, old, new) if where == module else None
                if made is not None:
                    self.stale.remove(name)
                    chosen.append(made)
            if module in HAND_ONLY:
                continue
            lines = {n for _, where in reached.values() for n in where.get(module, ())}
            mutants = [
                m for m in all_mutants(source, module)
                if m.function not in ELSEWHERE.get(module, ()) and is_python(m.apply(source))
            ]  # fmt: skip
            pools[module] = [m for m in mutants if not lines.isdisjoint(m.lines)]
            self.possible[module] = len(mutants)
            self.unreached[module] = len(mutants) - len(pools[module])
        total = sum(map(len, pools.values()))
        for pool in pools.values():
            share = max(4, round(self.options.count * len(pool) / max(total, 1)))
            chosen += sorted(pool, key=lambda m: m.order(self.options.seed))[:share]
        return chosen

    def _id(self, mutant: Mutant) -> str:
        told = (self.sources[mutant.module], mutant.key, mutant.span, mutant.name)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    def _tests(self, mutant: Mutant) -> str:
        """Return a hash of the tests that guard a mutant: a survivor is run again with others."""
        told = [(ROOT / test_file(t)).read_bytes() for t in GUARDS[mutant.module]]
        return hashlib.sha256(b"\0".join(told)).hexdigest()[:16]

    def record(self, mutant: Mutant, verdict: str, by: str, seconds: float) -> None:
        """Keep and print one result."""
        row = {
            "id": self._id(mutant), "module": mutant.module, "line": mutant.lines[0],
            "key": mutant.key, "name": mutant.name, "verdict": verdict, "by": by,
            "seconds": round(seconds, 2), "tests": self._tests(mutant),
        }  # fmt: skip
        self.rows.append(row)
        with self.file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(f"{len(self.rows):4d} {verdict:9s} {seconds:5.1f} s  {mutant.key}", flush=True)

    def publish(self) -> None:
        """Print the score, and write the table when all modules were asked for."""
        text = table(self.rows, self.possible, self.unreached, self.stale, self.options)
        print(text)
        if not self.options.only:
            TABLE.write_text(text)


def table(
    rows: list[dict[str, Any]],
    possible: dict[str, int],
    unreached: dict[str, int],
    stale: list[str],
    options: argparse.Namespace,
) -> str:
    """Return the results as Markdown."""
    excused = [r for r in rows if r["verdict"] in SURVIVED and excuse(r["key"])]
    survivors = [r for r in rows if r["verdict"] in SURVIVED and r not in excused]
    counted = [r for r in rows if r not in excused and r["verdict"] != "not installed"]
    killed = len(counted) - len(survivors)
    made = [r for r in counted if not r["name"]]
    lines = [
        "# Mutants",
        "",
        f"{killed} of {len(counted)} mutants are noticed by a test: "
        f"**{killed / max(len(counted), 1):.1%}**. {len(made)} of them are a sample (seed "
        f"{options.seed}) of the {sum(possible.values()):,} that the syntax trees give, the others "
        f"were made by hand. {len(excused)} more cannot be told from the code, as said below. "
        f"{sum(unreached.values())} of those possible are on lines that no guarding test reaches. "
        f"Made by `python -m tests.mutation` at commit {_commit()}.",
        "",
        "| module | possible | not reached | run | killed |",
        "|---|---:|---:|---:|---:|",
    ]
    for module in sorted({r["module"] for r in counted}):
        here = [r for r in counted if r["module"] == module]
        dead = sum(r["verdict"] not in SURVIVED for r in here)
        lines.append(
            f"| {module} | {possible.get(module, 0)} | {unreached.get(module, 0)} "
            f"| {len(here)} | {dead} |"
        )
    lines += ["", "## Survivors", ""]
    lines += [f"- line {r['line']} of {_code(r)}" for r in survivors] or ["None."]
    lines += ["", "## Equivalent", ""]
    lines += [f"- {_code(r)}: {excuse(r['key'])}" for r in excused] or ["None."]
    if stale:
        lines += ["", "## Made by hand for a text that is no longer there", ""]
        lines += [f"- {name}" for name in stale]
    return "\n".join(lines) + "\n"


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def _code(row: dict[str, Any]) -> str:
    return f"`{row['key']}`" + (f" ({row['name']})" if row["name"] else "")


if __name__ == "__main__":
    sys.exit(main())
