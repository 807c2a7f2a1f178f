"""Nested masks: a larger one is sharper, allows smaller steps, and has a nearer solution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np

from landscape import seeds
from theory import purposes
from theory.claim import Claim, Finding, Verdict, ratio
from theory.factors import factor_of, positive, rank_note, resolved
from theory.features import Array, plain
from theory.problems import MaskedRegression
from theory.spectra import descending, every_mask

Ends = tuple[Array, Array, float]
Monotone = Callable[[Array, float | Array], Ends]
EPS = float(np.finfo(np.float64).eps)
FEW = 5  # columns whose 3^5 pairs of nested masks are all compared
LINKS = 8  # masks of a chain on the whole instance
GROWTH = 30  # steps of the growing run
#: n = 1: one more column of 1 adds its whole square, one more of 0 changes nothing
EQUAL = np.array([[1.0], [1.0], [0.0]])


def nested_ends(values: Array, added: float | Array) -> Ends:
    """Return what lambda_i(S') and the distance on S' lie between, for S' above S.

    lambda_i(S) <= lambda_i(S') <= lambda_i(S) + lambda_1(S' - S) and ||w_S'|| <= ||w_S|| for every
    y that S interpolates.

    Args:
        values: lambda_i(S), (n,), or many of them, (N, n).
        added: lambda_1 of the columns in S' and not in S, or many, (N, 1).

    Returns:
        Lower ends (n,), upper ends (n,), and the largest ||w_S'|| / ||w_S||.
    """
    return values, values + added, 1.0


def unstable_step(sharpness: Sequence[float] | Array, lr: float) -> int | None:
    """Return the first step whose mask is too sharp for a rate: lr > 2 / sharpness; None if none.

    Args:
        sharpness: of the mask at each step, lambda_1(S_t) / n; it never falls in nested masks.
        lr: the fixed rate of gradient descent.

    >>> unstable_step([1.0, 2.0, 5.0], 0.5)
    2
    """
    above = np.flatnonzero(lr * np.asarray(sharpness) > 2)
    return int(above[0]) if len(above) else None


def farthest(small: Array, large: Array) -> float:
    """Return max ||w_S'|| / ||w_S|| over all y that S interpolates: ||(XM')^+ XM||, spectral.

    Args:
        small, large: R with R^T R = X M X^T of S and of S' above it, (n, n).
    """
    _, s, u = np.linalg.svd(large)
    kept = positive(s)
    return float(np.linalg.norm((u[kept] / s[kept, None]) @ small.T, 2)) if kept.any() else 0.0


def _worst(predict: Monotone, small: Array, large: Array, added: float, slack: float) -> float:
    """Return by how much the ends are left, in units of the allowance; at most 1 where none is."""
    values = np.square(np.linalg.svd(small, compute_uv=False))
    above = np.square(np.linalg.svd(large, compute_uv=False))
    low, high, most = predict(values, added)
    off = max(float((low - above).max()), float((above - high).max()))
    scale = 1e-12 * float(above[0]) or 1.0
    return max(off / scale, (farthest(small, large) - most) / slack)


@cache
def equality(predict: Monotone) -> float:
    """Return the worst excess over all nested masks of the columns 1, 1, 0 of one sample."""
    return _all_pairs(predict, EQUAL)


def _all_pairs(predict: Monotone, columns: Array) -> float:
    """Return the worst excess over all pairs of nested masks of a few columns (k, n)."""
    _, kept = every_mask(columns, 0.5)
    grams = np.einsum("tki,tkj->tij", kept, kept)
    values = descending(grams)
    pairs = [(s, t) for t in range(len(kept)) for s in range(t) if s & t == s]
    small, large = np.array(pairs).T
    added = descending(grams[large - small])[:, 0]  # the mask of the difference of the bits
    low, high, most = predict(values[small], added[:, None])
    scale = 1e-12 * values[large, :1] + 1e-300
    off = np.maximum(low - values[large], values[large] - high) / scale
    _, s, u = np.linalg.svd(kept[large], full_matrices=False)
    inverse = np.where(positive(s), 1 / np.where(positive(s), s, 1.0), 0.0)
    maps = (u * inverse[:, :, None]) @ kept[small].transpose(0, 2, 1)
    condition = s.max(axis=1) * inverse.max(axis=1)
    reach = (np.linalg.norm(maps, 2, axis=(1, 2)) - most) / (1e-9 + 100 * EPS * condition)
    return max(float(off.max()), float(reach.max()))


def chain(problem: MaskedRegression, seed: int, links: int) -> Iterator[Array]:
    """Yield the columns (k, n) that each of some nested masks adds, smallest mask first."""
    mask = problem.draw(seed)
    first = seeds.numbered(seed, purposes.CHAINS).integers(0, links, mask.k)
    for link in range(links):
        yield mask.columns[first == link]


def _rises_early(problem: MaskedRegression, seed: int) -> tuple[int | None, int | None, float]:
    """Run gradient descent while the mask grows at a rate that half of it allows.

    Returns:
        The step whose mask is too sharp, the first step that raises the loss, and the largest
        relative rise before the former.
    """
    n, gram = problem.n, np.zeros((problem.n, problem.n))
    grams = []
    for columns in chain(problem, seed, GROWTH):
        gram = gram + columns.T @ columns / n
        grams.append(gram)
    sharpness = np.array([float(np.linalg.eigvalsh(gram)[-1]) for gram in grams])
    lr = 2 / max(float(sharpness[GROWTH // 2]), 1e-300) * (1 + 1e-9)
    crossing = unstable_step(sharpness, lr)
    residual = plain(problem.y)
    losses = [float(residual @ residual)]
    for gram in grams:
        residual = residual - lr * gram @ residual
        losses.append(float(residual @ residual))
    rises = np.diff(losses) / (losses[0] or 1.0)
    first = np.flatnonzero(rises > 1e-12)
    before = rises[:crossing] if crossing is not None else rises
    return crossing, int(first[0]) if len(first) else None, float(before.max(initial=0.0))


def _nested(predict: Monotone, problem: MaskedRegression, seed: int) -> Finding:
    """Compare all nested masks of a few columns, then a chain on the whole instance.

    The distances are compared for every y at once, by the norm of a matrix.
    """
    quantity = "max ||w_S'|| / ||w_S|| over y, S' the whole mask and S 7/8 of it"
    few = problem.features.take(np.arange(min(FEW, problem.d)))
    worst = max(equality(predict), _all_pairs(predict, few))
    factor, seen, links = np.zeros((problem.n, problem.n)), 0.0, 0
    settled, note = True, ""
    for columns in chain(problem, seed, LINKS):
        before, factor = factor, factor_of(np.concatenate([factor, columns]))
        if not before.any():
            continue
        s = np.asarray(np.linalg.svd(factor, compute_uv=False))
        kept = s[positive(s)]
        slack = 1e-9 + 100 * EPS * float(kept[0] / kept[-1])
        added = float(np.linalg.norm(columns, 2)) ** 2 if len(columns) else 0.0
        worst = max(worst, _worst(predict, before, factor, added, slack))
        seen, links = farthest(before, factor), links + 1
        settled, note = settled and resolved(s), rank_note(s) or note
    if problem.moments.top == 0:
        return Finding("vacuous", quantity, 1.0, 0.0, note="X = 0")
    crossing, rise, early = _rises_early(problem, seed)
    verdict: Verdict = "holds" if worst <= 1 and early <= 1e-12 else "violated"
    if not settled and equality(predict) <= 1:
        verdict = "unsettled"
    most = predict(np.ones(1), 0.0)[2]
    grown = f"a growing mask gets too sharp for its rate at step {crossing} of {GROWTH}"
    grown += f", the loss first rises at {rise}" if rise is not None else ""
    return Finding(
        verdict,
        quantity,
        most,
        seen,
        ratio(most, seen),
        note=note or f"all nested pairs of {len(few)} columns; {grown}",
        details={
            "worst excess over the allowance": worst,
            "links of the chain": links,
            "largest rise of the loss before that step": early,
        },
    )


CLAIMS = (
    Claim(
        "nested-masks",
        "S in S': lambda_i(S) <= lambda_i(S'), and |w_S| >= |w_S'| for every y that S interpolates",
        "S in S' implies lambda_i(S) <= lambda_i(S') <= lambda_i(S) + lambda_1(S' - S) for all i, "
        "so the largest stable step 2n/lambda_1 never grows, and ||w_S'|| <= ||w_S|| for every y "
        "that S interpolates; gradient descent on growing masks cannot raise the loss before the "
        "step at which lr > 2n/lambda_1(S_t)",
        "this project",
        nested_ends,
        _nested,
        chapter="Dynamics on one mask",
        assumptions=("S is part of S'",),
        proof=(
            "A larger mask adds a positive semidefinite matrix (Weyl); what S can fit, S' can "
            "fit with the same weights, so its smallest solution is no longer."
        ),
        measured=(
            "All pairs of nested masks of a few columns and a chain on the instance, for every y"
            " at once; then gradient descent while the mask grows. Violated where an order is "
            "broken."
        ),
        rejects=(
            "a larger mask is not sharper",
            "sharper by what is added",
            "half of what is added",
            "strictly nearer",
        ),
    ),
)
