"""``python -m experiments list | run | render | publish | check | ledger | verify``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from experiments.catalogue import artefact, artefacts
from experiments.computing import compute, computing_arguments, cost, dry_run_argument
from experiments.kit.judge import CODES, Finding, exit_code, settle
from experiments.kit.published import file_of, folder_of, is_published, publish, rows_at, store_of
from experiments.kit.records import Row
from experiments.kit.view import PRESETS, Artefact
from experiments.verified import Verification
from landscape.cli.arguments import output_folder, whole
from landscape.cli.guard import DONE, FAILED, UNDECIDED, guarded, leaving, resuming
from landscape.cli.parser import Parser
from landscape.cli.shared import Outcome, json_argument, run
from landscape.errors import UserError
from landscape.sources.carriers import OPTIONAL, require
from landscape.sources.carriers import missing as missing_packages
from landscape.sweep.naming import known

EXIT_CODES = (
    "Exit codes of check and verify: 0 all statements hold, 1 a statement fails, 2 a mistake in "
    "the call, 3 no statement fails but the rows leave one undecided (too few seeds, too wide an "
    "interval) or lack runs"
)
#: which runs a command is about where --store names none
RUNS = "experiments/store/PRESET"
ROWS = f"the published rows, else {RUNS}"
COMMANDS = {
    "run": "compute the runs that the store lacks; what is there stays and is not computed again",
    "render": "draw figure, table and page from rows",
    "publish": "add the rows used to the published ones, and render them",
    "check": "judge the statements, and whether the published table and page are what the rows say",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, one of `landscape.cli.guard`."""
    return guarded(_command, arguments)


def _command(arguments: list[str]) -> int:
    chosen = _parser().parse_args(arguments)
    return run(chosen.command, chosen)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m experiments",
        description="The papers' tables and figures, and ours (artefacts), as views of runs that "
        "are computed once. A preset says at what size: smoke shows in minutes that all works, "
        "local measures on packaged models, paper asks for what the papers did.",
        epilog=EXIT_CODES,
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    listing = commands.add_parser("list", help="list the artefacts and their presets")
    json_argument(listing)
    listing.set_defaults(command=_list)
    for name, text in COMMANDS.items():
        rows = ROWS if name in ("render", "check") else RUNS
        codes = EXIT_CODES if name == "check" else None
        sub = commands.add_parser(name, help=text, epilog=codes)
        sub.set_defaults(command=globals()[f"_{name}"])
        sub.add_argument(
            "artefact", nargs="*", help="names, as `list` tells them (all of the preset)"
        )
        _common(sub, store=output_folder if name == "run" else Path, rows=rows)
        if name == "run":
            computing_arguments(sub)
            dry_run_argument(sub)
        if name == "render":
            about = "folder of the view (the published one, or in --store)"
            sub.add_argument("--output", type=output_folder, help=about)
    ledger = commands.add_parser(
        "ledger", help="write the table of all claims and their verdicts, LEDGER.md"
    )
    ledger.add_argument(
        "--check", action="store_true", help="only say whether it is current, write nothing"
    )
    json_argument(ledger)
    ledger.set_defaults(command=_ledger)
    verify = commands.add_parser(
        "verify", help="judge claims again by seeds nobody has used", epilog=EXIT_CODES
    )
    verify.add_argument(
        "claim",
        nargs="+",
        help="names of the first column of LEDGER.md; runs they share are computed once",
    )
    verify.add_argument(
        "--fresh-seeds", type=whole(least=1), default=3, help="seeds beyond those of the rows (3)"
    )
    _common(verify, "local", output_folder)
    computing_arguments(verify)
    verify.set_defaults(command=_verify)
    return parser


def _common(
    parser: argparse.ArgumentParser, preset: str = "smoke",
    store: Callable[[str], object] = Path, rows: str = RUNS,
) -> None:  # fmt: skip
    parser.add_argument(
        "--preset", default=preset, metavar="NAME", help=f"{', '.join(PRESETS)} ({preset})"
    )
    parser.add_argument(
        "--store", type=store, metavar="FOLDER", help=f"folder of the runs ({rows})"
    )
    json_argument(parser)


