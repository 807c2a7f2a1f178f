"""Eigenvalues with what is known about them: residual, ceiling, cost, convergence."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from landscape.curvature.operators.linear import LinearOperator, as_tensor
from landscape.curvature.spectrum.algebra import norm, unit
from landscape.errors import NotConvergedWarning, UserError
from landscape.shown import card, few

Which: TypeAlias = Literal["LA", "SA", "LM"]
"""Which eigenvalues: LA largest, SA smallest (most negative), LM largest in magnitude."""


@dataclass(frozen=True, repr=False)
class EigenResult:
    """Hold k eigenpairs (lambda_i, y_i) of a symmetric matrix A, in the order asked for."""

    eigenvalues: Tensor
    """Rayleigh quotients y_i' A y_i from a matvec at the end, shape (k,), float64, on the CPU."""
    eigenvectors: Tensor
    """Unit vectors, shape (size, k), in the operator's dtype and on its device."""
    residuals: Tensor
    """Norms ||A y_i - lambda_i y_i|| from the same product, shape (k,), float64, on the CPU."""
    estimated_errors: Tensor
    """residual^2 / distance to the nearest other Ritz value, at most the residual, shape (k,).

    Usually close to the true error and far below the residual; an estimate, and no bound.
    """
    num_matvecs: int
    """Matvecs spent, those for the residuals included."""
    converged: bool
    """Whether every residual is at most tol * |eigenvalue|, or at rounding level, 100 eps
    ||A||; and `lanczos` does not doubt that these are the pairs asked for: a search from random
    vectors has ended where one was due (after rounding alone, or where `confirm` wanted it).
    """
    method: str
    """Which algorithm found them."""
    which: Which
    """Which end of the spectrum was asked for."""
    tol: float
    """The relative residual that was asked for."""
    operator: dict[str, Any]
    """How the products were made: the description of A."""
    ceiling: float | None = None
    """No eigenvalue but those found is wanted more than this (LA: above, SA: below, LM: larger in
    magnitude), with probability 0.99 over the random vectors; None where too few matvecs were
    made to say so. It holds up to rounding, and up to the residuals of what was found.
    """

    @property
    def intervals(self) -> Float64[Tensor, "k 2"]:
        """Intervals [lambda_i - residual_i, lambda_i + residual_i], shape (k, 2), float64.

        Each contains an eigenvalue of A (Weinstein's bound: A symmetric, up to the rounding of
        one product). That this eigenvalue is the largest, or that two overlapping intervals hold
        two eigenvalues, they do not say: a loose tolerance stops at a mixture of close ones. See
        `ceiling` for what may lie beyond. A Ritz value never lies above the largest
        or below the smallest eigenvalue; and an eigenvalue of a masked Hessian never lies above
        the largest of the full one (interlacing).
        """
        low, high = self.eigenvalues - self.residuals, self.eigenvalues + self.residuals
        return torch.stack([low, high], dim=1)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the vectors, as plain values for a result file."""
        return {
            "eigenvalues": self.eigenvalues.tolist(),
            "residuals": self.residuals.tolist(),
            "estimated_errors": self.estimated_errors.tolist(),
            "num_matvecs": self.num_matvecs,
            "converged": self.converged,
            "method": self.method,
            "which": self.which,
            "tol": self.tol,
            "tolerance": self.tol,  # its earlier name
            "operator": self.operator,
            "ceiling": self.ceiling,
        }

    def __repr__(self) -> str:
        found = zip(self.eigenvalues.tolist(), self.residuals.tolist())
        values = few(f"{value:.6g} ± {residual:.1g}" for value, residual in found)
        state = "converged" if self.converged else "NOT converged"
        return f"{self.which} [{values}] by {self.method}, {self.num_matvecs} matvecs, {state}"

    def _repr_html_(self) -> str:
        return card(repr(self), {"no other beyond": self.ceiling, **self.operator})


def score(values: Float[Tensor, " m"], which: Which) -> Float[Tensor, " m"]:
    """Return a number that is larger the more an eigenvalue is wanted."""
    return {"LA": values, "SA": -values, "LM": values.abs()}[which]


def allowed_residual(
    values: Float[Tensor, "*m"], tol: float, norm: float, dtype: torch.dtype
) -> Float[Tensor, "*m"]:
    """Return the largest residual that counts as converged.

    tol * |lambda|, but never below 100 eps ||A||: an eigenvalue that is zero beside the others
    has no relative accuracy, and no product resolves more than its rounding.
    """
    return (tol * values.abs()).clamp(min=100 * torch.finfo(dtype).eps * norm)


def check_arguments(
    operator: LinearOperator, k: int, which: Which, tol: float, max_matvecs: int, least: int
) -> None:
    """Refuse what no eigensolver here can do.

    Raises:
        UserError: k is not in 1..size, `which` is not known, tol is not positive, or max_matvecs
            is below `least`.
    """
    if which not in get_args(Which):
        raise UserError(
            f"expected which to be LA, SA or LM, got {which!r}; LA asks for the largest"
        )
    if not 1 <= k <= operator.size:
        raise UserError(
            f"expected k between 1 and the operator's size {operator.size}, got {k}; "
            "ask for fewer eigenvalues"
        )
    if not tol > 0:
        raise UserError(f"expected a positive relative residual tol, got {tol}; 1e-3 is usual")
    if max_matvecs < least:
        raise UserError(f"expected max_matvecs of at least {least}, got {max_matvecs}; raise it")


def checked_product(
    operator: LinearOperator, v: Float[Tensor, " size *block"]
) -> Float[Tensor, " size *block"]:
    """Return A v, for a vector or for columns, refusing a product that is not finite.

    Raises:
        UserError: an entry of the product is NaN or infinite.
    """
    product = (operator @ v).to(operator.dtype)
    if not bool(torch.isfinite(product.sum())) and not bool(torch.isfinite(product).all()):
        raise UserError(
            "expected finite products, got NaN or infinity; run health_check on this operator, "
            "and check that the weights have not diverged"
        )
    return product


def random_unit(operator: LinearOperator, generator: torch.Generator) -> Float[Tensor, " size"]:
    """Draw a direction uniformly, on the CPU so that every device gets the same one."""
    v = torch.randn(operator.size, generator=generator, dtype=torch.float64, device="cpu")
    return (v / v.norm()).to(dtype=operator.dtype, device=operator.device)


def start_vector(operator: LinearOperator, v0: object, tol: float, fresh: Tensor) -> Tensor:
    """Return a unit vector to start from, near v0, that can still escape it.

    A Krylov space from an exact eigenvector never leaves it. A random part, `fresh`, of relative
    size 3 tol sqrt(size), at most 1, is added to v0, large enough that an eigenvector orthogonal
    to v0 cannot hide below the tolerance.

    Raises:
        UserError: v0 has the wrong length, is zero or is not finite.
    """
    warm = operator._vector(as_tensor(v0))
    length = norm(warm)
    if not 0 < length < float("inf"):
        raise UserError(
            f"expected a start vector v0 with a finite positive norm, got {length}; "
            "leave it out to start at random"
        )
    return unit(warm / length + min(1.0, 3 * tol * operator.size**0.5) * fresh)


def conclude(
    operator: LinearOperator,
    vectors: Float[Tensor, "k size"],
    *,
    values: Float[Tensor, " k"],
    residuals: Float[Tensor, " k"],
    ritz_values: Float[Tensor, " m"],
    num_matvecs: int,
    norm: float,
    method: str,
    which: Which,
    tol: float,
    ceiling: float | None = None,
    is_settled: bool = True,
) -> EigenResult:
    """Put eigenpairs with recomputed residuals in order, and say whether they have converged.

    Args:
        vectors: unit vectors as rows, shape (k, size).
        values: y'Ay of each, shape (k,), float64.
        residuals: ||A y - value y|| of each, shape (k,), float64.
        ritz_values: all that is known of the spectrum, to estimate gaps, shape (m,), m >= k,
            the values of `vectors` first.
        num_matvecs: matvecs spent.
        norm: an estimate of ||A||.
        ceiling: see `EigenResult`.
        is_settled: False where the method doubts that these are the pairs asked for.

    Warns:
        NotConvergedWarning: a residual is above its tolerance, or nothing is settled.
    """
    order = torch.argsort(score(values, which), descending=True, stable=True)
    gaps = torch.stack([_gap(i, value, ritz_values) for i, value in enumerate(values)])
    errors = torch.minimum(residuals, residuals**2 / gaps.clamp(min=1e-300))
    small = bool((residuals <= allowed_residual(values, tol, norm, operator.dtype)).all())
    same = order.tolist() == list(range(len(order)))
    result = EigenResult(
        eigenvalues=values[order],
        eigenvectors=(vectors if same else vectors[order.to(vectors.device)]).t(),
        residuals=residuals[order],
        estimated_errors=errors[order],
        num_matvecs=num_matvecs,
        converged=small and is_settled,
        method=method,
        which=which,
        tol=tol,
        operator=operator.description,
        ceiling=ceiling,
    )
    if not result.converged:
        worst = float((residuals / values.abs().clamp(min=1e-300)).max())
        reason = (
            f"at a relative residual of {worst:.2g}, tolerance {tol:g}"
            if not small
            else "with small residuals, but could not rule out that eigenvalues wanted more are "
            f"hidden: beside a norm of {norm:.3g} rounding or very many others cover them"
        )
        warnings.warn(
            f"{method} stopped after {num_matvecs} matvecs {reason}; raise max_matvecs or tol",
            NotConvergedWarning,
            stacklevel=3,
        )
    return result


def _gap(number: int, value: Tensor, ritz_values: Tensor) -> Tensor:
    """Return the distance of a value to the nearest other Ritz value, 0 without any."""
    others = torch.cat([ritz_values[:number], ritz_values[number + 1 :]])
    return (others - value).abs().min() if len(others) else torch.zeros_like(value)
