"""Each library's way to the top eigenvalue of a case: ours and three others, stopped alike.

Every library is timed to the moment at which it is within ACCURACY of the converged eigenvalue,
which its user cannot know. Ours and curvlinops with eigsh stop by their own rule, at the loosest
of TOLERANCES that suffices (found beforehand, with our products): ours by its own residual, a
product more, included. PyHessian and hessian-eigenthings, whose rules do not tell, are stopped
there: a gift to them. What they take by rules of their own is reported beside it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from landscape import seeds
from landscape.bench.curvature import cases
from landscape.bench.curvature.cases import Batch, make_batch, make_model
from landscape.curvature import HessianOperator, lanczos, peers
from landscape.masks import random_mask
from landscape.sources import carriers
from landscape.subspace import attach

ACCURACY = 1e-3
"""Relative error of the eigenvalue, against one converged to a hundredth of it."""

TOLERANCES = (5e-2, 2e-2, 1e-2, 1e-3, 1e-5)
"""Relative residuals (ours) and tolerances (eigsh); the loosest that suffices is taken."""

LIMIT = 60
"""Products after which PyHessian is given up; the speedup is then a lower bound."""


@dataclass(frozen=True)
class Case:
    """Hold a masked model, its batches, and what is known of its top eigenvalue."""

    model: nn.Module
    batches: list[Batch]
    reference: float
    """The eigenvalue, converged."""
    steps: int
    """Lanczos steps after which it is within ACCURACY, from hessian-eigenthings' start."""
    tolerances: dict[str, float]
    """The loosest of TOLERANCES that suffices: "ours", and "eigsh" of scipy."""


@dataclass(frozen=True)
class Timing:
    """Hold one library's way to the accuracy."""

    seconds: float
    products: int
    error: float
    """Relative, where it was stopped."""


def make_case(shape: str, mask: str, loss: str, seed: int) -> Case:
    """Build a case and find its eigenvalue: by Lanczos to a residual of ACCURACY / 10."""
    model = make_model(shape, seed)
    attach(model, random_mask(model, seed=seed, **cases.MASKS[mask]))
    batches = [make_batch(4, 10, seed, loss), make_batch(2, 12, seed + 1, loss)]
    H = HessianOperator(model, batches)
    reference = float(lanczos(H, tol=ACCURACY / 10, seed=seed + 1).eigenvalues[0])
    steps = _steps_of_eigenthings(H, reference, seed)
    case = Case(model, batches, reference, steps, {})
    case.tolerances["ours"] = _loosest(case, lambda t: float(lanczos(H, tol=t).eigenvalues[0]))
    case.tolerances["eigsh"] = _loosest(case, lambda t: _eigsh(H.to_scipy(), t)[0])
    return case


def _loosest(case: Case, solve: Callable[[float], float]) -> float:
    """Return the loosest tolerance at which the eigenvalue comes out close enough."""
    for tolerance in TOLERANCES:
        if abs(_error(case, solve(tolerance))) <= ACCURACY:
            break
    return tolerance


def ours(case: Case) -> Timing:
    """Run Lanczos on a Hessian operator, until its own residual suffices."""
    start = time.perf_counter()
    found = lanczos(HessianOperator(case.model, case.batches), tol=case.tolerances["ours"])
    seconds = time.perf_counter() - start
    return Timing(seconds, found.num_matvecs, _error(case, float(found.eigenvalues[0])))


class _Reached(Exception):
    """PyHessian has come close enough, or has spent LIMIT products."""


def _pyhessian(case: Case) -> Timing:
    """Watch the Rayleigh quotients of its power iteration, and stop it when one is close."""
    seen: list[float] = []

    def watch(quotient: float) -> None:
        seen.append(quotient)
        if abs(_error(case, quotient)) <= ACCURACY or len(seen) == LIMIT:
            raise _Reached

    start = time.perf_counter()
    with _seeded(), _watched_quotients(watch), contextlib.suppress(_Reached):
        peers.pyhessian(case.model, case.batches).eigenvalues(maxIter=LIMIT + 1, tol=0.0)
    return Timing(time.perf_counter() - start, len(seen), _error(case, seen[-1]))


