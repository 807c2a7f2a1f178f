"""Artefacts that compute their own rows: ``python -m experiments`` hands their names to here."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


from experiments.kit.artefact import Artefact, stored_config, unknown_settings
from experiments.kit.judge import exit_code
from experiments.kit.settings import origin, sentences
from experiments.kit.store import RESULTS, Row, read_rows
from landscape.cli.arguments import Parser, output_folder, seed
from landscape.cli.guard import guarded, resuming
from landscape.cli.output import print_json
from landscape.errors import UserError
from landscape.sources.carriers import OPTIONAL, missing

ARTEFACTS: dict[str, Artefact] = {
    file.ARTEFACT.name: file.ARTEFACT
    for file in ()
}


EXIT_CODES = (
    "exit code: 0 all statements hold, 1 a statement fails, 2 a mistake in the call, "
    "3 no statement fails but the rows leave one undecided (too few seeds, too wide an interval)"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, one of `landscape.cli.guard`."""
    return guarded(command, arguments)


def command(arguments: list[str]) -> int:
    """Carry a command out."""
    chosen = _parser().parse_args(arguments)
    return int(chosen.command(chosen))


def _parser() -> Parser:
    parser = Parser(prog="python -m experiments", description=__doc__, epilog=EXIT_CODES)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, command, text in (
        ("run", _run, "compute the rows that are missing"),
        ("render", _render, "draw figure, table and page from the rows"),
        ("check", _check, "compare the rows with the paper's statements"),
    ):
        sub = commands.add_parser(name, help=text, epilog=EXIT_CODES if name == "check" else None)
        sub.set_defaults(command=command)
        names = sub.add_subparsers(required=True, metavar="artefact")
        for artefact in ARTEFACTS.values():
            one = names.add_parser(artefact.name, help=artefact.title, epilog=sub.epilog)
            one.set_defaults(artefact=artefact)
            one.add_argument("--preset", default="smoke", help=", ".join(artefact.presets))
            kind = output_folder if name == "run" else Path
            one.add_argument("--output", type=kind, help="folder of the results")
            if name == "run":
                one.add_argument(
                    "--seed", type=seed, nargs="+", help="seeds, instead of the preset's"
                )
                one.description = (
                    "Options replace values of the preset; in brackets: the default, which the "
                    "preset paper has, and whether it is a paper's or ours."
                )
                _config_arguments(one, artefact.config)
    return parser


def _config_arguments(parser: argparse.ArgumentParser, config: type) -> None:
    """Make every field of the configuration into an option that says whose its default is."""
    said = sentences(config)
    for field in dataclasses.fields(config):
        if field.name == "seeds":
            continue
        sample: Any = field.default
        many = isinstance(sample, tuple)
        kind = type(sample[0]) if many else type(sample)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", dest=f"set_{field.name}", type=kind,
            metavar=kind.__name__.upper(),
            nargs="+" if many else None,
            help=f"{said[field.name]} ({origin(field)}: {_plain(sample)})".replace("%", "%%"),
        )  # fmt: skip


def _plain(value: Any) -> str:
    """Write a default as it is typed."""
    return " ".join(map(_plain, value)) if isinstance(value, tuple) else str(value) or "none"


def _overrides(chosen: argparse.Namespace) -> dict[str, Any]:
    given = {
        key.removeprefix("set_"): tuple(value) if isinstance(value, list) else value
        for key, value in vars(chosen).items()
        if key.startswith("set_") and value is not None
    }
    return given | ({"seeds": tuple(chosen.seed)} if chosen.seed else {})


def _folder(chosen: argparse.Namespace) -> Path:
    default = RESULTS / chosen.artefact.name / chosen.preset
    return Path(chosen.output or default)


def _rows(chosen: argparse.Namespace) -> list[Row]:
    folder = _folder(chosen)
    config = stored_config(chosen.artefact, folder)
    rows = read_rows(folder)
    if not rows:
        raise UserError(
            f"expected rows of {chosen.artefact.name} in {folder}, got none; run it first"
        )
    if unknown := unknown_settings(config):
        print(f"{folder} was run before there was {', '.join(unknown)}: unknown", file=sys.stderr)
    elif len(rows) < (wanted := len(chosen.artefact.expected(config))):
        print(f"{folder} is not finished: {len(rows)} of {wanted} rows", file=sys.stderr)
    return rows


def listed() -> str:
    """List the artefacts, their presets and what they need."""
    return "\n".join(
        f"{artefact.name:10} {artefact.title}  [{artefact.source}]\n"
        f"{'':10} presets: {', '.join(artefact.presets)}{_needs(artefact)}"
        for artefact in ARTEFACTS.values()
    )


def _needs(artefact: Artefact) -> str:
    """Say which optional packages an artefact needs, and how to get those that are missing."""
    if not artefact.needs:
        return ""
    state = missing(*artefact.needs) or "installed"
    return f"; needs {', '.join(OPTIONAL[m] for m in artefact.needs)} ({state})"


def _run(chosen: argparse.Namespace) -> int:
    config = chosen.artefact.configure(chosen.preset, _overrides(chosen))
    folder = _folder(chosen)
    with resuming(folder, "rows.jsonl"):
        rows = chosen.artefact.run(config, folder)
    print(f"{len(rows)} rows in {folder / 'rows.jsonl'}")
    return 0


def _render(chosen: argparse.Namespace) -> int:
    rows = _rows(chosen)
    for path in chosen.artefact.render(rows, _folder(chosen)):
        print(path)
    return 0


def _check(chosen: argparse.Namespace) -> int:
    findings = chosen.artefact.check(_rows(chosen))
    for finding in findings:
        print(f"{finding.marked}: {finding.statement}")
        print(f"    {finding.evidence}")
    print_json([dataclasses.asdict(f) for f in findings])
    return exit_code(findings)
