"""Ask an operator a few questions before believing any number that comes from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from landscape import checks, seeds
from landscape.curvature.operators.linear import LinearOperator
from landscape.curvature.spectrum.algebra import inner
from landscape.curvature.spectrum.result import random_unit
from landscape.errors import UserError


class UnhealthyOperatorError(UserError):
    """Say that an operator is not a fixed, symmetric, finite matrix at the present weights."""


@dataclass(frozen=True)
class Health:
    """Hold the answers of `health_check`; the errors are relative, NaN where not finite."""

    finite: bool
    """Whether all products are finite."""
    repeat_error: float
    """||A u - A u|| / ||A u||, two products with the same vector."""
    fresh_error: float
    """||A u - A u made by the second mode, with nothing kept|| / ||A u||."""
    symmetry_error: float
    """|w'A v - v'A w| / (||A w|| ||v|| + ||A v|| ||w||), w along A u, v its larger entries."""
    tol: float
    """What each error may be."""
    second_mode: str
    """How the second opinion was made: another mode of differentiation where the loss has one."""
    num_matvecs: int
    """Matvecs spent."""

    @property
    def healthy(self) -> bool:
        """Whether every answer is good."""
        return not self.complaints

    @property
    def complaints(self) -> tuple[str, ...]:
        """One sentence for each bad answer."""
        if not self.finite:
            return (
                "expected finite products, got NaN or infinity; check that the weights have not "
                "diverged and that the loss is finite",
            )
        found = []
        if not self.repeat_error <= self.tol:
            found.append(
                f"expected the same product twice, got a difference of {self.repeat_error:.2g}; "
                "switch off dropout, augmentation and batch statistics, and fix the batches"
            )
        if not self.fresh_error <= self.tol:
            found.append(
                f"expected a product recomputed ({self.second_mode}) to agree, got a difference "
                f"of {self.fresh_error:.2g}; the loss is random (dropout, augmentation), weights "
                "were changed behind the operator (build a new one), or a derivative is wrong"
            )
        if not self.symmetry_error <= self.tol:
            found.append(
                f"expected a symmetric operator, got |u'Av - v'Au| of {self.symmetry_error:.2g}; "
                "precondition as P^-1/2 H P^-1/2, and do not differentiate reverse over forward "
                "through layer normalisation"
            )
        return tuple(found)


def health_check(
    operator: LinearOperator,
    *,
    seed: int = 0,
    tol: float | None = None,
    raise_on_failure: bool = True,
) -> Health:
    """Check that an operator is deterministic, symmetric, finite, and at the present weights.

    Draws u at random and compares A u with itself and with A u made by a second mode, without
    anything kept: for a Hessian forward over reverse at the present weights, for Gauss-Newton and
    Fisher the Jacobian in forward mode; where a function of the loss has no forward mode, a new
    graph in the same mode, as `Health.second_mode` says, which sees what is random or stale but no
    wrong derivative. Then w'Av with v'Aw, for w along A u and v made of the larger half of w's
    entries and a random part. In a space of n dimensions random vectors see only 1 / sqrt(n) of A;
    w lies where A acts, and the larger entries of D H u are those where D is large, so that a
    one-sided D shows in full.

    Args:
        operator: any operator.
        seed: of the directions.
        tol: what each relative error may be; default sqrt(eps) of the coarsest type that the model
            is made of: 3.5e-4 in float32, 1.5e-8 in float64, 0.09 in bfloat16. A sum of n rounded
            terms is off by about sqrt(n) eps, so that a sound product of a million terms stays
            below it, and the mistakes it is there for are of the order of 1.
        raise_on_failure: False returns the answers instead of raising.

    Returns:
        The answers.

    Raises:
        UnhealthyOperatorError: an answer is bad and raise_on_failure holds.

    Cost: five matvecs, one of them by the second mode. Source: the symmetry probe is
    Hutchinson-like; the determinism check follows curvlinops.

    >>> from landscape.curvature.operators.linear import MatrixOperator
    >>> health_check(MatrixOperator([[2.0, 1.0], [1.0, 2.0]])).healthy
    True
    >>> health_check(MatrixOperator([[2.0, 1.0], [0.0, 2.0]]), raise_on_failure=False).healthy
    False
    """
    checks.operator(operator)
    seed = checks.seed(seed)
    if tol is not None:
        tol = checks.number("tol", tol, above=0)
    eps = float(operator.description.get("rounding", torch.finfo(operator.dtype).eps))
    if tol is None:
        tol = eps**0.5
    generator = seeds.generator(seed)
    u = random_unit(operator, generator)
    first, second = operator.matvec(u), operator.matvec(u)
    fresh = operator.matvec_afresh(u)
    w = torch.nan_to_num(first / first.double().norm().clamp(min=1e-30).to(first.dtype))
    v = random_unit(operator, generator) + torch.where(w.abs() > w.abs().median(), w, 0)
    along, across = operator.matvec(w), operator.matvec(v)
    size = _norm(first)
    mode = operator.description.get("second_mode", "the same again")
    asymmetry = abs(_dot(v, along) - _dot(w, across))
    health = Health(
        finite=all(bool(torch.isfinite(p).all()) for p in (first, second, fresh, along, across)),
        repeat_error=_ratio(_norm(second - first), size),
        fresh_error=_ratio(_norm(fresh - first), size),
        symmetry_error=_ratio(asymmetry, _norm(along) * _norm(v) + _norm(across) * _norm(w)),
        tol=tol,
        second_mode=mode,
        num_matvecs=5,
    )
    if raise_on_failure and not health.healthy:
        raise UnhealthyOperatorError("; also ".join(health.complaints))
    return health


def _norm(v: Tensor) -> float:
    return float(v.double().norm())


def _dot(u: Tensor, v: Tensor) -> float:
    return float(inner(u[None], v))


def _ratio(error: float, size: float) -> float:
    return 0.0 if error == 0.0 else error / size if size > 0 else float("inf")
