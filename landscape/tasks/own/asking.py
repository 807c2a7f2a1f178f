"""What is asked of the rows of somebody's own data: their columns as a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.own.naming import listed
from landscape.tasks.own.recipe import Recipe
from landscape.tasks.own.rows import LABEL, Rows
from landscape.tasks.own.template import fields
from landscape.tasks.own.values import label_of
from landscape.tasks.own.verbaliser import words_of

CLASSES = 100
"""Classes at most: a prompt is scored with a word for each, and more are rarely classes at all."""


def recipe_for(
    rows: Rows,
    *,
    text: str | Sequence[str] | None,
    label: str | None,
    answer: str | None,
    prompt: str | None,
    verbaliser: Mapping[str, str] | None,
    head: bool,
    regression: bool,
    separator: str,
) -> Recipe:
    """Return the recipe of what `landscape.task_from` was asked for.

    Raises:
        UserError: a column that is not there, arguments that do not go together, or other than 2
            to 100 classes.
    """
    if rows.images:
        given = {"text": text, "label": label, "answer": answer, "prompt": prompt,
                 "verbaliser": verbaliser}  # fmt: skip
        _refuse_beside("a folder of images, whose classes are its folders", given)
        return Recipe("images", label=LABEL, classes=_classes(rows, LABEL))
    wanted = answer if label is None else label
    if wanted is None or (label is not None and answer is not None):
        raise UserError(
            "expected label= (--label), the column of the class, or answer= (--answer), of the "
            f"text to generate, got {'both' if wanted else 'neither'}; name one of "
            f"{listed(rows.columns)}"
        )
    rows.check("label" if answer is None else "answer", wanted)
    texts = _texts(rows, text)
    if prompt is not None:
        fields(prompt, rows.columns)
    elif not texts:
        raise UserError(
            "expected text= (--text), the column of the text, or prompt= (--prompt), a template, "
            f"got neither; name one of {listed(rows.columns)}"
        )
    if wanted in (texts if prompt is None else fields(prompt)):
        raise UserError(
            f"expected a text without its own answer, got the column {wanted!r} in both; name "
            "another column"
        )
    if answer is not None:
        _refuse_beside("answer=, of a text to generate", {
            "verbaliser": verbaliser, "head": head or None, "regression": regression or None
        })  # fmt: skip
        return Recipe("answers", prompt=prompt or _asked(texts, answer), label=answer,
                      separator=separator)  # fmt: skip
    if separator:
        _refuse_beside("label=, which is one", {"separator": separator})
    if head:
        _refuse_beside("head=True, which takes no words", {"verbaliser": verbaliser})
        if prompt is None and len(texts) > 2:
            raise UserError(
                f"expected one or two columns for text= of a model with a head, got {len(texts)}; "
                "join them with prompt="
            )
        classes = () if regression else _classes(rows, wanted)
        return Recipe("number" if regression else "classes", () if prompt else texts, prompt or "",
                      wanted, classes)  # fmt: skip
    classes = _classes(rows, wanted)
    asked, words = words_of(classes, verbaliser, prompt or _asked(texts, wanted))
    return Recipe("candidates", prompt=asked, label=wanted, classes=classes, words=words)


def _texts(rows: Rows, text: str | Sequence[str] | None) -> tuple[str, ...]:
    if text is None:
        return ()
    named = (text,) if isinstance(text, str) else checks.texts("text", text)
    return tuple(rows.check("text", one) for one in named)


def _asked(texts: Sequence[str], asked: str) -> str:
    """Return the prompt of columns: each in a line, and the name of what is asked."""
    escaped = asked.replace("{", "{{").replace("}", "}}")
    return "\n".join(f"{{{column}}}" for column in texts) + f"\n{escaped}:"


def _classes(rows: Rows, column: str) -> tuple[str, ...]:
    """Return the labels of a column, sorted; by value where all are numbers."""
    found = {label_of(row, column) for row in rows.rows}
    if not 2 <= len(found) <= CLASSES:
        more = len(found) > CLASSES
        raise UserError(
            f"expected 2 to {CLASSES} labels in the column {column!r} of {rows.name}, got "
            f"{len(found):,}{' (' + min(found)[:60] + ')' if len(found) == 1 else ''}; "
            + ("for numbers take regression=True (--regression), for texts to generate answer= "
               "(--answer), or name another column" if more else
               "give rows of another label, or name another column")
        )  # fmt: skip
    try:
        return tuple(sorted(sorted(found), key=float))  # 1 and 1.0 in the order of their texts
    except ValueError:
        return tuple(sorted(found))


def _refuse_beside(what: str, given: Mapping[str, object]) -> None:
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise UserError(
            f"expected {what}, got {', '.join(f'{name}=' for name in named)} beside it; leave "
            f"{'it' if len(named) == 1 else 'them'} out"
        )
