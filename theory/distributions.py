"""Feature distributions: uniform to heavy-tailed, and X with a prescribed spectrum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from landscape import checks, seeds
from landscape.errors import UserError
from theory import given
from theory.features import Array, Features, from_array

HIDDEN = "hidden-states"  # real features, of a pretrained model (theory.hidden)
JACOBIAN = "jacobian"  # the gradients of a pretrained model (theory.jacobian)
CONDITION = 6  # decades between the largest and the smallest singular value where ill-conditioned
Draw = Callable[[Generator, int, int, int, int], Array]


def draw(name: str, n: int, d: int, *, seed: int = 0) -> Features:
    """Draw X (n, d) with columns from a named distribution; a pure function of its arguments.

    Args:
        name: one of ``DISTRIBUTIONS``.
        n: samples, at least 1.
        d: features, at least 1.
        seed: any non-negative integer; each block of columns has its own stream.

    Raises:
        UserError: unknown name, a size that is no whole number of at least 1, or such a seed.
    """
    if not isinstance(name, str) or name not in DISTRIBUTIONS:
        known = ", ".join(DISTRIBUTIONS)
        raise UserError(f"expected features among {known}, got {name!r}; choose one of them")
    n, d = checks.whole("n", n, least=1), checks.whole("d", d, least=1)
    seed = checks.whole("seed", seed)
    rule = DISTRIBUTIONS[name]

    def read(start: int, stop: int) -> Array:
        stream = seeds.numbered(seed, start, *name.encode())
        return rule(stream, n, start, stop, seed)

    return Features(name, n, d, read)


def prescribed(spectrum: npt.ArrayLike, d: int, *, seed: int = 0) -> Features:
    """Draw X (n, d) whose X X^T has exactly the given eigenvalues, with random singular vectors.

    Args:
        spectrum: n non-negative eigenvalues, n <= d.
        d: features.
        seed: any non-negative integer.

    Raises:
        UserError: a spectrum that is no n such numbers, or d or seed out of range.
    """
    d, seed = checks.whole("d", d, least=1), checks.whole("seed", seed)
    shape = given.array("spectrum", spectrum).shape
    if len(shape) != 1 or not 1 <= shape[0] <= d:
        raise UserError(
            f"expected between 1 and d={d} non-negative eigenvalues, got shape {shape}; "
            "give a flat list"
        )
    values = given.vector("spectrum", spectrum, shape[0])
    if not (values >= 0).all():
        raise UserError(
            f"expected non-negative eigenvalues, got {values.min()}; those of X X^T never are"
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


def _geometric(rng: Generator, n: int, start: int, stop: int, seed: int) -> Array:
    scale = 10.0 ** -np.linspace(0, CONDITION, n)  # singular values fall geometrically
    rotation = _rotation(np.random.default_rng(seed), n)
    return (rng.standard_normal((stop - start, n)) * scale) @ rotation.T


def _near_duplicate(rng: Generator, n: int, start: int, stop: int, seed: int) -> Array:
    block = rng.standard_normal((stop - start, n))
    if n > 1:  # the last sample is the first one, but for a millionth
        block[:, -1] = block[:, 0] + 10.0**-CONDITION * block[:, -1]
    return block


def _rank_deficient(rng: Generator, n: int, start: int, stop: int, seed: int) -> Array:
    rank = max(1, n // 2)
    basis = np.random.default_rng(seed).standard_normal((n, rank))
    return rng.standard_normal((stop - start, rank)) @ basis.T


def _dominant(rng: Generator, n: int, start: int, stop: int, seed: int) -> Array:
    block = rng.standard_normal((stop - start, n))
    if start == 0:
        block[0] *= 200.0  # one column weighs as much as 40,000 others
    return block


def _tiled(rng: Generator, n: int, start: int, stop: int, seed: int) -> Array:
    return np.eye(n)[np.arange(start, stop) % n]  # X = [I I .. I], all eigenvalues independent


DISTRIBUTIONS: dict[str, Draw] = {
    "uniform": _uniform,
    "gaussian": _gaussian,
    "rademacher": _rademacher,
    "student": _student,
    "sparse": _sparse,
    "power-law": _power_law,
    "geometric": _geometric,
    "near-duplicate": _near_duplicate,
    "rank-deficient": _rank_deficient,
    "dominant": _dominant,
    "tiled": _tiled,
}