def _list(chosen: argparse.Namespace) -> Outcome:
    found = artefacts().values()
    wide = max((len(one.name) for one in found), default=0)
    told = []
    for one in found:
        there = [p for p in one.presets if is_published(one, p)]
        print(f"{one.name:{wide}} {one.title}  [{one.source}]")
        print(f"{'':{wide}} presets: {', '.join(one.presets)}; published: "
              f"{', '.join(there) or 'none'}{_needs(one)}")  # fmt: skip
        told.append({"name": one.name, "title": one.title, "source": one.source,
                     "presets": list(one.presets), "published": there,
                     "needs": [OPTIONAL[m] for m in one.needs],
                     "missing": missing_packages(*one.needs)})  # fmt: skip
    return Outcome({"artefacts": told})


def _needs(one: Artefact) -> str:
    if not one.needs:
        return ""
    state = missing_packages(*one.needs) or "installed"
    return f"; needs {', '.join(OPTIONAL[m] for m in one.needs)} ({state})"


def _run(chosen: argparse.Namespace) -> Outcome:
    named = _named(chosen)
    grids = [grid for one in named for grid in one.of(chosen.preset)]
    store = Path(chosen.store or store_of(chosen.preset))
    for one in [] if chosen.dry_run else named:
        require(f"the artefact {one.name}", *one.needs)
    _offer_published(named, chosen.preset, store)
    if chosen.dry_run:
        return cost(chosen, grids, store)
    compute(chosen, grids, store)
    names = [one.name for one in named]
    print(f"{', '.join(names)}: all runs are in {store}")
    return Outcome({"artefacts": names, "preset": chosen.preset, "store": str(store)})


def _offer_published(named: Sequence[Artefact], preset: str, store: Path) -> None:
    """Say how many published runs a store lacks, and how it takes them in."""
    from landscape.sweep.published import read_rows
    from landscape.sweep.store import RunStore

    published = file_of(preset)
    if not published.exists():
        return
    rows = list(read_rows(published).rows())
    used = {row["address"] for one in named for row in one.used(rows, preset)}
    if lacking := len(used.difference(RunStore(store).addresses())):
        print(
            f"{lacking} of these runs are published, and computed again here unless the store "
            f"takes them in: landscape runs import {store} {published}",
            flush=True,
        )


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
        there = [p for p in one.presets if is_published(one, p)]
        if there and not chosen.store and not store.exists():
            raise UserError(
                f"expected runs of {one.name} with preset {chosen.preset}, got none in {store}; "
                f"published are those of --preset {' or '.join(there)}, or compute them: "
                f"python -m experiments run {one.name} --preset {chosen.preset}"
            )
        return rows_at(store, one, chosen.preset), store / "views" / one.name
    return rows_at(published, one, chosen.preset), folder_of(one, chosen.preset)


def _render(chosen: argparse.Namespace) -> Outcome:
    from experiments.kit.rendering import render, table_text

    told = []
    for one in _named(chosen):
        rows, folder = _rows(chosen, one)
        print(table_text(one, rows, chosen.preset))
        with leaving("views may be partly new and partly old: the same command draws them all"):
            files = render(one, rows, chosen.preset, Path(chosen.output or folder))
        told.append(_view(one, rows, chosen.preset, files))
    return Outcome({"views": told})


def _publish(chosen: argparse.Namespace) -> Outcome:
    from experiments.kit.rendering import render

    told = []
    for one in _named(chosen):
        with leaving("rows may be published whose views are not: the same command goes on"):
            publish(one, chosen.preset, chosen.store or store_of(chosen.preset))
            rows = rows_at(file_of(chosen.preset), one, chosen.preset)
            files = render(one, rows, chosen.preset, folder_of(one, chosen.preset))
        told.append(_view(one, rows, chosen.preset, files))
    return Outcome({"views": told})


def _view(
    one: Artefact, rows: Sequence[Row], preset: str, files: Sequence[Path]
) -> dict[str, object]:
    """Print the files of a view, and return what is said of it."""
    for path in files:
        print(path)
    lacking = one.unfinished(rows, preset)
    if lacking:
        print(f"{one.name}: {lacking}", file=sys.stderr)
    return {"artefact": one.name, "preset": preset, "runs": len(rows), "unfinished": lacking,
            "files": [str(path) for path in files]}  # fmt: skip


