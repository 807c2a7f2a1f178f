"""How a command line is read and explained: one sentence for a mistake, a page for --help."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, NoReturn, TypeAlias

from landscape.errors import UserError

#: to what a command adds its parser
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
#: options that a line of usage names one by one; of more it names those that are needed
MANY = 8


class Parser(argparse.ArgumentParser):
    """Say a mistake in one sentence, as a `UserError`, instead of printing the usage."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{"formatter_class": Help, **given})
        self.register("action", "parsers", _Commands)
        # `landscape.cli.guard` reads it, wherever it stands
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS,
                          help="show where a mistake was found")  # fmt: skip

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Offer the nearest option for one that this command has not, before values are read."""
        known = [o[2:] for o in self._option_string_actions if o.startswith("--")]
        for word in () if self._subparsers else args or ():
            name = word.removeprefix("--").partition("=")[0]
            strange = word.startswith("--") and not any(o.startswith(name) for o in known)
            if strange and (near := get_close_matches(name, known, n=1, cutoff=0.7)):
                asked = f"expected an option of {self.prog}, got --{name}"
                self.error(f"{asked}; did you mean --{near[0]}?")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise the sentence, with the command that explains the arguments."""
        raise UserError(message if "; " in message else f"{message}; see {self.prog} --help")


class Help(argparse.HelpFormatter):
    """Write help in which usage is a line, and a value is named by its kind."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def add_usage(
        self, usage: str | None, actions: Iterable[argparse.Action], groups: Any,
        prefix: str | None = None,
    ) -> None:  # fmt: skip
        """Name the arguments; of many the needed ones."""
        named = list(actions)
        if len(named) > MANY:
            more = argparse.Action([], "options", metavar="[options]")
            named = [*(a for a in named if a.required or not a.option_strings), more]
            groups = []
        super().add_usage(usage, named, groups, prefix)

    def add_argument(self, action: argparse.Action) -> None:
        """Leave room for the names of commands, which stand further in than options."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment

    def _split_lines(self, text: str, width: int) -> list[str]:
        """Break between words, never within an option's name."""
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        """Return what a value is called that has no name of its own: by its reader, if it says."""
        found: str = getattr(action.type, "metavar", "")
        return found or super()._get_default_metavar_for_optional(action)


class _Commands(argparse._SubParsersAction):  # type: ignore[type-arg]
    """Begin a command's own help with what the list of commands says of it."""

    def add_parser(self, name: str, **given: Any) -> Any:
        about = given.get("help") or ""
        described = f"{about[:1].upper()}{about[1:]}." if about else None
        return super().add_parser(name, **{"description": described, **given})
