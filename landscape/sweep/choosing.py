"""Choosing runs: by what their columns hold, or by the beginning of an address."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from landscape.errors import UserError
from landscape.sweep.naming import nearest

if TYPE_CHECKING:
    from pandas import DataFrame, Series

_SHOWN = 6


def conditions(words: Sequence[str]) -> dict[str, list[str]]:
    """Read conditions: column -> the values that it may have.

    Args:
        words: each some ``column=value``, joined with commas; one inside brackets joins nothing.

    Raises:
        UserError: one is no such pair.

    >>> conditions(["method=random,seed=0", "seed=1"])
    {'method': ['random'], 'seed': ['0', '1']}
    >>> conditions(["settings.betas=[0.9,0.99],seed=0"])
    {'settings.betas': ['[0.9,0.99]'], 'seed': ['0']}
    """
    found: dict[str, list[str]] = {}
    for word in (part for words_ in words for part in re.split(r",(?![^\[]*\])", words_)):
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise UserError(
                f"expected conditions such as method=random, got {word!r}; write column=value"
            )
        found.setdefault(name, []).append(value)
    return found


def chosen(frame: DataFrame, wanted: Mapping[str, Sequence[str]]) -> DataFrame:
    """Return the rows of a frame of runs that meet all conditions.

    Args:
        frame: of `landscape.runs`.
        wanted: of `conditions`. Numbers that are no wholes are compared as `shown` shows them, to
            four digits; ``none`` is a value that is missing.

    Raises:
        UserError: a column that the frame lacks, or a value that is no number where the column's
            are.
    """
    for name, values in wanted.items():
        column = frame[known(frame, name)]
        met = column.isna() & False
        for value in values:
            met |= _meets(column, value)
        frame = frame[met]
    return frame


def known(frame: DataFrame, name: str) -> str:
    """Return the name of a column, if the frame has it.

    Raises:
        UserError: it has not; those that begin with it, or the nearest one, are offered.
    """
    if name not in frame.columns:
        names = list(frame.columns)
        listed = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        longer = [n for n in names if n.startswith(f"{name}_") and not n.endswith("_n")]
        do = f"; did you mean {' or '.join(longer)}?" if longer else nearest(name, names)
        raise UserError(f"expected a column ({listed}), got {name!r}{do}")
    return name


def address_of(prefix: str, addresses: Sequence[str]) -> str:
    """Return the one address that begins so.

    Raises:
        UserError: none does, or several do; the nearest one is offered.
    """
    found = [address for address in addresses if address.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if found:
        few = ", ".join(found[:3])
        raise UserError(
            f"expected the beginning of one address, got {prefix!r} of {len(found)} ({few}); write "
            "more of it"
        )
    do = nearest(prefix, addresses) if addresses else "; no run is finished here yet"
    raise UserError(f"expected the address of a finished run, got {prefix!r}{do}")


def shown(value: object) -> str:
    """Return a value of a column in few words.

    >>> shown(0.00012345678), shown(None), shown(True), shown(1000)
    ('0.0001235', 'none', 'yes', '1000')
    """
    from pandas import NA

    if value is None or value is NA or value != value:
        return "none"
    if str(value) in ("True", "False"):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _meets(column: Series, value: str) -> Series:
    """Tell of each entry of a column whether it is a value."""
    from pandas.api.types import is_bool_dtype, is_float_dtype, is_integer_dtype

    if value == "none":
        return column.isna()
    if is_bool_dtype(column.dtype):
        return column.map(shown).isin([{"true": "yes", "false": "no"}.get(value.lower(), value)])
    try:
        if is_integer_dtype(column.dtype):
            return (column == int(value)).fillna(False).astype(bool)
        if is_float_dtype(column.dtype):
            return column.map(shown) == shown(float(value))
    except ValueError:
        raise UserError(
            f"expected a number for {column.name}, got {value!r}; its values are numbers"
        ) from None
    return column.astype(str) == value
