"""Verbalisers: the word that follows a prompt for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.own.naming import listed, nearest


def words_of(
    classes: Sequence[str], verbaliser: Mapping[str, str] | None, prompt: str
) -> tuple[str, tuple[str, ...]]:
    """Return a prompt without spaces at its end, and what follows it for each class.

    Args:
        classes: in the order of the labels.
        verbaliser: class -> word; the classes themselves where it is absent. A word follows after
            a space, or at once where it, or the prompt's end, is another white space.
        prompt: a template.

    Raises:
        UserError: a class without a word, a word for none, or one word for two.
    """
    if verbaliser is not None:
        checks.instance("verbaliser", verbaliser, Mapping, "give a dict from label to word")
    given = dict(verbaliser) if verbaliser is not None else {name: name for name in classes}
    for name in given:
        if name not in classes:
            raise UserError(
                f"expected the verbaliser to name labels of the data, got {name!r}; "
                f"{nearest(name, classes)}"
            )
    if without := [name for name in classes if name not in given]:
        raise UserError(
            f"expected the verbaliser to have a word for every label, got none for {without[0]!r}; "
            "give it one"
        )
    shown = prompt.rstrip(" ")
    at_once = shown[-1:].isspace()
    words = []
    for name in classes:
        word = checks.text(f"the verbaliser's word for {name}", given[name])
        if not word.strip():
            raise UserError(
                f"expected a word for the label {name!r} in the verbaliser, got an empty one; give "
                "one"
            )
        words.append(word if word[0].isspace() or at_once else f" {word}")
    bare = [word.strip() for word in words]
    if len(set(bare)) < len(bare):
        raise UserError(
            f"expected a word of its own for every label, got {listed(bare)}; "
            "change one of those that are alike"
        )
    return shown, tuple(words)
