"""The trace of an operator, by Hutch++: a low-rank part exactly, the rest by random vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from landscape import checks, seeds
from landscape.curvature.operators.linear import LinearOperator
from landscape.curvature.spectrum.algebra import append, inner, remove
from landscape.curvature.spectrum.result import checked_product
from landscape.errors import UserError


@dataclass(frozen=True)
class Trace:
    """Hold an estimate of a trace."""

    value: float
    """The estimate; unbiased."""
    standard_error: float
    """Its standard error, from the spread over the random vectors; 0 where it is exact."""
    num_matvecs: int
    """Matvecs spent."""
    num_samples: int
    """Random vectors behind the standard error; 0 where the trace is exact."""

    def __str__(self) -> str:
        return f"{self.value:.6g} ± {self.standard_error:.2g} ({self.num_matvecs} matvecs)"


def trace(operator: LinearOperator, *, max_matvecs: int = 60, seed: int = 0) -> Trace:
    """Estimate the trace of an operator from a budget of matvecs.

        tr A = tr Q'AQ + E g'(I - QQ') A (I - QQ') g,    Q an orthonormal basis of A S

    A third of the budget finds Q from random sign vectors S, a third is the first term, exactly,
    a third averages the second over random sign vectors g. Where the spectrum decays, the error
    falls as 1 / budget; it is never far worse than Hutchinson's 1 / sqrt(budget).

    Args:
        operator: any operator; symmetry is not needed.
        max_matvecs: budget of matvecs, at least 6; from `size` on, the trace is exact.
        seed: of the random vectors.

    Returns:
        The estimate with its standard error.

    Raises:
        UserError: the budget is below 6, or a product is not finite.

    Cost: at most max_matvecs matvecs, max_matvecs / 3 vectors. Source: Meyer, Musco, Musco &
    Woodruff (2021), Hutch++, algorithm 1.

    >>> from landscape.curvature.operators.linear import MatrixOperator
    >>> trace(MatrixOperator([[2.0, 1.0], [1.0, 5.0]])).value
    7.0
    """
    checks.operator(operator)
    max_matvecs = checks.whole("max_matvecs", max_matvecs, least=1)
    seed = checks.seed(seed)
    if max_matvecs < 6:
        raise UserError(f"expected max_matvecs of at least 6, got {max_matvecs}; raise it")
    if operator.size <= max_matvecs:
        unit = torch.eye(operator.size, dtype=operator.dtype, device=operator.device)
        value = sum(_quadratic(operator, row) for row in unit)
        return Trace(value, 0.0, operator.size, 0)
    generator = seeds.generator(seed)
    third = max_matvecs // 3
    basis = _range(operator, third, generator)
    captured = sum(_quadratic(operator, row) for row in basis)
    samples = []
    for _ in range(max_matvecs - third - len(basis)):
        g = _signs(operator, generator)
        remove(basis, g)
        samples.append(_quadratic(operator, g))
    rest = torch.tensor(samples, dtype=torch.float64, device="cpu")
    return Trace(
        captured + float(rest.mean()),
        float(rest.std() / len(rest) ** 0.5),
        max_matvecs,
        len(rest),
    )


def _range(operator: LinearOperator, count: int, generator: torch.Generator) -> Tensor:
    """Return an orthonormal basis of A S for `count` random sign vectors, as rows."""
    basis = torch.empty(count, operator.size, dtype=operator.dtype, device=operator.device)
    reached = 0
    for _ in range(count):
        row = checked_product(operator, _signs(operator, generator)).clone()
        reached += append(basis, reached, row) > 100 * torch.finfo(row.dtype).eps
    return basis[:reached]


def _signs(operator: LinearOperator, generator: torch.Generator) -> Tensor:
    """Draw a vector of random signs, on the CPU so that every device gets the same one."""
    signs = torch.randint(0, 2, (operator.size,), generator=generator, device="cpu").mul_(2).sub_(1)
    return signs.to(dtype=operator.dtype, device=operator.device)


def _quadratic(operator: LinearOperator, v: Tensor) -> float:
    return float(inner(v[None], checked_product(operator, v)))
