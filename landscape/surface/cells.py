"""The cells of a surface that are known already, kept in a folder while others are computed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from landscape.curvature.rows import leaves
from landscape.errors import UserError
from landscape.folders import open_folder, read_json, write_json
from landscape.tensorfile import read_tensors, write_tensors

_SAME_DIRECTION, _SAME_SPAN, _SAME_LOSS = 1e-2, 1e-3, 1e-5
"""How far, relatively, what was computed anew may differ: eigenvectors, eigenvalues and losses
depend on the order of sums, and so on the number of threads. The folder's own are used."""


class Cells:
    """Hold losses by grid position; each is stored whole, to the last bit, when it is put.

    What a surface is of is told exactly, by the weights, the data and the shape of the grid; what
    was computed (directions, axes and the loss at the centre) differs in its last bits with
    the number of threads, is compared to a tolerance, and taken from the folder.

    Args:
        folder: a folder, or None for memory only.
        weights: tensors by name that tell the point and what surrounds it: all of the model's
            at the centre, and the ends of a line.
        batches: the data; its tensors count.
        units: the directions, one a row, shape (d, size).
        axes: one a direction.
        centre: the loss at the centre, which stands for the loss function.
        eps: rounding error of the coarsest numbers that the loss is computed in.

    Raises:
        UserError: the folder holds another surface.
    """

    def __init__(
        self,
        folder: str | Path | None,
        weights: Iterable[tuple[str, Tensor]],
        batches: Sequence[object],
        units: Tensor,
        axes: Sequence[Tensor],
        centre: float,
        *,
        eps: float,
    ) -> None:
        self._path: Path | None = None
        self._known: dict[str, str] = {}
        self.units, self.axes, self.centre = units, tuple(axes), centre
        """The directions, axes and centre to use: those of the folder where it has some."""
        if folder is None:
            return
        config = {
            "kind": "surface",
            "weights": _digest(weights),
            "data": _digest(leaves(batches, "batches")),
            "points": [len(axis) for axis in axes],
        }
        path = open_folder(folder, config, device=units.device)
        self._path, frame = path / "cells.json", path / "frame.safetensors"
        if frame.exists():
            self._take(frame, eps)
        else:
            held = {"units": units, **{f"axis {n}": axis for n, axis in enumerate(axes)}}
            held["centre"] = torch.tensor(centre, dtype=torch.float64)
            write_tensors(frame, {name: t.detach().double() for name, t in held.items()}, {})
        if self._path.exists():
            self._known = read_json(self._path)

    def get(self, at: tuple[int, ...]) -> float | None:
        """Return the loss at a position, None where it is not known yet."""
        value = self._known.get(_key(at))
        try:
            return None if value is None else float.fromhex(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"expected the loss at {at} in {self._path}, got {str(value)[:60]!r}; remove the "
                "file, and its cells are computed anew"
            ) from error

    def put(self, at: tuple[int, ...], value: float) -> None:
        """Keep the loss at a position, NaN and infinity included."""
        self._known[_key(at)] = value.hex()
        if self._path is not None:
            write_json(self._path, self._known)

    def _take(self, frame: Path, eps: float) -> None:
        """Use the directions, axes and centre of the folder, if they are the same but for bits."""
        cure = f"remove {frame.parent} and start anew"
        file = read_tensors(frame, "the frame of a surface", cure=cure)
        if file.digest is not None:  # older folders have none
            file.check()
        held, names = (
            file.tensors,
            ["units", "centre", *(f"axis {n}" for n in range(len(self.axes)))],
        )
        if held.keys() != set(names) or held["centre"].numel() != 1:
            raise UserError(
                f"expected the frame of a surface in {frame}, got {sorted(held)}; {cure}"
            )
        axes = tuple(held[f"axis {n}"] for n in range(len(self.axes)))
        centre = float(held["centre"])
        differing = []
        if not _close(held["units"], self.units, _SAME_DIRECTION):
            differing.append("directions")
        if not all(_close(a, b, _SAME_SPAN) for a, b in zip(axes, self.axes, strict=True)):
            differing.append("span")
        both = torch.tensor([[centre], [self.centre]], dtype=torch.float64)
        if repr(centre) != repr(self.centre) and not _close(
            both[0], both[1], max(_SAME_LOSS, eps**0.5)
        ):
            differing.append(f"loss at the centre, {centre:.6g} there and {self.centre:.6g} here")
        if differing:
            raise UserError(
                f"expected a folder of this surface, got {frame.parent}, which holds a run of "
                f"another configuration ({', '.join(differing)}); choose another folder or remove "
                "that one"
            )
        self.units, self.axes, self.centre = held["units"], axes, centre


def tensors_of(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Return all parameters and buffers of a model by name."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Tell whether two tensors, row by row, differ by less than a share of their norms."""
    if a.shape != b.shape:
        return False
    return bool(((a - b).norm(dim=-1) <= tolerance * a.norm(dim=-1)).all())


def _key(at: tuple[int, ...]) -> str:
    return " ".join(map(str, at))


def _digest(named: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in named:
        bits = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(bits.view(torch.uint8).numpy().tobytes() if bits.numel() else b"")
    return digest.hexdigest()[:16]
