"""``python -m experiments list | run | render | publish | check | ledger | verify``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from experiments.catalogue import artefact, artefacts
from experiments.kit.judge import Finding, exit_code, settle
from experiments.kit.published import file_of, folder_of, is_published, publish, rows_at, store_of
from experiments.kit.records import Row
from experiments.kit.view import PRESETS, Artefact
from landscape.cli.arguments import Parser, output_folder, whole
from landscape.cli.guard import DONE, FAILED, guarded, resuming
from landscape.cli.output import print_json
from landscape.errors import UserError
from landscape.sources.carriers import OPTIONAL, require
from landscape.sources.carriers import missing as missing_packages
from landscape.sweep.grid import Grid
from landscape.sweep.naming import known

EXIT_CODES = (
    "exit code: 0 all statements hold, 1 a statement fails, 2 a mistake in the call, "
    "3 no statement fails but the rows leave one undecided (too few seeds, too wide an interval)"
)
COMMANDS = {
    "run": "compute the runs that a store lacks",
    "render": "draw figure, table and page from rows",
    "publish": "add the rows used to the published ones, and render them",
    "check": "judge the statements, and whether the published table is what the rows say",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, one of `landscape.cli.guard`."""
    return guarded(_command, arguments)


def _command(arguments: list[str]) -> int:
    chosen = _parser().parse_args(arguments)
    return int(chosen.command(chosen))


def _parser() -> Parser:
    parser = Parser(prog="python -m experiments", description=__doc__, epilog=EXIT_CODES)
    commands = parser.add_subparsers(required=True, metavar="command")
    listing = commands.add_parser("list", help="list the artefacts and their presets")
    listing.set_defaults(command=_list)
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, epilog=EXIT_CODES)
        sub.set_defaults(command=globals()[f"_{name}"])
        sub.add_argument("artefact", nargs="*", help="names; none means all")
        _common(sub, store=output_folder if name == "run" else Path)
        if name == "run":
            _computing(sub)
        if name == "render":
            sub.add_argument("--output", type=output_folder, help="folder of the view")
    ledger = commands.add_parser("ledger", help="write the table of all claims")
    ledger.add_argument("--check", action="store_true", help="only say whether it is current")
    ledger.set_defaults(command=_ledger)
    verify = commands.add_parser("verify", help="judge a claim again by seeds nobody has used")
    verify.add_argument("claim", help="its name in the ledger")
    verify.add_argument("--fresh-seeds", type=whole(least=1), default=3, help="how many (3)")
    _common(verify, "local", output_folder)
    _computing(verify)
    verify.set_defaults(command=_verify)
    return parser


def _common(
    parser: argparse.ArgumentParser, preset: str = "smoke", store: Callable[[str], object] = Path
) -> None:
    parser.add_argument("--preset", default=preset, help=f"{', '.join(PRESETS)} ({preset})")
    parser.add_argument("--store", type=store, help="folder of the runs (experiments/store/PRESET)")


def _computing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--executor", default="local", help="local, packed or ray (local)")
    parser.add_argument("--workers", type=whole(least=1), default=1, help="processes of local (1)")
    parser.add_argument("--address", help="of a Ray cluster")
    parser.add_argument("--device", help="such as cuda (the CPU)")
    parser.add_argument(
        "--source", action="append", default=[], metavar="TASK=FOLDER",
        help="a task's files, instead of the hub; repeatable",
    )  # fmt: skip


def _list(chosen: argparse.Namespace) -> int:
    for one in artefacts().values():
        there = [p for p in one.presets if is_published(one, p)]
        print(f"{one.name:10} {one.title}  [{one.source}]")
        print(f"{'':10} presets: {', '.join(one.presets)}; published: {', '.join(there) or 'none'}"
              f"{_needs(one)}")  # fmt: skip
    return DONE


def _needs(one: Artefact) -> str:
    if not one.needs:
        return ""
    state = missing_packages(*one.needs) or "installed"
    return f"; needs {', '.join(OPTIONAL[m] for m in one.needs)} ({state})"


def _run(chosen: argparse.Namespace) -> int:
    named = _named(chosen)
    grids = [grid for one in named for grid in one.of(chosen.preset)]
    for one in named:
        require(f"the artefact {one.name}", *one.needs)
    store = Path(chosen.store or store_of(chosen.preset))
    compute(chosen, grids, store)
    print(f"{', '.join(one.name for one in named)}: all runs are in {store}")
    return DONE


def compute(chosen: argparse.Namespace, grids: Sequence[Grid], store: Path) -> None:
    """Compute the runs of some grids as the command line says."""
    from landscape.sweep.driver import executor_of, run_grid

    workers = {"workers": chosen.workers} if chosen.executor == "local" else {}
    executor = executor_of(chosen.executor, address=chosen.address, **workers)
    with resuming(store, "store.json"):
        run_grid(
            grids, store, executor=executor, sources=_sources(chosen.source), device=chosen.device
        )