def pyhessian_own_rule(case: Case) -> dict[str, float]:
    """Return what PyHessian says by itself, at its defaults."""
    seen: list[float] = []
    with _seeded(), _watched_quotients(seen.append):
        values, _ = peers.pyhessian(case.model, case.batches).eigenvalues(maxIter=LIMIT)
    return {"products": len(seen), "error": _error(case, float(values[0]))}


@contextlib.contextmanager
def _watched_quotients(watch: Callable[[float], None]) -> Iterator[None]:
    """Call a function with each Rayleigh quotient that PyHessian computes."""
    import pyhessian  # its module is shadowed by the class of the same name

    library: Any = sys.modules[f"{pyhessian.__name__}.hessian"]
    original = library.group_product

    def watched(xs: Any, ys: Any) -> Any:
        value = original(xs, ys)
        watch(float(value))
        return value

    library.group_product = watched
    try:
        yield
    finally:
        library.group_product = original


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Seed torch's global generator for a library that draws from it, and put it back."""
    with seeds.drawing(0):
        yield


def _curvlinops(case: Case) -> Timing:
    start = time.perf_counter()
    plain = peers.curvlinops(case.model, case.batches).to_scipy()
    value, products = _eigsh(plain, case.tolerances["eigsh"])
    return Timing(time.perf_counter() - start, products, _error(case, value))


def _eigsh(operator: Any, tolerance: float) -> tuple[float, int]:
    """Return scipy's largest eigenvalue of an operator, and the products that it took."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    products = 0

    def multiply(v: Any) -> Any:
        nonlocal products
        products += 1
        return operator.matvec(v)

    counted = LinearOperator(operator.shape, matvec=multiply, dtype=operator.dtype)
    v0 = torch.randn(operator.shape[0], generator=seeds.generator(0)).numpy()
    found = eigsh(counted, k=1, which="LA", tol=tolerance, v0=v0)[0]
    return float(found[0]), products


def _eigenthings(case: Case) -> Timing:
    """Run it for as many steps as it needs, a number that its user would have to guess."""
    import hessian_eigenthings

    start = time.perf_counter()
    operator = peers.eigenthings(case.model, case.batches)
    found = hessian_eigenthings.lanczos(operator, k=1, max_iter=case.steps, which="LA", seed=0)
    seconds = time.perf_counter() - start
    return Timing(seconds, case.steps, _error(case, float(found.eigenvalues[0])))


def eigenthings_own_rule(case: Case) -> Timing:
    """Run it for its default of 2 steps, and for twice as many until it says it has converged."""
    import hessian_eigenthings

    start, spent, steps = time.perf_counter(), 0, 2
    while True:
        operator = peers.eigenthings(case.model, case.batches)
        found = hessian_eigenthings.lanczos(
            operator, k=1, max_iter=steps, tol=case.tolerances["ours"], which="LA", seed=0
        )
        spent += steps
        if bool(found.converged.all()) or steps >= LIMIT:
            seconds = time.perf_counter() - start
            return Timing(seconds, spent, _error(case, float(found.eigenvalues[0])))
        steps *= 2


def _steps_of_eigenthings(H: HessianOperator, reference: float, seed: int) -> int:
    """Return after how many steps its Lanczos is close, from products of ours; 0 without it."""
    if carriers.missing("hessian_eigenthings"):
        return 0
    import hessian_eigenthings as library

    operator = library.LambdaOperator(H.matvec, H.size)
    v0 = torch.randn(H.size, generator=seeds.generator(0))
    for most in (10, 20, 40, 80):
        run = library.lanczos_tridiagonal(operator, v0, min(most, H.size))
        T = torch.diag(run.alphas) + torch.diag(run.betas, 1) + torch.diag(run.betas, -1)
        for steps in range(1, len(T) + 1):
            top = float(torch.linalg.eigvalsh(T[:steps, :steps].double())[-1])
            if abs(top / reference - 1) <= ACCURACY:
                return steps
    return min(most, H.size)


PEERS: dict[str, Callable[[Case], Timing]] = {
    "pyhessian": _pyhessian,
    "curvlinops": _curvlinops,
    "hessian_eigenthings": _eigenthings,
}


def _error(case: Case, value: float) -> float:
    return value / case.reference - 1
