"""Seeds: where every random number comes from, and how one seed becomes many streams.

No scheme touches, or is touched by, the global generators. The same seed gives the same numbers on
every device and rank.

    generator(seed)               directions, probes and starting vectors: torch, on the CPU
    stream(seed, name, shape)     the mask of one tensor: numpy's Philox, keyed by all three
    derived(seed, "order", 3)     a seed out of a seed and a purpose: the order of an epoch
                                  (training/epochs.py), the dropout of a step
    drawing(seed)                 layers that torch initialises itself, from the global generator
    numbered(seed, purpose)       theory: numpy's default generator, one stream a purpose
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # theory draws without torch, which takes seconds to import
    import torch


def generator(seed: int) -> torch.Generator:
    """Return torch's generator on the CPU, seeded as it stands."""
    import torch

    return torch.Generator().manual_seed(seed)


def stream(seed: int, name: str, shape: Sequence[int]) -> np.random.Generator:
    """Return the stream of one tensor, a pure function of (seed, name, shape).

    Tensors of equal shape have different streams, and adding a tensor changes no other's.
    """
    digest = hashlib.sha256(f"{seed}\0{name}\0{tuple(shape)}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def derived(seed: int, *purpose: object) -> int:
    """Return a seed of 56 bits for a purpose, such as ``("order", epoch)``.

    >>> derived(0, "order", 1) == derived(0, "order", 1) != derived(0, "order", 2)
    True
    """
    digest = hashlib.sha256("\0".join(map(str, (seed, *purpose))).encode()).digest()
    return int.from_bytes(digest[:7], "little")


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Let torch's global CPU generator draw from a seed inside, and give it back as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def numbered(seed: int, *purpose: int) -> np.random.Generator:
    """Return numpy's default generator for a seed and the number of a purpose."""
    return np.random.default_rng([seed, *purpose])
