"""Spectra of the masked Hessian from a few matvecs, and an exact one that judges the estimate.

The spectral density by stochastic Lanczos quadrature (SLQ), the largest and the smallest eigenvalue
with residuals (some eigenvalue lies that near each), and the trace by Hutch++. Where a mask is
small enough the whole matrix is formed.
"""

from __future__ import annotations

from typing import Any

from experiments.measurements.attached import attached
from landscape import checks
from landscape.curvature import (
    HessianOperator,
    LinearOperator,
    exact_spectrum,
    lanczos,
    spectral_density,
    trace,
)
from landscape.curvature.spectrum.result import EigenResult
from landscape.masks import random_mask
from landscape.sweep.measurements import Measurement, Point
from landscape.sweep.measurements.curvature import batches_of, chosen

USUAL: dict[str, Any] = {
    "examples": 64, "batch_size": 8, "tol": 1e-2, "max_matvecs": 60, "vectors": 10, "steps": 40,
    "trace_matvecs": 90,
}  # fmt: skip


def spectrum(point: Point) -> dict[str, Any]:
    """Estimate the spectrum on the trainable weights.

    Options: ``examples`` (64) and ``batch_size`` (8) of the loss; ``tol`` (0.01) and
    ``max_matvecs`` (60) of each end; ``vectors`` (10) of the quadrature with ``steps`` (40) matvecs
    each; ``trace_matvecs`` (90).

    Returns:
        ``spectrum``: the loss, ``top`` and ``bottom`` with residuals, nodes and weights of the
        quadrature, the trace with its standard error, and what each took.
    """
    asked = chosen(point, USUAL)
    H = HessianOperator(point.model, batches_of(point, asked))
    row: dict[str, Any] = {"loss": H.loss()}
    ends = _ends(asked, H)
    for end, found in zip(("top", "bottom"), ends, strict=True):
        row |= {
            end: float(found.eigenvalues[0]), f"{end}_residual": float(found.residuals[0]),
            f"{end}_products": found.num_matvecs, f"{end}_converged": bool(found.converged),
        }  # fmt: skip
    row |= _estimate(asked, H, ends, point.config.seed)
    H.release()
    return {"spectrum": row}


def exact(point: Point) -> dict[str, Any]:
    """Form the whole matrix of a small random mask, and estimate its spectrum too.

    Options: ``count`` (1000) of the mask; the others as of `spectrum`.
    """
    asked, seed = chosen(point, USUAL | {"count": 1000}), point.config.seed
    count = checks.whole("count", asked["count"], least=2)
    targets = list(point.config.targets)
    mask = random_mask(point.model, count=count, targets=targets, seed=seed, sampling="exact")
    with attached(point.model, mask):
        H = HessianOperator(point.model, batches_of(point, asked))
        found = exact_spectrum(H)
        row = {
            "ratio": mask.ratio, "eigenvalues": found.eigenvalues.tolist(),
            "largest_residual": float(found.residuals.max()),
        } | _estimate(asked, H, _ends(asked, H), seed)  # fmt: skip
        H.release()
    return {"exact": row}


def _ends(asked: dict[str, Any], operator: LinearOperator) -> list[EigenResult]:
    """Find the largest and the smallest eigenvalue."""
    options: dict[str, Any] = {"tol": asked["tol"], "max_matvecs": asked["max_matvecs"]}
    return [lanczos(operator, which="LA", **options), lanczos(operator, which="SA", **options)]


def _estimate(
    asked: dict[str, Any], operator: LinearOperator, ends: list[EigenResult], seed: int
) -> dict[str, Any]:
    """Return what a few matvecs and its two ends say of a spectrum, as plain values."""
    density = spectral_density(
        operator, num_vectors=asked["vectors"], steps=asked["steps"], seed=seed, known=ends
    )
    total = trace(operator, max_matvecs=asked["trace_matvecs"], seed=seed)
    return density.to_dict() | {
        "trace": total.value, "trace_error": total.standard_error,
        "trace_products": total.num_matvecs,
    }  # fmt: skip


SPECTRUM = Measurement("the Hessian's spectrum at both ends", before=spectrum, after=spectrum)
EXACT = Measurement("the exact spectrum of a small mask, before training", before=exact)
