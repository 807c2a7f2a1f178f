"""``landscape runs list | show | compare | tidy | import | export``: what a store of runs holds."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from landscape.cli.arguments import output_file, output_folder
from landscape.cli.parser import Commands, Parser
from landscape.cli.runs.comparing import compare_runs
from landscape.cli.runs.keeping import export_runs, import_runs, tidy_runs
from landscape.cli.runs.listing import list_runs
from landscape.cli.runs.showing import show_run
from landscape.cli.shared import Outcome, json_argument

_STORE = "folder of a sweep"
_SOURCE = f"{_STORE}, or a file of published rows"
_GROUP = (
    "address, its beginning, or conditions joined by commas, method=random,ratio=0.001; a column "
    "that is named again may have either value: seed=0,seed=1"
)


def add(commands: Commands) -> None:
    """Declare the commands."""
    runs = commands.add_parser("runs", help="list, show, compare, tidy, move finished runs")
    kinds = runs.add_subparsers(required=True, metavar="what")
    listed = _declare(kinds, "list", list_runs, "list runs in a table of what varies")
    listed.add_argument("source", metavar="FOLDER", help=_SOURCE)
    _where(listed)
    listed.add_argument("--sort", metavar="COLUMN", help="order by this column (what varies)")
    shown = _declare(kinds, "show", show_run, "show everything of a run")
    shown.add_argument("source", metavar="FOLDER", help=_SOURCE)
    shown.add_argument("address", metavar="ADDRESS", help="of the run, or the beginning of one")
    compared = _declare(
        kinds, "compare", compare_runs, "compare two runs, or two groups pair by pair"
    )
    compared.add_argument("source", metavar="FOLDER", help=_SOURCE)
    compared.add_argument("first", metavar="A", help=_GROUP)
    compared.add_argument("second", metavar="B", help="as A")
    tidied = _declare(
        kinds, "tidy", tidy_runs, "say what could be removed, or remove it; no row ever is"
    )
    tidied.add_argument("source", metavar="FOLDER", help=_STORE)
    tidied.add_argument("--yes", action="store_true", help="remove it (only say it)")
    taken = _declare(kinds, "import", import_runs, "take in rows that were made elsewhere")
    taken.add_argument(
        "folder", metavar="FOLDER", type=output_folder, help=f"{_STORE}, or a new one"
    )
    taken.add_argument(
        "source", metavar="FILE", help=f"of rows that `runs export` wrote, or another {_STORE}"
    )
    given = _declare(kinds, "export", export_runs, "write rows into one file")
    given.add_argument("source", metavar="FOLDER", help=_SOURCE)
    given.add_argument(
        "output", metavar="FILE", type=output_file, help="to write, such as rows.jsonl.gz"
    )
    _where(given)


def _declare(
    kinds: Commands, name: str, command: Callable[[argparse.Namespace], Outcome], purpose: str
) -> Parser:
    parser = kinds.add_parser(name, help=purpose)
    json_argument(parser)
    parser.set_defaults(command=command)
    return parser


def _where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--where", nargs="+", action="extend", metavar="COLUMN=VALUE", default=[],
        help="runs that meet all, method=random ratio=0.001, apart or joined by commas; a column "
        "that is named again may have either value: seed=0 seed=1",
    )  # fmt: skip
