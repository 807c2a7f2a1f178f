"""``python -m theory.bench``: masks per second, against the naive dense ways.

Set OMP_NUM_THREADS=1 on a machine that does other work: the naive products' threads wait for each
other there, and the comparison flatters ours, which uses one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from landscape.figures.table import format_table
from theory.distributions import draw
from theory.features import Array, Features, Indices
from theory.spectra import descending, draw_mask, gram_of, masked_eigenvalues, masked_grams

RATIOS = (0.1, 0.01, 0.001)
SLOPE_RATIOS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
COUNT = 10_000
ROUNDS = 15  # of the comparison with the floor, one after the other in turn


@dataclass(frozen=True)
class Bench:
    """Hold the measured figures; seconds are of the wall clock where nothing else is said.

    Args:
        n: samples.
        d: features.
        threads: that the naive products may use (OMP_NUM_THREADS or all cores); ours uses one.
        masks_per_second: p -> masks per second by ``masked_eigenvalues``.
        naive_masks_per_second: p -> the same by a d-vector diagonal and a product at full d.
        speedup_vs_naive: the quotient of the two at p = 0.01.
        seconds_10k_masks: measured time of 10,000 masks at p = 0.01.
        over_gram_floor: processor time to draw masks at p = 0.01, gather their columns and multiply
            them, over that of the same products on columns gathered before: what is left to gain.
            Both in turn, one thread; the median over ``ROUNDS`` of them.
        exponent_in_pd: slope of log time per mask against log p d, p from 0.01 to 0.64; the time
            of the n x n eigenvalues, which does not depend on p d, is taken off.
        dense_d: features of the comparison with d x d matrices.
        speedup_vs_dense: against eigenvalues of M X^T X M, d x d, at ``dense_d`` and p = 0.01.
    """

    n: int
    d: int
    threads: int
    masks_per_second: dict[str, float]
    naive_masks_per_second: dict[str, float]
    speedup_vs_naive: float
    seconds_10k_masks: float
    over_gram_floor: float
    exponent_in_pd: float
    dense_d: int
    speedup_vs_dense: float


def naive_eigenvalues(x: Array, indices: Indices) -> Array:
    """Return the eigenvalues of X M X^T from a d-vector diagonal, the naive way; cost d n^2."""
    diagonal = np.zeros(x.shape[1])
    diagonal[indices] = 1
    return descending((x * diagonal) @ x.T)


def dense_eigenvalues(x: Array, indices: Indices) -> Array:
    """Return the n largest eigenvalues of M X^T X M as a d x d matrix; cost d^3."""
    diagonal = np.zeros(x.shape[1])
    diagonal[indices] = 1
    masked = x * diagonal
    return descending(masked.T @ masked)[: len(x)]


def measure(
    n: int = 32, d: int = 100_000, *, dense_d: int = 2000, count: int = COUNT, seed: int = 0
) -> Bench:
    """Time the eigenvalues of random masks on uniform features.

    Args:
        n: samples.
        d: features.
        dense_d: features of the d x d comparison.
        count: masks of the long run, whose time is scaled to 10,000.
        seed: of features and masks.
    """
    features, some = draw("uniform", n, d, seed=seed), max(1, count // 50)
    x = np.ascontiguousarray(features.columns().T)
    masked_eigenvalues(features, 0.01, 2)  # touches every page once
    long = _seconds(lambda: masked_eigenvalues(features, 0.01, count, seed=seed)) / count
    ours = {p: _per_mask(features, p, some, seed) for p in RATIOS} | {0.01: long}
    naive = {p: _per_naive_mask(x, p, max(2, some // 10), seed) for p in RATIOS}
    small = draw("uniform", n, dense_d, seed=seed)
    dense = small.columns().T.copy()
    mask = draw_mask(np.random.default_rng(seed), dense_d, 0.01)
    slow = _seconds(lambda: dense_eigenvalues(dense, mask))
    return Bench(
        n=n,
        d=d,
        threads=int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        masks_per_second={f"{p:g}": 1 / seconds for p, seconds in ours.items()},
        naive_masks_per_second={f"{p:g}": 1 / seconds for p, seconds in naive.items()},
        speedup_vs_naive=naive[0.01] / long,
        seconds_10k_masks=long * COUNT,
        over_gram_floor=over_gram_floor(features, 0.01, min(some, 100), seed),
        exponent_in_pd=_slope(features, max(1, some // 5), seed),
        dense_d=dense_d,
        speedup_vs_dense=slow / _per_mask(small, 0.01, some, seed),
    )


def over_gram_floor(features: Features, p: float, count: int, seed: int = 0) -> float:
    """Return processor time of masked Gram matrices over that of their products alone.

    The products of ``gram_of`` on columns gathered before are what no way to draw masks and to read
    X can save. Each gathered mask has memory of its own, which is read once, as X is.

    Args:
        features: X, stored.
        p: probability to keep a feature.
        count: masks a round; their columns are held at once, count p d n floats.
        seed: of the masks.
    """

    def drawn() -> list[Indices]:
        rng = np.random.default_rng(seed)
        return [draw_mask(rng, features.d, p) for _ in range(count)]

    gathered = [features.take(mask) for mask in drawn()]

    def whole() -> None:
        masked_grams(features, drawn())

    def floor() -> None:
        for columns in gathered:
            gram_of(columns)

    times = [[_seconds(work, time.process_time) for work in (whole, floor)] for _ in range(ROUNDS)]
    ours, products = np.transpose(times)
    return float(np.median(ours / products))


def _seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    work()
    return clock() - started


def _per_mask(features: Features, p: float, count: int, seed: int) -> float:
    return _seconds(lambda: masked_eigenvalues(features, p, count, seed=seed)) / count


def _per_naive_mask(x: Array, p: float, count: int, seed: int) -> float:
    """Return the seconds of the fastest of several masks, in favour of the naive way."""
    rng = np.random.default_rng(seed)
    masks = [draw_mask(rng, x.shape[1], p) for _ in range(count)]
    return min(_seconds(partial(naive_eigenvalues, x, mask)) for mask in masks)


def _slope(features: Features, count: int, seed: int) -> float:
    """Fit log of the seconds per mask, less those of its eigenvalues, to log p d.

    Of five rounds over all sizes the fastest counts: the least disturbed by other processes.
    """
    rng = np.random.default_rng(seed)
    grams = masked_grams(features, [draw_mask(rng, features.d, 0.01) for _ in range(count)])
    rounds = [
        [
            _seconds(partial(descending, grams)) / count,
            *(_per_mask(features, p, count, seed) for p in SLOPE_RATIOS),
        ]
        for _ in range(5)
    ]
    fixed, *times = np.min(rounds, axis=0)
    growing = np.maximum(np.array(times) - fixed, 1e-9)  # small sizes drown in the clock's noise
    sizes = np.array(SLOPE_RATIOS) * features.d
    return float(np.polyfit(np.log(sizes), np.log(growing), 1)[0])


def print_bench(bench: Bench) -> None:
    """Print the figures as a table."""
    rows = []
    for p, rate in bench.masks_per_second.items():
        naive = bench.naive_masks_per_second[p]
        rows.append({
            "p": p, "masks/s": f"{rate:,.0f}", "naive masks/s": f"{naive:,.1f}",
            "speedup": f"{rate / naive:.1f}",
        })  # fmt: skip
    print(f"n = {bench.n}, d = {bench.d:,}\n{format_table(rows, plain=True)}")
    print(
        f"10,000 masks at p = 0.01: {bench.seconds_10k_masks:.1f} s, their Gram matrices "
        f"{bench.over_gram_floor:.2f} times the products alone; time ~ (p d)^"
        f"{bench.exponent_in_pd:.2f}; at d = {bench.dense_d} {bench.speedup_vs_dense:,.0f} times "
        "faster than d x d"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m theory.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    bench = measure()
    if options.json:
        print(json.dumps(asdict(bench)))
    else:
        print_bench(bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())
