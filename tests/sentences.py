"""Sentences of errors: what was expected, what came, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from landscape.errors import UserError

#: what was expected, what came, what to do
THREE_PARTS = re.compile(r"expected .+?, (got|but|found).+[;:] .+", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """Name a bad input, say how to provoke it, and what its sentence holds."""

    name: str
    provoke: Callable[..., object]
    words: tuple[str, ...]


def row(name: str, provoke: Callable[..., object], *words: str) -> pytest.ParameterSet:
    return pytest.param(Row(name, provoke, words), id=name)


def the_sentence(provoke: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        provoke()
    said = str(caught.value)
    assert THREE_PARTS.fullmatch(said), said
    return said
