"""The answer that a generated text ends with: its last number, or the letter of an option."""

from __future__ import annotations

import re

from landscape.errors import UserError

TOLERANCE = 1e-3
"""Largest difference between a number and the right one, as in the code of Hu et al. 2023."""

_NUMBER = re.compile(r"-?\d+\.?\d*")
_OPTION = re.compile(r"\b[A-E]\b")
_LETTER = re.compile("[A-E]")


def last_number(text: str) -> float | None:
    """Return the last number of a text, commas left out; None where it has none.

    Signs before it and after it (a dollar, a per cent) do not count, and of a fraction only what
    is below its line, as in the code of Hu et al. 2023 (LLM-Adapters).

    >>> last_number("So 3 * 350.50 = $1,051.50 a year."), last_number("none")
    (1051.5, None)
    """
    found = _NUMBER.findall(text.replace(",", ""))
    return float(found[-1]) if found else None


def ends_right(text: str, answer: str) -> bool:
    """Tell whether a text ends with an answer.

    Args:
        text: what was generated.
        answer: a letter from A to E, which must be the last letter of these that stands alone in
            the text; or a text with a number, from which the text's last may differ by
            ``TOLERANCE``.

    Raises:
        UserError: the answer holds neither.

    >>> ends_right("A train takes B hours. The answer is (C).", "C")
    True
    """
    if is_option(answer):
        return _OPTION.findall(text)[-1:] == [answer]
    wanted, found = last_number(answer), last_number(text)
    if wanted is None:
        raise UserError(
            f"expected right answers that hold a number, or are a letter from A to E, got "
            f"{answer[:60]!r}; correct it, or choose another metric"
        )
    return found is not None and abs(found - wanted) <= TOLERANCE


def begins_right(text: str, answer: str) -> bool:
    """Tell as `ends_right`, but that an option is the first letter from A to E in the text.

    So the code of Hu et al. 2023 reads an option, also out of a word's middle.

    >>> begins_right("Because of that, the answer is (C).", "C")
    False
    """
    if is_option(answer):
        return _LETTER.findall(text)[:1] == [answer]
    return ends_right(text, answer)


def is_option(answer: str) -> bool:
    """Tell whether an answer is the letter of an option."""
    return _LETTER.fullmatch(answer) is not None