def _check(chosen: argparse.Namespace) -> Outcome:
    told: list[dict[str, object]] = []
    findings: list[Finding] = []
    lacking: dict[str, str] = {}
    for one in _named(chosen):
        try:
            rows, folder = _rows(chosen, one)
        except UserError as error:
            if chosen.artefact:  # asked for by its name
                raise
            print(f"{one.name}: {error}", file=sys.stderr)
            lacking[one.name] = str(error)
            continue
        judged = one.findings(one.records(rows, one.of(chosen.preset)))
        if unfinished := one.unfinished(rows, chosen.preset):
            print(f"{one.name}: {unfinished}", file=sys.stderr)
            lacking[one.name] = unfinished
        if (folder / "table.md").exists():
            judged |= _current(one, rows, chosen.preset, folder)
        for name, finding in judged.items():
            print(f"{finding.marked}: {finding.statement}\n    {finding.evidence}")
            plain = {f.name: getattr(finding, f.name) for f in dataclasses.fields(Finding)}
            told.append({"artefact": one.name, "name": name, **plain})
        findings += judged.values()
    counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in CODES}
    print(", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    result = {"findings": told, "counts": counts, "unfinished": lacking}
    code = exit_code(findings)
    return Outcome(result, UNDECIDED if lacking and code == DONE else code)


def _current(one: Artefact, rows: Sequence[Row], preset: str, folder: Path) -> dict[str, Finding]:
    """Judge whether a view is what the rows say: its texts, and its figure if it can be told."""
    from experiments.kit.page import undrawn
    from experiments.kit.rendering import is_drawn, page_of, table_text

    table, page, figure = (folder / name for name in ("table.md", "index.html", "figure.png"))
    drawn = is_drawn(one, rows, preset, figure)
    same = _text_of(table) == table_text(one, rows, preset)
    same_page = undrawn(_text_of(page)) == undrawn(page_of(one, rows, preset))
    told = {
        "published": ("the table shown is what the rows say", table, same),
        "published_page": ("the page's texts are what the rows say", page, same_page),
    }
    if drawn is None:
        print(f"{figure}: drawn by another matplotlib, not compared", file=sys.stderr)
    else:
        told["published_figure"] = ("the figure shown is what the rows say", figure, drawn)
    found = {}
    for name, (statement, path, claim) in told.items():
        said = "the same" if claim else "another: render it again, or find out who altered it"
        found[name] = Finding(statement, settle(claim), f"{path}: {said}", kind="exact")
    return found


def _text_of(path: Path) -> str:
    """Return a file's text, none of one that is not there."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _ledger(chosen: argparse.Namespace) -> Outcome:
    from experiments.claims import PAPERS
    from experiments.ledger import LEDGER, text_of, write

    if not chosen.check:
        path = write(PAPERS, artefacts())
        print(path)
        return Outcome({"ledger": str(path), "current": True})
    there = LEDGER.read_text(encoding="utf-8") if LEDGER.exists() else ""
    current = there == text_of(PAPERS, artefacts())
    print(f"{LEDGER.name} is {'what' if current else 'not what'} the rows say")
    return Outcome({"ledger": str(LEDGER), "current": current}, DONE if current else FAILED)


def _verify(chosen: argparse.Namespace) -> Outcome:
    from experiments.claims import CLAIMS, PAPERS
    from experiments.ledger import write
    from experiments.verification import Case, refuse_unjudged, verify, verify_theorem

    ledger = {claim.id: claim for claim in CLAIMS}
    names = dict.fromkeys(known("a claim of the ledger", name, ledger) for name in chosen.claim)
    claims = [ledger[name] for name in names]
    refuse_unjudged(claims)
    store, there = Path(chosen.store or store_of(chosen.preset)), file_of(chosen.preset)
    cases = []
    for name in dict.fromkeys(claim.artefact for claim in claims if claim.artefact):
        one = artefact(name)
        rows = rows_at(there if there.exists() else store, one, chosen.preset)
        cases.append(Case(one, [claim for claim in claims if claim.artefact == name], rows))
    done = []
    if cases:
        with resuming(store, "store.json"):
            done = verify(cases, chosen.preset, chosen.fresh_seeds, store, partial(compute, chosen))
    try:
        with leaving("the verdicts above are recorded, and in the ledger"):
            for verified in done:
                _tell(verified)
            for claim in claims:
                if not claim.artefact:
                    done.append(verify_theorem(claim, chosen.fresh_seeds))
                    _tell(done[-1])
    finally:
        path = write(PAPERS, artefacts())
    print(path)
    result = {"verified": [dataclasses.asdict(one) for one in done], "ledger": str(path)}
    verdicts = {verdict for one in done for verdict in one.alone.values()}
    if verdicts & {"fails", "violated"}:
        return Outcome(result, FAILED)
    return Outcome(result, DONE if verdicts <= {"holds"} else UNDECIDED)


def _tell(verified: Verification) -> None:
    print(f"{verified.claim}: {verified.sentence()}", flush=True)
    for name, evidence in verified.evidence.items():
        print(f"  {name}: {evidence}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
