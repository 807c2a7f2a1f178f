"""Arguments: one check for each kind of value, shared by the library and the command line.

Each returns the value in its plain Python type, so that what is checked is also what is stored:
numpy's numbers are accepted, booleans and texts are not numbers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import NoReturn

from landscape.errors import UserError

SEEDS = 2**32
"""Seeds are from 0 to below this, the range that every generator in use takes."""


def whole(name: str, value: object, *, least: int | None = 0, most: int | None = None) -> int:
    """Return a whole number.

    Args:
        name: what the sentence calls it; "" where its surroundings say it.
        value: an int, or an integer of numpy.
        least, most: the range, ends included; None where the caller judges it.

    Raises:
        UserError: another type, or out of range.

    >>> whole("epochs", 3, least=1)
    3
    """
    kind = "a whole number" if least is None else f"a whole number of at least {least:,}"
    if most is not None:
        kind = f"a whole number from {least:,} to {most:,}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        refuse(name, kind, value, "give such a number")
    found = int(value)
    if (least is not None and found < least) or (most is not None and found > most):
        refuse(name, kind, value, "choose one in this range")
    return found


def number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    infinite: bool = False,
) -> float:
    """Return a number.

    Args:
        name: what the sentence calls it; "" where its surroundings say it.
        value: a float or int, or a scalar of numpy.
        above, least: its lower end, left out or included.
        below, most: its upper end, left out or included.
        infinite: whether infinity is legal.

    Raises:
        UserError: another type, NaN, or out of range.

    >>> number("lr", 1e-3, above=0)
    0.001
    """
    ends = {"above": above, "of at least": least, "below": below, "of at most": most}
    limits = [f"{word} {end:g}" for word, end in ends.items() if end is not None]
    kind = " ".join(["a number" if infinite else "a finite number", " and ".join(limits)]).strip()
    if isinstance(value, bool) or not isinstance(value, Real):
        refuse(name, kind, value, "give such a number")
    found = float(value)
    legal = (
        not math.isnan(found)
        and (infinite or math.isfinite(found))
        and (above is None or found > above)
        and (least is None or found >= least)
        and (below is None or found < below)
        and (most is None or found <= most)
    )
    if not legal:
        refuse(name, kind, value, "choose one in this range")
    return found


def seed(value: object, name: str = "seed") -> int:
    """Return a seed: a whole number from 0 to below 2^32.

    Raises:
        UserError: anything else.
    """
    return whole(name, value, least=0, most=SEEDS - 1)


def choice(name: str, value: object, choices: Iterable[str]) -> str:
    """Return a value that is one of a few texts.

    Raises:
        UserError: anything else.
    """
    known = list(choices)
    if not (isinstance(value, str) and value in known):
        refuse(name, f"one of {', '.join(known)}", value, "check the spelling")
    return value


def flag(name: str, value: object) -> bool:
    """Return True or False.

    Raises:
        UserError: anything else.
    """
    if not isinstance(value, bool):
        refuse(name, "True or False", value, "give one of the two")
    return value


def text(name: str, value: object) -> str:
    """Return a text.

    Raises:
        UserError: anything else.
    """
    if not isinstance(value, str):
        refuse(name, "a text", value, "give a str")
    return value


def texts(name: str, value: object) -> tuple[str, ...]:
    """Return a sequence of texts; one text alone, which is a sequence of letters, is none.

    Raises:
        UserError: anything else.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        refuse(name, "a tuple of texts", value, "write one text as ('text',)")
    for item in value:
        if not isinstance(item, str):
            refuse(name, "a tuple of texts", item, "give each as a str")
    return tuple(value)


def patterns(name: str, value: object) -> list[str]:
    """Return shell patterns, given as one text or as several.

    Raises:
        UserError: anything else, or none.
    """
    found = [value] if isinstance(value, str) else list(texts(name, value))
    if not found:
        refuse(name, "at least one pattern", value, "name the modules, such as '*.q_proj'")
    return found


def path(name: str, value: object) -> str:
    """Return a path as a text, ``~`` written out.

    Raises:
        UserError: neither a text nor a path, or an empty one.
    """
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        refuse(name, "a path", value, "give it as a text or a Path")
    return os.path.expanduser(os.fspath(value))


def new_file(name: str, value: object) -> str:
    """Return the path of a file to write as a text, ``~`` written out.

    Raises:
        UserError: as `path`, or a folder is there.
    """
    found = path(name, value)
    if os.path.isdir(found):
        refuse(name, "a file to write", f"the folder {found}", "name a file in it")
    return found


def instance(name: str, value: object, kind: type | tuple[type, ...], do: str) -> None:
    """Refuse a value of another type.

    Raises:
        UserError: it is one; `do` says what to give.
    """
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        refuse(name, " or ".join(f"a {one.__name__}" for one in kinds), value, do)


def model(value: object) -> None:
    """Refuse what is no model.

    Raises:
        UserError: it is none.
    """
    has("model", value, "a torch.nn.Module", "named_modules", do="load or build one")


def operator(value: object) -> None:
    """Refuse what is no linear operator.

    Raises:
        UserError: it is none.
    """
    has("operator", value, "a LinearOperator", "matvec", "size", do="make one, as HessianOperator")


def tokenizer(value: object) -> None:
    """Refuse what is neither a tokenizer nor, of an image model, an image processor.

    Raises:
        UserError: it is none.
    """
    if not hasattr(value, "preprocess"):
        do = "take the one that load_model gives"
        has("tokenizer", value, "a tokenizer", "pad_token_id", do=do)


def has(name: str, value: object, kind: str, *attributes: str, do: str) -> None:
    """Refuse a value that lacks what its kind has, without importing the kind.

    Raises:
        UserError: an attribute is missing; `do` says what to give.
    """
    if isinstance(value, type) or not all(hasattr(value, attribute) for attribute in attributes):
        refuse(name, kind, value, do)


def several(name: str, value: object, of: str) -> None:
    """Refuse what cannot be gone through, and texts and mappings, which are not meant.

    Raises:
        UserError: it is one of these; `of` says what its items should be.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        refuse(name, f"a sequence of {of}", value, "give a list")


def refuse(name: str, kind: str, value: object, do: str) -> NoReturn:
    """Raise the sentence of a wrong argument: what was expected, what came, what to do."""
    what = f"{name} to be {kind}" if name else kind
    raise UserError(f"expected {what}, got {shown(value)}; {do}")


def shown(value: object) -> str:
    """Return a value in few words, for a sentence.

    >>> shown(True), shown("0.1"), shown(-1)
    ('True', "the text '0.1'", '-1')
    """
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if value is None or isinstance(value, bool | Real):
        return str(value)
    if hasattr(value, "shape"):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    written = repr(value) if isinstance(value, list | tuple | dict | set) else ""
    return written if 0 < len(written) <= 60 else f"a {type(value).__name__}"