def _sources(given: Sequence[str]) -> dict[str, str]:
    for text in given:
        if "=" not in text:
            raise UserError(f"expected --source TASK=FOLDER, got {text!r}; name the task as well")
    return dict(text.split("=", 1) for text in given)


def _named(chosen: argparse.Namespace) -> list[Artefact]:
    """Return the artefacts named, all that have the preset where none is."""
    if chosen.artefact:
        named = [artefact(name) for name in chosen.artefact]
        for one in named:
            one.of(chosen.preset)
        return named
    return [one for one in artefacts().values() if chosen.preset in one.presets]


def _rows(chosen: argparse.Namespace, one: Artefact) -> tuple[list[Row], Path]:
    """Return an artefact's rows, from the store named, else published, and its view's folder."""
    published = file_of(chosen.preset)
    if chosen.store or not published.exists():
        store = Path(chosen.store or store_of(chosen.preset))
        return rows_at(store, one, chosen.preset), store / "views" / one.name
    return rows_at(published, one, chosen.preset), folder_of(one, chosen.preset)


def _render(chosen: argparse.Namespace) -> int:
    from experiments.kit.rendering import render, table_text

    for one in _named(chosen):
        rows, folder = _rows(chosen, one)
        print(table_text(one, rows, chosen.preset))
        for path in render(one, rows, chosen.preset, Path(chosen.output or folder)):
            print(path)
    return DONE


def _publish(chosen: argparse.Namespace) -> int:
    from experiments.kit.rendering import render

    for one in _named(chosen):
        publish(one, chosen.preset, chosen.store or store_of(chosen.preset))
        rows = rows_at(file_of(chosen.preset), one, chosen.preset)
        for path in render(one, rows, chosen.preset, folder_of(one, chosen.preset)):
            print(path)
    return DONE


def _check(chosen: argparse.Namespace) -> int:
    found: list[dict[str, object]] = []
    findings: list[Finding] = []
    for one in _named(chosen):
        rows, folder = _rows(chosen, one)
        judged = one.findings(one.records(rows, one.of(chosen.preset)))
        if unfinished := one.unfinished(rows, chosen.preset):
            print(f"{one.name}: {unfinished}", file=sys.stderr)
        if (folder / "table.md").exists():
            judged["published"] = _current(one, rows, chosen.preset, folder)
        for name, finding in judged.items():
            print(f"{finding.marked}: {finding.statement}\n    {finding.evidence}")
            plain = {f.name: getattr(finding, f.name) for f in dataclasses.fields(Finding)}
            found.append({"artefact": one.name, "name": name, **plain})
        findings += judged.values()
    print_json(found)
    return exit_code(findings)


def _current(one: Artefact, rows: Sequence[Row], preset: str, folder: Path) -> Finding:
    from experiments.kit.rendering import table_text

    same = (folder / "table.md").read_text(encoding="utf-8") == table_text(one, rows, preset)
    said = "the same" if same else "another: render it again, or find out who altered it"
    return Finding("the table shown is what the rows say", settle(same), f"{folder}: {said}")


def _ledger(chosen: argparse.Namespace) -> int:
    from experiments.claims import PAPERS
    from experiments.ledger import LEDGER, text_of, write

    if not chosen.check:
        print(write(PAPERS, artefacts()))
        return DONE
    there = LEDGER.read_text(encoding="utf-8") if LEDGER.exists() else ""
    current = there == text_of(PAPERS, artefacts())
    print(f"{LEDGER.name} is {'what' if current else 'not what'} the rows say")
    return DONE if current else FAILED


def _verify(chosen: argparse.Namespace) -> int:
    from experiments.claims import CLAIMS, PAPERS
    from experiments.ledger import write
    from experiments.verification import verify, verify_theorem

    claims = {claim.id: claim for claim in CLAIMS}
    claim = claims[known("a claim of the ledger", chosen.claim, claims)]
    if claim.artefact:
        one = artefact(claim.artefact)
        store, there = Path(chosen.store or store_of(chosen.preset)), file_of(chosen.preset)
        rows = rows_at(there if there.exists() else store, one, chosen.preset)
        ours = partial(compute, chosen)
        done = verify(claim, one, chosen.preset, rows, chosen.fresh_seeds, store, ours)
    else:
        done = verify_theorem(claim, chosen.fresh_seeds)
    print(done.sentence())
    for name, evidence in done.evidence.items():
        print(f"{name}: {evidence}")
    print(write(PAPERS, artefacts()))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
