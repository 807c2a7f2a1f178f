"""What a delta file says of itself: one header, every field checked before it is believed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landscape.errors import UserError
from landscape.identity import fingerprint

FORMAT = "landscape-delta-2"
OLDER = "landscape-delta-1"
_SHORT = 8
"""Characters of a tensor's hash that are kept, to name the tensors that differ."""
_DIMENSIONS = 8
_LONGEST = 1_000
"""Characters of a name or pattern."""


@dataclass(frozen=True)
class DeltaHeader:
    """Hold what a delta file says of itself.

    Args:
        rule: how its mask was made.
        shapes: tensor name -> shape of the weight.
        num_parameters: of the whole model.
        heads: tensors of its mask that it holds whole, with their initial values.
        indices: hash of the mask's indices, None in an older file.
        fingerprint: hash of the base model but for heads and dense tensors; in an older file of
            the pretrained values on the mask alone.
        base: the start of each tensor's hash, in the order of their names, joined.
        dtype: floating types of the base.
        older: whether it is of the format that knows the base on its mask alone.
        dense: tensors beside the mask that were trained whole.
        about: what whoever saved it said of it, such as its model and task: any JSON object.
    """

    rule: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    num_parameters: int
    heads: list[str]
    indices: str | None
    fingerprint: str
    base: str
    dtype: str
    older: bool = False
    dense: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the header as JSON; it says nothing of dense tensors where there are none."""
        more: dict[str, Any] = {"dense": self.dense} if self.dense else {}
        more |= {"about": self.about} if self.about else {}
        return {
            "format": FORMAT, "rule": self.rule,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "num_parameters": self.num_parameters, "indices": self.indices,
            "fingerprint": self.fingerprint, "base": self.base, "dtype": self.dtype, **more,
        }  # fmt: skip

    def differing(self, digests: Mapping[str, str]) -> list[str]:
        """List what differs in a model from the base, by hashes of its tensors; all if unknown."""
        apart = {*self.heads, *self.dense}
        if fingerprint(digests, without=apart) == self.fingerprint:
            return []
        names = sorted(digests)
        parts = [self.base[i : i + _SHORT] for i in range(0, len(self.base), _SHORT)]
        if len(parts) != len(names):
            return [f"the number of tensors ({len(parts)} there, {len(names)} here)"]
        pairs = zip(names, parts, strict=True)
        other = [n for n, part in pairs if n not in apart and digests[n][:_SHORT] != part]
        return other or ["the tensors' names"]


def short_digests(digests: Mapping[str, str]) -> str:
    """Return the start of each tensor's hash, in the order of their names, joined."""
    return "".join(digests[name][:_SHORT] for name in sorted(digests))


def parse_header(
    header: Mapping[str, Any], path: Path, options: Mapping[str, Collection[str]]
) -> DeltaHeader:
    """Check a header field by field.

    Args:
        header: a JSON object.
        path: of the file, for the sentences.
        options: kinds of masks that a rule makes again -> the fields of the rule that it takes.

    Raises:
        UserError: it is no delta's, lacks a field, or a field has another type.
    """
    named = header.get("format")
    if named not in (FORMAT, OLDER):
        raise UserError(
            f"expected a delta file of landscape, got {path} of the format {_shown(named)}; give a "
            "file of save_delta"
        )
    older = named == OLDER
    new = () if older else ("indices", "base", "dtype")
    for key in ("rule", "shapes", "num_parameters", "fingerprint", *new):
        if key not in header:
            raise UserError(
                f"expected {path} to say its {key}, got nothing; the file is damaged, save it again"
            )
        _require(header[key], _FIELDS[key], f"{key} in {path}")
    shapes = {name: tuple(shape) for name, shape in header["shapes"].items()}
    rule, heads = header["rule"], header["rule"].get("heads", [])
    dense = header.get("dense", [])
    _require(dense, _TEXTS, f"dense in {path}")
    _require(header.get("about", {}), _FIELDS["about"], f"about in {path}")
    _require(rule.get("kind", ""), _TEXT, f"rule.kind in {path}")
    _require(heads, _TEXTS, f"rule.heads in {path}")
    strange = [*(set(heads) - set(shapes)), *(set(dense) & set(shapes))]
    if strange or len({*heads, *dense}) < len(heads) + len(dense):
        raise UserError(
            f"expected heads and dense tensors in {path} to be its own and different ones, got "
            f"{_shown(strange or [*heads, *dense])}, which names other tensors than it holds; save "
            "it again"
        )
    for key in options.get(rule.get("kind", ""), ()):
        _require(rule.get(key), _OPTIONS[key], f"rule.{key} in {path}")
    return DeltaHeader(
        rule, shapes, header["num_parameters"], heads, header.get("indices"),
        header["fingerprint"], header.get("base", ""), header.get("dtype", ""), older, dense,
        header.get("about", {}),
    )  # fmt: skip


_Kind = tuple[str, Callable[[Any], bool]]


def _whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def _number(value: Any) -> bool:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and -1e300 < value < 1e300


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(_text(item) for item in value)


def _hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _shape(value: Any) -> bool:
    short = isinstance(value, list) and len(value) <= _DIMENSIONS
    return short and all(_whole(size) for size in value) and math.prod(value) < 2**63


def _shapes(value: Any) -> bool:
    return isinstance(value, dict) and all(_shape(shape) for shape in value.values())


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_whole(n, 1) for n in value)


_TEXT: _Kind = ("a text", _text)
_TEXTS: _Kind = ("a list of texts", _texts)
_FIELDS: dict[str, _Kind] = {
    "rule": ("an object", lambda v: isinstance(v, dict)),
    "shapes": ("an object of shapes", _shapes),
    "num_parameters": ("a whole number of at least 1", lambda v: _whole(v, 1)),
    "indices": ("64 hexadecimal digits", _hash),
    "fingerprint": ("64 hexadecimal digits", _hash),
    "base": ("a text", lambda v: isinstance(v, str)),
    "dtype": _TEXT,
    "about": ("an object", lambda v: isinstance(v, dict)),
}
#: what the functions that make a mask again take; null is their default
_OPTIONS: dict[str, _Kind] = {
    "density": ("a finite number", _number),
    "targets": ("a text or a list of texts", lambda v: _text(v) or _texts(v)),
    "seed": ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    "sampling": _TEXT,
    "granularity": _TEXT,
    "count": ("a whole number or null", lambda v: v is None or _whole(v)),
    "block": ("two whole numbers of at least 1 or null", lambda v: v is None or _pair(v)),
}


def _require(value: Any, kind: _Kind, what: str) -> None:
    name, fits = kind
    if not fits(value):
        raise UserError(f"expected {name} as {what}, got {_shown(value)}; save the file again")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
