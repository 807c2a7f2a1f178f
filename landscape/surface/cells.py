"""The cells of a surface that are known already, kept in a folder while others are computed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from landscape.runs import open_folder, read_json, write_json


class Cells:
    """Hold losses by grid position; each is stored whole, to the last bit, when it is put.

    Args:
        directory: a folder, or None for memory only.
        parameters, units, axes, centre: what determines the surface. The loss at the centre
            stands for the data and the frozen weights.

    Raises:
        UserError: the folder holds another surface.
    """

    def __init__(
        self,
        directory: str | Path | None,
        parameters: Sequence[Tensor],
        units: Sequence[Tensor],
        axes: Sequence[Tensor],
        centre: float,
    ) -> None:
        self._path: Path | None = None
        self._known: dict[str, str] = {}
        if directory is None:
            return
        config = {
            "kind": "surface",
            "weights": _digest([p.detach().double().cpu() for p in parameters]),
            "directions": _digest(units),
            "axes": [[float(axis[0]), float(axis[-1]), len(axis)] for axis in axes],
            "centre": centre.hex(),
        }
        self._path = open_folder(directory, config) / "cells.json"
        if self._path.exists():
            self._known = read_json(self._path)

    def get(self, at: tuple[int, ...]) -> float | None:
        """Return the loss at a position, None where it is not known yet."""
        value = self._known.get(_key(at))
        return None if value is None else float.fromhex(value)

    def put(self, at: tuple[int, ...], value: float) -> None:
        """Keep the loss at a position, NaN and infinity included."""
        self._known[_key(at)] = value.hex()
        if self._path is not None:
            write_json(self._path, self._known)


def _key(at: tuple[int, ...]) -> str:
    return " ".join(map(str, at))


def _digest(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
