"""Images that releases hold as bare numbers, as rows of an image file's bytes and a label.

The bytes are Netpbm's (a line of text, then the pixels as they are): nothing is lost, nothing is
computed, and they are the same whatever compresses images on a machine.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import UserError
from landscape.tasks.files.row import Row
from landscape.tasks.files.table import unpacked

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

_SIDE = 32
_IDX = {1: 0x00000801, 3: 0x00000803}
"""Dimensions -> the number that begins such a file of bytes."""


def netpbm(pixels: Pixels) -> bytes:
    """Return an image as the bytes of a Netpbm file.

    Args:
        pixels: bytes (height, width), grey, or (height, width, 3), red, green, blue.

    >>> netpbm(np.array([[0, 255]], np.uint8))
    b'P5 2 1 255\\n\\x00\\xff'
    """
    kind = "P5" if pixels.ndim == 2 else "P6"
    return f"{kind} {pixels.shape[1]} {pixels.shape[0]} 255\n".encode() + pixels.tobytes()


def read_idx(images: Path, labels: Path) -> Iterator[Row]:
    """Yield the rows of MNIST's own pair of files, packed or not.

    Raises:
        UserError: files of another format or length, or unequal numbers of images and labels.
    """
    pixels, numbers = _idx(images, 3), _idx(labels, 1)
    if len(pixels) != len(numbers):
        raise UserError(
            f"expected a label for each of the {len(pixels):,} images of {images.name}, got "
            f"{len(numbers):,} in {labels.name}; fetch both files again"
        )
    for i, (image, label) in enumerate(zip(pixels, numbers), start=1):
        yield Row({"image": netpbm(image), "label": int(label)}, f"{images.name}, image {i}")


def _idx(path: Path, dimensions: int) -> Pixels:
    raw = unpacked(path)
    size = 4 * (1 + dimensions)
    head = np.frombuffer(raw[:size], ">u4").tolist() if len(raw) >= size else []
    shape = tuple(head[1:])
    if head[:1] != [_IDX[dimensions]] or len(raw) - size != math.prod(shape):
        raise UserError(
            f"expected an idx file of bytes in {dimensions} dimensions, whole, got {path.name} "
            f"with {len(raw):,} bytes beginning {raw[:4].hex()}; fetch it again"
        )
    return np.frombuffer(raw, np.uint8, offset=size).reshape(shape)


def read_cifar(*batches: Path) -> Iterator[Row]:
    """Yield the rows of CIFAR-10's binary version: a label, and 32 x 32 reds, greens and blues.

    Args:
        batches: files of the release.

    Raises:
        UserError: a file that does not hold whole images, or one of pickled Python objects.
    """
    size = 1 + 3 * _SIDE * _SIDE
    for path in batches:
        if path.suffix != ".bin":
            raise UserError(
                f"expected CIFAR-10 in a format that holds data alone, got {path.name} of the "
                "Python version, a pickle, which may run any code when it is opened; fetch the "
                "binary version of the release (cifar-10-binary.tar.gz), or the hub's parquet"
            )
        raw = np.frombuffer(path.read_bytes(), np.uint8)
        if not len(raw) or len(raw) % size:
            raise UserError(
                f"expected images of {size:,} bytes each in {path.name}, got {len(raw):,} bytes; "
                "fetch the file again"
            )
        for i, record in enumerate(raw.reshape(-1, size), start=1):
            image = record[1:].reshape(3, _SIDE, _SIDE).transpose(1, 2, 0)
            yield Row({"image": netpbm(image), "label": int(record[0])}, f"{path.name}, image {i}")


def read_svhn(path: Path) -> Iterator[Row]:
    """Yield the rows of SVHN's cropped digits, whose label 10 is the digit 0.

    Raises:
        UserError: a file that is no MATLAB file with such images ``X`` and labels ``y``.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        held = loadmat(path, variable_names=("X", "y"))
        pixels, numbers = held["X"], held["y"].reshape(-1)
    except (
        MatReadError, NotImplementedError, KeyError, OSError, TypeError, ValueError, zlib.error
    ) as error:  # fmt: skip
        raise UserError(
            f"expected a MATLAB file with X and y, got {path.name}, which cannot be read "
            f"({error}); fetch {path.name} of the cropped digits (format 2) again"
        ) from error
    wanted = (_SIDE, _SIDE, 3, len(numbers))
    if pixels.shape != wanted or pixels.dtype != np.uint8:
        raise UserError(
            f"expected X of bytes in {wanted} in {path.name}, got {pixels.dtype} in "
            f"{pixels.shape}; fetch {path.name} of the cropped digits (format 2) again"
        )
    for i, label in enumerate(numbers.tolist()):
        digit = 0 if label == 10 else label
        yield Row({"image": netpbm(pixels[..., i]), "label": digit}, f"{path.name}, image {i + 1}")


def read_table(path: Path) -> Iterator[Row]:
    """Yield the rows of a table of grey pixels without a header, a label at the end of each line.

    Raises:
        UserError: lines of unequal lengths, numbers that are no bytes, or no square image.
    """
    lines = unpacked(path).decode("ascii", errors="replace").splitlines()
    try:
        numbers = np.loadtxt(lines, delimiter=",", dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise UserError(
            f"expected a table of whole numbers in {path.name}, got what is none ({error}); "
            "install the package again"
        ) from error
    side = math.isqrt(numbers.shape[1] - 1) if numbers.size else 0
    outside = not numbers.size or numbers.min() < 0 or numbers.max() > 255
    if outside or side * side != numbers.shape[1] - 1:
        raise UserError(
            f"expected lines of a square image's bytes and a label in {path.name}, got "
            f"{numbers.shape[1]} columns from {numbers.min(initial=0)} to "
            f"{numbers.max(initial=0)}; install the package again"
        )
    pixels = numbers[:, :-1].astype(np.uint8).reshape(-1, side, side)
    for i, (image, label) in enumerate(zip(pixels, numbers[:, -1].tolist()), start=1):
        yield Row({"image": netpbm(image), "label": label}, f"{path.name}, line {i}")
