"""The spectrum of the masked Hessian before and after training, from a few matvecs.

At every ratio and at both ends: the spectral density by stochastic Lanczos quadrature (SLQ), the
largest and the smallest eigenvalue with the residuals that certify them, and the trace by Hutch++.
Where a mask is small enough the whole matrix is formed, and its exact spectrum judges the estimate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import landscape as ls
from experiments.kit.artefact import Artefact
from experiments.kit.cells import Cell
from experiments.kit.measure import (
    ENDS,
    Setup,
    at_end,
    attached,
    load_setup,
    train_cell,
    trained_once,
)
from experiments.kit.settings import TRAINED_LOCAL, TRAINED_SMOKE, Trained
from experiments.ours.spectra_figure import draw
from experiments.ours.spectra_report import PAGE, check, tables


@dataclass(frozen=True)
class Config(Trained):
    """The masks and the training of paper 1's figure 4, and the budgets of the estimates."""

    #: random vectors of the quadrature, and matvecs for each
    vectors: int = 10
    quadrature_steps: int = 40
    #: matvecs for the trace
    trace_products: int = 90
    #: trainable parameters of the mask whose whole matrix is formed, at the pretrained weights
    exact_count: int = 1000
    #: training examples that this matrix averages over
    exact_examples: int = 16


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": TRAINED_SMOKE | {
        "ratios": (1e-3,), "vectors": 2, "quadrature_steps": 6, "trace_products": 6,
        "tolerance": 1e-1, "max_products": 12, "exact_count": 12, "exact_examples": 2,
    },
    "local": TRAINED_LOCAL | {
        "vectors": 5, "quadrature_steps": 12, "trace_products": 12,
        "tolerance": 5e-2, "max_products": 24, "exact_count": 200, "exact_examples": 16,
    },
    "paper": {},
}  # fmt: skip


def cells(config: Config) -> Iterator[Cell]:
    """List each mask's training and its spectrum at both ends; then the exact one."""
    for seed in config.seeds:
        for ratio in config.ratios:
            yield train_cell(ratio, seed)
            for when in ENDS:
                yield {"kind": "spectrum", "when": when, "ratio": ratio, "seed": seed}
        yield {"kind": "exact", "seed": seed}


def estimate(
    config: Config, operator: ls.LinearOperator, ends: list[ls.EigenResult], seed: int
) -> dict[str, Any]:
    """Return what a few matvecs and its two ends say of a spectrum, as plain values."""
    density = ls.spectral_density(
        operator, num_vectors=config.vectors, steps=config.quadrature_steps, seed=seed, known=ends
    )
    total = ls.trace(operator, max_matvecs=config.trace_products, seed=seed)
    return density.to_dict() | {
        "trace": total.value, "trace_error": total.standard_error,
        "trace_products": total.num_matvecs,
    }  # fmt: skip


def _ends(config: Config, operator: ls.LinearOperator) -> list[ls.EigenResult]:
    """Find the largest and the smallest eigenvalue."""
    options: dict[str, Any] = {"tol": config.tolerance, "max_matvecs": config.max_products}
    return [ls.lanczos(operator, which="LA", **options),
            ls.lanczos(operator, which="SA", **options)]  # fmt: skip


def spectrum(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Estimate the spectrum of a mask's Hessian before or after training."""
    config, row = setup.config, {}
    batches = setup.batches(config.curvature_examples, config.micro_batch)
    with attached(setup.model, at_end(setup, cell, cell["when"])):
        H = ls.HessianOperator(setup.model, batches)
        row["loss"] = H.loss()
        ends = _ends(config, H)
        for end, found in zip(("top", "bottom"), ends, strict=True):
            row |= {
                end: float(found.eigenvalues[0]), f"{end}_residual": float(found.residuals[0]),
                f"{end}_products": found.num_matvecs, f"{end}_converged": found.converged,
            }  # fmt: skip
        row |= estimate(config, H, ends, cell["seed"])
        H.release()
    return row


def exact(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Form the whole matrix of a small mask, and estimate its spectrum too."""
    config, model, seed = setup.config, setup.model, cell["seed"]
    mask = ls.random_mask(
        model, count=config.exact_count, targets=config.targets, seed=seed, sampling="exact"
    )
    with attached(model, mask):
        H = ls.HessianOperator(model, setup.batches(config.exact_examples, config.micro_batch))
        found = ls.exact_spectrum(H)
        row = {
            "ratio": mask.ratio, "eigenvalues": found.eigenvalues.tolist(),
            "largest_residual": float(found.residuals.max()),
        } | estimate(config, H, _ends(config, H), seed)  # fmt: skip
        H.release()
    return row


ARTEFACT = Artefact(
    name="spectra",
    title="The spectrum of the masked Hessian before and after training",
    source="Hessian spectra inside the masks of Xu & Zhang 2024, beside their figure 4",
    config=Config, presets=PRESETS, cells=cells, setup=load_setup,
    measures={"train": trained_once, "spectrum": spectrum, "exact": exact},
    check=check, tables=tables, draw=draw,
    page=PAGE,
)  # fmt: skip
