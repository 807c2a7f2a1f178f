"""The whole matrix and the whole spectrum, where the trainable parameters are few."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from landscape import checks, seeds
from landscape.curvature.operators.linear import LinearOperator
from landscape.curvature.spectrum.result import EigenResult, checked_product, random_unit
from landscape.errors import UserError

_LARGEST = 20_000
"""Rows of the largest matrix that is formed: 3.2 GB in float64."""


def exact_matrix(operator: LinearOperator, *, block: int = 1) -> Float64[Tensor, "size size"]:
    """Form the whole matrix A from products with unit vectors, several at once.

    Args:
        operator: any operator of at most 20,000 rows.
        block: unit vectors multiplied at once, at least 1; the memory of the activations grows
            with it. On two CPU cores 32 at once take a quarter of the time on a model of width
            32, and 8 at once take 1.2 to 1.4 times the time at width 256.

    Returns:
        A as the products gave it (not made symmetric), shape (size, size), float64, on the CPU.

    Raises:
        UserError: the operator is too large, `block` is below 1, a product is not finite, or
            the block products disagree with a product made alone.

    Cost: size + 1 matvecs.
    """
    checks.operator(operator)
    block = checks.whole("block", block, least=1)
    if operator.size > _LARGEST:
        raise UserError(
            f"expected an operator of at most {_LARGEST:,} rows, got {operator.size:,}; "
            "use lanczos or spectral_density, or a smaller mask"
        )
    size, columns = operator.size, []
    for start in range(0, size, block):
        numbers = torch.arange(start, min(start + block, size), device=operator.device)
        unit = torch.zeros(size, len(numbers), dtype=operator.dtype, device=operator.device)
        unit[numbers, numbers - start] = 1
        columns.append(operator.matmat(unit).double().cpu())
    matrix = torch.cat(columns, dim=1)
    _check(operator, matrix)
    return matrix


def exact_spectrum(operator: LinearOperator, *, block: int = 1) -> EigenResult:
    """Find all eigenvalues of a symmetric operator, the largest first.

    Args:
        operator: any symmetric operator of at most 20,000 rows.
        block: see `exact_matrix`.

    Returns:
        ``size`` eigenpairs of (A + A') / 2 with residuals ||A y - lambda y|| of A itself, which
        show an asymmetry; eigenvectors in the operator's dtype, on the CPU.

    Raises:
        UserError: see `exact_matrix`.

    Cost: size + 1 matvecs, and a dense eigenproblem: O(size^3).

    >>> from landscape.curvature.operators.linear import MatrixOperator
    >>> exact_spectrum(MatrixOperator([[2.0, 1.0], [1.0, 2.0]])).eigenvalues.tolist()
    [3.0, 1.0]
    """
    checks.operator(operator)
    block = checks.whole("block", block, least=1)
    matrix = exact_matrix(operator, block=block)
    values, vectors = torch.linalg.eigh((matrix + matrix.t()) / 2)
    values, vectors = values.flip(0), vectors.flip(1)
    residuals = (matrix @ vectors - vectors * values).norm(dim=0)
    eps = torch.finfo(operator.dtype).eps
    return EigenResult(
        eigenvalues=values,
        eigenvectors=vectors.to(operator.dtype),
        residuals=residuals,
        estimated_errors=residuals,
        num_matvecs=operator.size + 1,
        converged=bool((residuals <= eps**0.5 * values.abs().max()).all()),
        method="exact",
        which="LA",
        tol=eps**0.5,
        operator=operator.description,
    )


def _check(operator: LinearOperator, matrix: Tensor) -> None:
    """Compare the matrix with one product that was made alone.

    Products of several vectors go through other code (batching rules), which has been wrong
    before; sqrt(eps) of float32, or of a coarser type that the model is made of, is far above
    rounding, also that of norms which work in float32 whatever the weights' type, and far below
    such mistakes.
    """
    v = random_unit(operator, seeds.generator(0))
    alone = checked_product(operator, v).double().cpu()
    error = float((matrix @ v.double().cpu() - alone).norm())
    eps = max(torch.finfo(torch.float32).eps, float(operator.description.get("rounding", 0.0)))
    allowed = eps**0.5 * float(matrix.norm())
    if not error <= allowed:
        raise UserError(
            f"expected products of several vectors to equal products of one, got a difference of "
            f"{error:.2g}; run health_check, or pass block=1"
        )
