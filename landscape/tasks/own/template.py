"""Templates: a prompt with columns' names in braces, filled from a row."""

from __future__ import annotations

import string
from collections.abc import Sequence

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.files.row import Row
from landscape.tasks.own.naming import nearest
from landscape.tasks.own.values import cell, empty


def fields(template: str, columns: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the columns that a template names, in its order.

    Args:
        template: text with columns' names in braces; ``{{`` and ``}}`` stand for braces.
        columns: those that are there; None where that is not known yet.

    Raises:
        UserError: a brace that is alone, none with a name, a name that is no column (the sentence
            offers the nearest), or more than a name in braces.

    >>> fields("{title}: {text} {{sic}}")
    ('title', 'text')
    """
    checks.text("prompt", template)
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UserError(
            f"expected a prompt with columns in braces, got {template!r:.60} ({error}); write a "
            "brace of the text itself as {{ or }}"
        ) from None
    found = []
    for _, name, spec, conversion in parsed:
        if name is None:
            continue
        if spec or conversion:
            raise UserError(
                f"expected a column's name alone in the braces of the prompt, got "
                f"{{{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}}; "
                "leave out what follows the name"
            )
        if columns is not None and name not in columns:
            raise UserError(
                f"expected a column of the data in the braces of the prompt, got {{{name}}}; "
                f"{nearest(name, columns)}"
            )
        found.append(name)
    if not found:
        raise UserError(
            f"expected a prompt with a column in braces, such as {{text}}, got {template!r:.60}, "
            "which is the same for every row; name one"
        )
    return tuple(dict.fromkeys(found))


def fill(template: str, row: Row) -> str:
    """Return a template with a row's values in the place of their columns' names.

    Raises:
        UserError: a value that is no text, number or truth value, or none that is not empty.
    """
    values = {name: cell(row, name) for name in fields(template)}
    if not any(value.strip() for value in values.values()):
        empty(row, *values)
    parts = string.Formatter().parse(template)
    return "".join(
        literal + (values[name] if name is not None else "") for literal, name, _, _ in parts
    )
