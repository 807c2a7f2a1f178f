"""What an option of an artefact says of itself: one sentence, its default, and whose default."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, TypeVar

Value = TypeVar("Value")
XU_ZHANG = "Xu & Zhang 2024"
ID3 = "Agarwal et al. 2024"


def paper(value: Value, source: str = XU_ZHANG) -> Value:
    """Declare a field whose default is a paper's; every other default is ours."""
    return dataclasses.field(default=value, metadata={"source": source})


def origin(field: dataclasses.Field[Any]) -> str:
    """Return whose default a field has: a paper's name, or "ours"."""
    return str(field.metadata.get("source", "ours"))


def sentences(config: type) -> dict[str, str]:
    """Return what the ``#:`` comment above a field, or above several, says of it, by field."""
    found: dict[str, str] = {}
    kinds = [kind for kind in reversed(config.__mro__) if dataclasses.is_dataclass(kind)]
    for kind in kinds:
        comment: list[str] = []
        before = ""
        for line in map(str.strip, inspect.getsource(kind).splitlines()):
            if line.startswith("#:"):
                comment = [*(comment if before.startswith("#:") else []), line[2:].strip()]
            elif comment and line.partition(":")[0].isidentifier():
                found[line.partition(":")[0]] = " ".join(comment)
            before = line
    return found
