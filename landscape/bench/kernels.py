"""Time the gradient kernels on many sizes, fit the cost model, and say what its choices cost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor
from tqdm import tqdm

from landscape import seeds
from landscape.bench.interleaved import refuse_rounds
from landscape.folders import provenance
from landscape.kernels import Coordinates, sampled_values
from landscape.kernels.choice import KERNELS, usable_kernels
from landscape.kernels.gather import gather
from landscape.kernels.kernel import Work

SHAPE = (768, 768)
DENSITIES = (1e-5, 1e-4, 1e-3, 1e-2, 5e-2, 0.1, 0.5)
TOKENS = (64, 512, 4096)
PATTERNS = ("random", "columns")
#: the gather kernel is left out where it would touch more numbers than this: hopelessly slow
LARGEST_GATHER = 1 << 26
#: chunks of the gather kernel to compare, in numbers, on the cells that need several of them
CHUNKS = (1 << 15, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 22)
#: a timing repeats its call until it takes this long: shorter ones measure the clock
SHORTEST = 2e-3


def bench_kernels(*, rounds: int = 7, seed: int = 0) -> dict[str, Any]:
    """Time every kernel on a 768 x 768 weight, interleaved, float32.

    Args:
        rounds: timed rounds of each cell after one warm-up, at least 1.
        seed: of the positions and activations.

    Returns:
        `cells` (pattern, density, tokens, k, submatrix, milliseconds by kernel, the least of the
        rounds, since a busy machine only adds; the model's choice, its time over the best);
        `worst_choice` and `median_choice` over the cells; `fitted` and `present` constants of the
        cost model in seconds; `worst_fitted_choice` and `median_fitted_choice`, of a model with
        the fitted constants; `gather_chunks`, chunk -> the gather kernel's time over that at the
        best chunk, median over the cells; provenance.

    Raises:
        UserError: rounds is below 1.
    """
    refuse_rounds(rounds)
    sizes = [(p, density, tokens) for p in PATTERNS for density in DENSITIES for tokens in TOKENS]
    cells = [_cell(*at, rounds, seed) for at in tqdm(sizes, leave=False, disable=None)]
    fitted = fit(cells)
    over = [cell["choice_over_best"] for cell in cells]
    over_fitted = [choice_over_best(cell, constants() | fitted)[1] for cell in cells]
    return {
        "shape": list(SHAPE),
        "rounds": rounds,
        "cells": cells,
        "worst_choice": max(over),
        "median_choice": median(over),
        "worst_fitted_choice": max(over_fitted),
        "median_fitted_choice": median(over_fitted),
        "fitted": fitted,
        "present": constants(),
        "gather_chunks": _time_chunks(cells, rounds, seed),
        "provenance": provenance(),
    }


def fit(cells: list[dict[str, Any]]) -> dict[str, float]:
    """Fit the cost model's constants by non-negative least squares on relative errors.

    Each kernel by itself: minimise sum over cells of w^2 (predicted / measured - 1)^2, where w is
    the best kernel's time over this one's: how slow a hopeless kernel is does not matter. A kernel
    that no cell timed keeps its constants; they are absent here.

    >>> def cell(k): return {"k": k, "tokens": 64, "submatrix": None,
    ...                      "milliseconds": {"gather": 0.01 + 2e-6 * k * 64}}
    >>> {name: round(value * 1e9, 6) for name, value in fit([cell(9), cell(900)]).items()}
    {'gather.call': 10000.0, 'gather.entry': 2.0}
    """
    found: dict[str, float] = {}
    for kernel, record in KERNELS.items():
        timed = [c for c in cells if kernel in c["milliseconds"]]
        if not timed:
            continue
        seconds = np.array([c["milliseconds"][kernel] * 1e-3 for c in timed])
        units = [record.units(_work(c)) for c in timed]
        # a structured mask may leave entries to the gather kernel, which has its own fit
        known = np.array([sum(found[n] * u for n, u in row.items() if n in found) for row in units])
        names = sorted({n for row in units for n in row} - found.keys())
        near = np.array([min(c["milliseconds"].values()) * 1e-3 for c in timed]) / seconds
        A = np.array([[float(row.get(name, 0)) for name in names] for row in units])
        A *= (near / seconds)[:, None]
        scale = np.maximum(A.max(axis=0), np.finfo(float).tiny)
        constants, _ = nnls(A / scale, near * (1 - known / seconds))
        # a constant that no cell could show keeps its value
        seen = A.max(axis=0) > 0
        fitted = zip(names, constants / scale, seen, strict=True)
        found |= {name: float(value) for name, value, visible in fitted if visible}
    return found


def constants() -> dict[str, float]:
    """Return the constants in use of all kernels' cost models, in seconds."""
    return {name: value for kernel in KERNELS.values() for name, value in kernel.constants.items()}


def choice_over_best(cell: Mapping[str, Any], seconds: Mapping[str, float]) -> tuple[str, float]:
    """Return the kernel that the model chooses for a cell, and its time over the best one's.

    Among the kernels that the cell timed.
    """
    work, times = _work(cell), cell["milliseconds"]
    chosen = min(times, key=lambda name: KERNELS[name].seconds(work, seconds))
    return chosen, times[chosen] / min(times.values())


def _work(cell: Mapping[str, Any]) -> Work:
    return Work(cell["k"], *SHAPE, cell["tokens"], cell["submatrix"] and tuple(cell["submatrix"]))


def _positions(pattern: str, density: float, generator: torch.Generator) -> Tensor:
    rows, cols = SHAPE
    k = max(1, round(density * rows * cols))
    if pattern == "random":
        return torch.randperm(rows * cols, generator=generator)[:k].sort().values
    whole = torch.randperm(cols, generator=generator)[: max(1, k // rows)].sort().values
    return (torch.arange(rows)[:, None] * cols + whole).reshape(-1)


def _operands(
    pattern: str, density: float, tokens: int, seed: int
) -> tuple[Tensor, Tensor, Coordinates]:
    generator = seeds.generator(seed)
    at = Coordinates(_positions(pattern, density, generator), SHAPE)
    a = torch.randn(tokens, SHAPE[0], generator=generator)
    return a, torch.randn(tokens, SHAPE[1], generator=generator), at


def _cell(pattern: str, density: float, tokens: int, rounds: int, seed: int) -> dict[str, Any]:
    a, b, at = _operands(pattern, density, tokens, seed)
    names = usable_kernels(at, a.dtype)
    if at.count * tokens > LARGEST_GATHER:
        names.remove("gather")
    calls = {name: 1 + int(SHORTEST / _seconds(a, b, at, name, 2)) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            times[name].append(_seconds(a, b, at, name, calls[name]))
    work = Work.of(at, tokens)
    cell: dict[str, Any] = {
        "pattern": pattern, "density": density, "tokens": tokens, "k": at.count,
        "submatrix": work.submatrix and list(work.submatrix),
        "milliseconds": {name: 1e3 * min(values) for name, values in times.items()},
    }  # fmt: skip
    chosen, over = choice_over_best(cell, constants())
    return cell | {"choice": chosen, "choice_over_best": over}


def _time_chunks(cells: list[dict[str, Any]], rounds: int, seed: int) -> dict[str, float]:
    """Time the gather kernel at several chunks, interleaved, where it needs several or nearly."""
    over: dict[int, list[float]] = {chunk: [] for chunk in CHUNKS}
    for cell in cells:
        size = cell["k"] * cell["tokens"]
        if cell["pattern"] != "random" or not min(CHUNKS) < size <= LARGEST_GATHER // 8:
            continue
        a, b, at = _operands("random", cell["density"], cell["tokens"], seed)
        calls = 1 + int(SHORTEST / (1e-3 * cell["milliseconds"]["gather"]))
        least = dict.fromkeys(CHUNKS, float("inf"))
        for _ in range(rounds):
            for chunk in CHUNKS:
                start = time.perf_counter()
                for _ in range(calls):
                    gather(a, b, at, chunk)
                least[chunk] = min(least[chunk], time.perf_counter() - start)
        for chunk in CHUNKS:
            over[chunk].append(least[chunk] / min(least.values()))
    return {str(chunk): median(ratios) for chunk, ratios in over.items() if ratios}


def _seconds(a: Tensor, b: Tensor, at: Coordinates, kernel: str, calls: int) -> float:
    """Return the mean time of some calls."""
    start = time.perf_counter()
    for _ in range(calls):
        sampled_values(a, b, at, kernel)
    return (time.perf_counter() - start) / calls
