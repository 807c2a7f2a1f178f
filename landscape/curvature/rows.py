"""Batches as trees of tensors: their rows, divided into smaller batches or taken twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape import checks
from landscape.errors import UserError

_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)
"""What goes whole into every smaller batch."""


def micro_batches(batch: object, rows: int) -> list[Any]:
    """Divide a batch into batches of at most so many rows, to need less memory.

    The mean loss over the pieces is that of the batch, and so are its Hessian, Gauss-Newton and
    Fisher matrices, unless the loss couples rows (contrastive), which the operators refuse.

    Args:
        batch: a tensor, or dicts, tuples, lists and dataclasses of tensors in each other, whose
            first dimension is the rows (numpy arrays and lists of as many plain values are divided
            too); numbers, strings and None go into every one.
        rows: at least 1.

    Raises:
        UserError: rows is below 1, the tensors differ in their first dimension, or something in
            the batch may hold rows in a way that is not known.

    >>> [piece.tolist() for piece in micro_batches(torch.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    rows = checks.whole("rows", rows, least=1)
    total = _shared_rows(batch)
    parts = [slice(start, start + rows) for start in range(0, total, rows)]
    return [_mapped(batch, itemgetter(part), total) for part in parts]


def num_rows(batch: object) -> int | None:
    """Return the first dimension that all tensors of a batch share, None where there is none."""
    try:
        return _shared_rows(batch)
    except UserError:
        return None


def twice(batch: object) -> Any:
    """Return a batch with each of its rows twice.

    Raises:
        UserError: as `micro_batches`.
    """
    return _mapped(batch, _repeat, _shared_rows(batch))


def leaves(part: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Return the tensors and numpy arrays in a tree, as tensors, each with its place in it."""
    if isinstance(part, Tensor):
        yield name, part
    elif isinstance(part, np.ndarray) and part.dtype.kind in "biufc":
        yield name, torch.from_numpy(np.ascontiguousarray(part))
    elif isinstance(part, Mapping):
        for key, value in part.items():
            yield from leaves(value, f"{name}.{key}")
    elif isinstance(part, tuple | list):
        for number, value in enumerate(part):
            yield from leaves(value, f"{name}.{number}")
    elif _is_record(part):
        for field in dataclasses.fields(part):
            yield from leaves(getattr(part, field.name), f"{name}.{field.name}")


def _shared_rows(batch: object) -> int:
    found: dict[str, int] = {}
    _find(batch, "batch", found)
    sizes = set(found.values())
    if len(sizes) == 1 and 0 not in sizes:
        return sizes.pop()
    shown = ", ".join(f"{name}: {n}" for name, n in list(found.items())[:4]) or "no tensor"
    raise UserError(
        f"expected tensors with the same first dimension to divide a batch, got {shown}; "
        "make smaller batches from the examples (make_batches)"
    )


def _find(part: Any, name: str, found: dict[str, int]) -> None:
    """Write the first dimension of every tensor in a tree under its name."""
    if isinstance(part, Tensor | np.ndarray):
        found[name] = part.shape[0] if part.ndim else 0
    elif isinstance(part, Mapping):
        for key, value in part.items():
            _find(value, f"{name}[{key!r}]", found)
    elif isinstance(part, tuple | list):
        for number, value in enumerate(part):
            _find(value, f"{name}[{number}]", found)
    elif _is_record(part):
        for field in dataclasses.fields(part):
            _find(getattr(part, field.name), f"{name}.{field.name}", found)
    elif not isinstance(part, _PLAIN):
        raise UserError(
            "expected tensors in dicts, tuples, lists or dataclasses, to divide a batch, with the "
            f"same first dimension, got {type(part).__name__} at {name}, whose rows are not known; "
            "pass smaller batches"
        )


def _mapped(part: Any, act: Callable[[Any], Any], rows: int) -> Any:
    """Return a tree with a function applied to all that has rows."""
    if isinstance(part, Tensor | np.ndarray):
        return act(part)
    if isinstance(part, Mapping):
        return {key: _mapped(value, act, rows) for key, value in part.items()}
    if isinstance(part, list) and len(part) == rows and all(isinstance(p, _PLAIN) for p in part):
        return act(part)
    if isinstance(part, tuple | list):
        values = [_mapped(value, act, rows) for value in part]
        if isinstance(part, list):
            return values
        return type(part)(*values) if hasattr(part, "_fields") else tuple(values)
    if _is_record(part):
        fields = [field.name for field in dataclasses.fields(part)]
        changed = {name: _mapped(getattr(part, name), act, rows) for name in fields}
        return dataclasses.replace(part, **changed)
    return part


def _is_record(part: Any) -> bool:
    return dataclasses.is_dataclass(part) and not isinstance(part, type)


def _repeat(rows: Any) -> Any:
    if isinstance(rows, Tensor):
        return torch.cat([rows, rows])
    return np.concatenate([rows, rows]) if isinstance(rows, np.ndarray) else rows + rows
