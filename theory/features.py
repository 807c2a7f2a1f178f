"""Feature matrices X (n samples, d features) that are read in blocks of columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from landscape.errors import UserError

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Draw = Callable[[Generator, int, int, int, int], Array]

BLOCK = 1 << 15  # columns in a block
LARGEST = 1e30  # entries up to this size have eighth powers, which bounds need, in float64
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
    """

    name: str
    n: int
    d: int
    read: Callable[[int, int], Array]
    _stored: list[Array] = field(default_factory=list, repr=False)

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

    def take(self, indices: Indices) -> Array:
        """Return the columns at sorted indices, as rows (k, n)."""
        if self.stored:
            return self.columns()[indices]
        parts = [
            block[inside(indices, start, len(block)) - start] for start, block in self.blocks()
        ]
        return np.concatenate(parts)

    def _read_blocks(self) -> Iterator[tuple[int, Array]]:
        for start in range(0, self.d, BLOCK):
            yield start, self.read(start, min(start + BLOCK, self.d))


def inside(indices: Indices, start: int, length: int) -> Indices:
    """Return the part of sorted indices that falls in [start, start + length)."""
    low, high = np.searchsorted(indices, (start, start + length))
    return indices[low:high]


def from_array(x: npt.ArrayLike, name: str = "array") -> Features:
    """Take X (n, d) as given; a memory map stays on disk.

    Raises:
        UserError: X is not two-dimensional, not real numbers, empty, not finite, or huge.
    """
    array = np.asarray(x) if not isinstance(x, np.ndarray) else x
    if array.ndim != 2 or 0 in array.shape:
        raise UserError(
            f"expected X with shape (n samples, d features), got shape {array.shape}; "
            "reshape it so that each row is a sample"
        )
    if array.dtype.kind not in "fiub":
        raise UserError(f"expected X of real numbers, got dtype {array.dtype}; convert it first")
    n, d = array.shape

    def read(start: int, stop: int) -> Array:
        return np.ascontiguousarray(array[:, start:stop].T, dtype=np.float64)

    for start in range(0, d, BLOCK):
        wrong = ~(np.abs(array[:, start : start + BLOCK]) <= LARGEST)  # nan compares false
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise UserError(
                f"expected finite features of at most {LARGEST:g}, got "
                f"{array[row, start + column]} in row {row}, column {start + column}; "
                "remove or impute it, or rescale X"
            )
    return Features(name, n, d, read)


def load_features(path: str | Path) -> Features:
    """Read X (n, d) from a ``.npy`` file, or from the only array (or ``X``) of an ``.npz`` file.

    Raises:
        UserError: the file is missing, unreadable, ambiguous, or does not hold a feature matrix.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"expected a .npy or .npz file with X, but {path} is missing; check --x")
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return from_array(loaded, path.name)
        with loaded:
            names = list(loaded.files)
            key = "X" if "X" in names else names[0] if len(names) == 1 else None
            array = None if key is None else loaded[key]
    except UserError:
        raise
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise UserError(
            f"expected a .npy or .npz file, but {path} cannot be read ({error}); "
            "write it with numpy.save"
        ) from None
    if array is None:
        raise UserError(f"expected an array named X in {path}, got {names}; save it as X=...")
    return from_array(array, path.name)


def draw(name: str, n: int, d: int, *, seed: int = 0) -> Features:
    """Draw X (n, d) with columns from a named distribution; a pure function of its arguments.

    Args:
        name: one of ``DISTRIBUTIONS``.
        n: samples, at least 1.
        d: features, at least 1.
        seed: any non-negative integer; each block of columns has its own stream.

    Raises:
        UserError: unknown name, or a size below 1.
    """
    if name not in DISTRIBUTIONS:
        known = ", ".join(DISTRIBUTIONS)
        raise UserError(f"expected features among {known}; got {name!r}; choose one of them")
    if n < 1 or d < 1:
        raise UserError(f"expected n >= 1 and d >= 1, got n={n}, d={d}; give positive sizes")
    rule = DISTRIBUTIONS[name]

    def read(start: int, stop: int) -> Array:
        stream = np.random.default_rng([seed, start, *name.encode()])
        return rule(stream, n, start, stop, seed)

    return Features(name, n, d, read)


def prescribed(spectrum: npt.ArrayLike, d: int, *, seed: int = 0) -> Features:
    """Draw X (n, d) whose X X^T has exactly the given eigenvalues, with random singular vectors.

    Args:
        spectrum: n non-negative eigenvalues, n <= d.
        d: features.
    """
    values = np.asarray(spectrum, dtype=np.float64)
    if values.ndim != 1 or not 1 <= values.size <= d or not (values >= 0).all():
        raise UserError(
            f"expected between 1 and d={d} non-negative eigenvalues, got shape {values.shape}; "
            "give a flat list"
        )
    rng = np.random.default_rng(seed)
    left = _rotation(rng, values.size)
    right = np.linalg.qr(rng.standard_normal((d, values.size)))[0]
    return from_array((left * np.sqrt(values)) @ right.T, "prescribed")


def _rotation(rng: Generator, n: int) -> Array:
    return np.asarray(np.linalg.qr(rng.standard_normal((n, n)))[0], dtype=np.float64)


def _uniform(rng: Generator, n: int, start: int, stop: int, seed: int) -> Array:
    return rng.random((stop - start, n))


def _gaussian(rng: Generator, n: int, start: int, stop: int, seed: int) -> Array:
    return rng.standard_normal((stop - start, n))


def _rademacher(rng: Generator, n: int, start: int, stop: int, seed: int) -> Array:
    signs = rng.integers(0, 2, (stop - start, n)) * 2 - 1
    return signs.astype(np.float64)


def _student(rng: Generator, n: int, start: int, stop: int, seed: int) -> Array:
    return np.clip(rng.standard_t(2.5, (stop - start, n)), -30.0, 30.0)


def _sparse(rng: Generator, n: int, start: int, stop: int, seed: int) -> Array:
    return rng.standard_normal((stop - start, n)) * (rng.random((stop - start, n)) < 0.05)


def _power_law(rng: Generator, n: int, start: int, stop: int, seed: int) -> Array:
    scale = np.arange(1.0, n + 1.0) ** -0.75  # eigenvalues of E z z^T fall like i^-1.5
    rotation = _rotation(np.random.default_rng(seed), n)
    return (rng.standard_normal((stop - start, n)) * scale) @ rotation.T


def _rank_deficient(rng: Generator, n: int, start: int, stop: int, seed: int) -> Array:
    rank = max(1, n // 2)
    basis = np.random.default_rng(seed).standard_normal((n, rank))
    return rng.standard_normal((stop - start, rank)) @ basis.T


def _dominant(rng: Generator, n: int, start: int, stop: int, seed: int) -> Array:
    block = rng.standard_normal((stop - start, n))
    if start == 0:
        block[0] *= 200.0  # one column weighs as much as 40,000 others
    return block


DISTRIBUTIONS: dict[str, Draw] = {
    "uniform": _uniform,
    "gaussian": _gaussian,
    "rademacher": _rademacher,
    "student": _student,
    "sparse": _sparse,
    "power-law": _power_law,
    "rank-deficient": _rank_deficient,
    "dominant": _dominant,
}
