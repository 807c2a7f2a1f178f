"""Feature matrices X (n samples, d features) that are read in blocks of columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from landscape import checks
from landscape.errors import UserError
from theory import given

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

BLOCK = 1 << 15  # columns in a block
PLAIN = (
    60  # largest entries within 2^-60 and 2^60 have eighth powers, which bounds need, in float64
)
EXTREME = 1e150  # largest entries beyond 1e-150 and 1e150 are refused
STORED_BYTES = 1 << 28  # a matrix up to this size is kept; a larger one is read again in blocks


@dataclass(frozen=True, eq=False)
class Features:
    """Hold X as its columns z_1 .. z_d, stored or made again block by block.

    Args:
        name: what the features are, for tables.
        n: number of samples, at least 1.
        d: number of features, at least 1.
        read: (start, stop) -> columns z_start .. z_{stop-1} as rows, float64 (stop - start, n).
            Must be pure; calls start at multiples of ``BLOCK``.
        exponent: X was divided by 2^exponent, exactly, to keep its powers inside float64.
    """

    name: str
    n: int
    d: int
    read: Callable[[int, int], Array]
    exponent: int = 0
    _stored: list[Array] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        checks.text("name", self.name)
        checks.whole("n", self.n, least=1)
        checks.whole("d", self.d, least=1)
        checks.has("read", self.read, "a function of (start, stop)", "__call__", do="give one")

    @property
    def stored(self) -> bool:
        """Whether all columns are kept in memory."""
        return self.n * self.d * 8 <= STORED_BYTES

    def columns(self) -> Array:
        """Return all columns as rows (d, n); cost n d floats, kept only when ``stored``."""
        if self._stored:
            return self._stored[0]
        whole = np.concatenate([block for _, block in self._read_blocks()])
        if self.stored:
            self._stored.append(whole)
        return whole

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """Yield (index of the first column, columns as rows (b, n)), in order."""
        if not self.stored:
            yield from self._read_blocks()
            return
        whole = self.columns()
        for start in range(0, self.d, BLOCK):
            yield start, whole[start : start + BLOCK]

    def prefix(self, d: int) -> Features:
        """Return the first d columns.

        Raises:
            UserError: d is no whole number from 1 to that of the features.
        """
        d = checks.whole("d", d, least=1, most=self.d)
        return Features(self.name, self.n, d, self.read)

    def take(self, indices: Indices) -> Array:
        """Return the columns at sorted indices, as rows (k, n).

        Raises:
            UserError: what are no sorted indices of distinct columns.
        """
        indices = given.columns("indices", indices, self.d)
        if self.stored:
            return self.columns()[indices]
        parts = [
            block[inside(indices, start, len(block)) - start] for start, block in self.blocks()
        ]
        return np.concatenate(parts)

    def _read_blocks(self) -> Iterator[tuple[int, Array]]:
        for start in range(0, self.d, BLOCK):
            yield start, self.read(start, min(start + BLOCK, self.d))


def of_columns(columns: Array) -> Features:
    """Hold columns z_j, given as rows (k, n), as they are: neither checked nor divided."""
    k, n = columns.shape
    return Features("columns", n, k, lambda start, stop: columns[start:stop])


def plain(values: Array) -> Array:
    """Return values times the power of two that brings the largest into [1/2, 1), exactly.

    >>> plain(np.array([3.0, -6.0])).tolist(), plain(np.zeros(1)).tolist()
    ([0.375, -0.75], [0.0])
    """
    largest = float(np.abs(values).max(initial=0.0))
    return np.asarray(np.ldexp(values, -int(np.frexp(largest)[1])))


def inside(indices: Indices, start: int, length: int) -> Indices:
    """Return the part of sorted indices that falls in [start, start + length)."""
    low, high = np.searchsorted(indices, (start, start + length))
    return indices[low:high]


def from_array(x: npt.ArrayLike, name: str = "array") -> Features:
    """Take X (n, d) as given; a memory map stays on disk.

    Where the largest entry is outside 2^-60 .. 2^60, X is divided by a power of two, which changes
    no digit; the name says so, and sigma and y are divided with it (``MaskedRegression``).

    Raises:
        UserError: X is not two-dimensional, not real numbers, empty, not finite, or its largest
            entry is below 1e-150 or above 1e150.
    """
    checks.text("name", name)
    array = given.array("X", x) if not isinstance(x, np.ndarray) else x
    if array.ndim != 2 or 0 in array.shape:
        raise UserError(
            f"expected X with shape (n samples, d features), got shape {array.shape}; "
            "reshape it so that each row is a sample"
        )
    if array.dtype.kind not in "fiub":
        raise UserError(f"expected X of real numbers, got dtype {array.dtype}; convert it first")
    n, d = array.shape
    largest = max(_largest(array, start) for start in range(0, d, BLOCK))
    if 0 < largest < 1 / EXTREME:
        raise UserError(
            f"expected X whose largest entry is 0 or between {1 / EXTREME:g} and {EXTREME:g}, got "
            f"{largest:g}; rescale X"
        )
    exponent = int(np.frexp(largest)[1]) if largest > 0 else 0
    if abs(exponent) <= PLAIN:
        exponent = 0
    else:
        name = f"{name}/2^{exponent}"

    def read(start: int, stop: int) -> Array:
        block = np.ascontiguousarray(array[:, start:stop].T, dtype=np.float64)
        return np.asarray(np.ldexp(block, -exponent)) if exponent else block

    return Features(name, n, d, read, exponent)


def _largest(array: npt.NDArray[np.generic], start: int) -> float:
    """Return max |x| of a block of columns; refuse what is not finite or too large."""
    block = np.abs(array[:, start : start + BLOCK].astype(np.float64))
    wrong = ~(block <= EXTREME)  # nan compares false
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise UserError(
            f"expected finite features of at most {EXTREME:g}, got "
            f"{array[row, start + column]} in row {row}, column {start + column}; "
            "remove or impute it, or rescale X"
        )
    return float(block.max())


def load_features(path: str | Path) -> Features:
    """Read X (n, d) from a ``.npy`` file, or from the only array (or ``X``) of an ``.npz`` file.

    Raises:
        UserError: the file is missing, unreadable, ambiguous, or does not hold a feature matrix.
    """
    path = Path(checks.path("path", path))
    if not path.is_file():
        raise UserError(
            f"expected a .npy or .npz file with X, got {path}, which is missing; check --x"
        )
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        names, array = [], loaded
        if not isinstance(loaded, np.ndarray):
            with loaded:
                names = list(loaded.files)
                key = "X" if "X" in names else names[0] if len(names) == 1 else None
                array = None if key is None else loaded[key]
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise UserError(
            f"expected a .npy or .npz file, got {path}, which cannot be read ({error}); "
            "write it with numpy.save"
        ) from None
    if array is None:
        raise UserError(f"expected an array named X in {path}, got {names}; save it as X=...")
    return from_array(array, path.name)
