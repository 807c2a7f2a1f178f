"""``python -m experiments list | run | render | check <artefact>``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import edge, figure4, figure5, linear, rates, selections, spectra, surfaces
from experiments.harness import RESULTS, Artefact, Row, read_rows, stored_config
from experiments.verdict import exit_code
from landscape.cli import guarded
from landscape.errors import UserError

ARTEFACTS: dict[str, Artefact] = {
    file.ARTEFACT.name: file.ARTEFACT
    for file in (figure4, figure5, selections, linear, edge, spectra, surfaces, rates)
}


EXIT_CODES = (
    "exit code: 0 all statements hold, 1 a statement fails, 2 a mistake in the call, "
    "3 no statement fails but the rows leave one undecided (too few seeds, too wide an interval)"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 2 on a mistake, or what `check` found (see its ``--help``)."""
    chosen = _parser().parse_args(arguments)
    return guarded(lambda: int(chosen.command(chosen)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    listing = commands.add_parser("list", help="list the artefacts and their presets")
    listing.set_defaults(command=_list)
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
            one.add_argument("--output", type=Path, help="folder of the results")
            if name == "run":
                one.add_argument(
                    "--seed", type=int, nargs="+", help="seeds, instead of the preset's"
                )
                _config_arguments(one, artefact.config)
    return parser


def _config_arguments(parser: argparse.ArgumentParser, config: type) -> None:
    """Turn every field of the configuration into an option."""
    for field in dataclasses.fields(config):
        if field.name == "seeds":
            continue
        sample: Any = field.default
        many = isinstance(sample, tuple)
        kind = type(sample[0]) if many else type(sample)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", dest=f"set_{field.name}", type=kind,
            nargs="+" if many else None, help=f"paper: {sample}",
        )  # fmt: skip


def _overrides(chosen: argparse.Namespace) -> dict[str, Any]:
    given = {
        key.removeprefix("set_"): tuple(value) if isinstance(value, list) else value
        for key, value in vars(chosen).items()
        if key.startswith("set_") and value is not None
    }
    return given | ({"seeds": tuple(chosen.seed)} if chosen.seed else {})


def _folder(chosen: argparse.Namespace) -> Path:
    default = RESULTS / chosen.artefact.name / chosen.preset
    return chosen.output or default


def _rows(chosen: argparse.Namespace) -> list[Row]:
    folder = _folder(chosen)
    stored_config(chosen.artefact, folder)
    rows = read_rows(folder)
    if not rows:
        raise UserError(f"{folder} holds no rows; run {chosen.artefact.name} first")
    return rows


def _list(chosen: argparse.Namespace) -> int:
    for artefact in ARTEFACTS.values():
        print(f"{artefact.name:10} {artefact.title}  [{artefact.source}]")
        print(f"{'':10} presets: {', '.join(artefact.presets)}")
    return 0


def _run(chosen: argparse.Namespace) -> int:
    config = chosen.artefact.configure(chosen.preset, _overrides(chosen))
    folder = _folder(chosen)
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
    print(json.dumps([dataclasses.asdict(f) for f in findings]))
    return exit_code(findings)


if __name__ == "__main__":
    sys.exit(main())
