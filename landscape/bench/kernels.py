"""Time the gradient kernels over a grid, fit the cost model, and say what its choices cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, get_args

import numpy as np
import torch
from scipy.optimize import nnls
from tqdm import tqdm

from landscape import kernels
from landscape.errors import UserError
from landscape.kernels import Coordinates, Kernel, choose_kernel, sampled_values
from landscape.runs import provenance

SHAPE = (768, 768)
DENSITIES = (1e-5, 1e-4, 1e-3, 1e-2, 5e-2, 0.1, 0.5)
TOKENS = (64, 512, 4096)
#: the gather kernel is left out where it would touch more numbers than this: seconds a call
LARGEST_GATHER = 1 << 28


def bench_kernels(*, rounds: int = 7, seed: int = 0) -> dict[str, Any]:
    """Time gather, sampled and dense on a 768 x 768 weight, interleaved, float32.

    Args:
        rounds: timed rounds of each cell after one warm-up, at least 1.
        seed: of the positions and activations.

    Returns:
        `cells` (density, tokens, milliseconds by kernel, the model's choice, its time over the
        best), `worst_choice` and `median_choice` over the cells, `fitted` and `present` constants
        of the cost model in seconds, provenance.

    Raises:
        UserError: rounds is below 1.
    """
    if rounds < 1:
        raise UserError(f"rounds must be at least 1, got {rounds}")
    grid = [(density, tokens) for density in DENSITIES for tokens in TOKENS]
    cells = [_cell(density, tokens, rounds, seed) for density, tokens in tqdm(grid, leave=False)]
    over = [cell["choice_over_best"] for cell in cells]
    return {
        "shape": list(SHAPE),
        "rounds": rounds,
        "cells": cells,
        "worst_choice": max(over),
        "median_choice": median(over),
        "fitted": fit(cells),
        "present": {
            "GATHER_ENTRY": kernels.GATHER_ENTRY,
            "SAMPLED_ENTRY": kernels.SAMPLED_ENTRY,
            "SAMPLED_ROW": kernels.SAMPLED_ROW,
            "DENSE_ENTRY": kernels.DENSE_ENTRY,
        },
        "provenance": provenance(),
    }


def fit(cells: list[dict[str, Any]]) -> dict[str, float]:
    """Fit the cost model's constants by non-negative least squares on relative errors.

    >>> cells = [{"k": k, "tokens": 64, "milliseconds": {"gather": 2e-6 * k * 64}} for k in (9, 90)]
    >>> round(fit(cells)["GATHER_ENTRY"] * 1e9, 6)
    2.0
    """
    rows, cols = SHAPE
    features: dict[str, tuple[tuple[str, ...], Callable[[int], list[float]]]] = {
        "gather": (("GATHER_ENTRY",), lambda k: [k]),
        "sampled": (("SAMPLED_ROW", "SAMPLED_ENTRY"), lambda k: [rows + cols, k]),
        "dense": (("DENSE_ENTRY",), lambda k: [rows * cols]),
    }
    found: dict[str, float] = {}
    for kernel, (names, feature) in features.items():
        timed = [c for c in cells if kernel in c["milliseconds"]]
        if not timed:
            continue
        seconds = np.array([c["milliseconds"][kernel] * 1e-3 for c in timed])
        work = np.array([[f * c["tokens"] for f in feature(c["k"])] for c in timed], dtype=float)
        constants, _ = nnls(work / seconds[:, None], np.ones(len(timed)))
        found |= dict(zip(names, constants.tolist(), strict=True))
    return found


def _cell(density: float, tokens: int, rounds: int, seed: int) -> dict[str, Any]:
    rows, cols = SHAPE
    generator = torch.Generator().manual_seed(seed)
    k = max(1, round(density * rows * cols))
    indices = torch.randperm(rows * cols, generator=generator)[:k].sort().values
    at = Coordinates(indices, SHAPE)
    a = torch.randn(tokens, rows, generator=generator)
    b = torch.randn(tokens, cols, generator=generator)
    names = [n for n in get_args(Kernel) if n != "gather" or k * tokens <= LARGEST_GATHER]
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name in names:
            start = time.perf_counter()
            sampled_values(a, b, at, name)
            if turn:
                times[name].append(time.perf_counter() - start)
    milliseconds = {name: 1e3 * median(values) for name, values in times.items()}
    choice = choose_kernel(k, SHAPE, tokens, torch.float32)
    taken = milliseconds.get(choice, float("inf"))
    return {
        "density": density, "tokens": tokens, "k": k, "milliseconds": milliseconds,
        "choice": choice, "choice_over_best": taken / min(milliseconds.values()),
    }  # fmt: skip
