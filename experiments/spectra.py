"""The spectrum of the masked Hessian before and after training, from a few products.

At every ratio and at both ends: the spectral density by stochastic Lanczos quadrature (SLQ), the
largest and the smallest eigenvalue with the residuals that certify them, and the trace by Hutch++.
Where a mask is small enough the whole matrix is formed, and its exact spectrum judges the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import landscape as ls
from experiments.cell import load_pretrained
from experiments.harness import PACKAGED, Artefact, Store
from experiments.spectra_report import check, render
from experiments.trained import ENDS, TrainedSetting, at_end, load_examples, train, train_key

ENDS_OF_SPECTRUM: dict[str, Literal["LA", "SA"]] = {"top": "LA", "bottom": "SA"}


@dataclass(frozen=True)
class Config(TrainedSetting):
    """The masks and the training of paper 1's figure 4, and the budgets of the estimates."""

    #: trainable over all parameters
    ratios: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    #: training examples that the Hessian averages over
    curvature_examples: int = 64
    #: examples in one product's pass through the model
    micro_batch: int = 8
    #: random vectors of the quadrature, and products for each
    vectors: int = 10
    quadrature_steps: int = 40
    #: products for the trace
    trace_products: int = 90
    #: relative residual at which Lanczos stops
    tolerance: float = 1e-2
    #: products after which Lanczos stops
    max_products: int = 60
    #: trainable numbers of the mask whose whole matrix is formed, at the pretrained weights
    exact_count: int = 1000
    #: training examples that this matrix averages over
    exact_examples: int = 16


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": PACKAGED | {
        "ratios": (1e-3,), "rate_times_ratio": 1e-5, "epochs": 1, "num_train": 16, "num_dev": 8,
        "curvature_examples": 2, "vectors": 2, "quadrature_steps": 6, "trace_products": 6,
        "tolerance": 1e-1, "max_products": 12, "exact_count": 12, "exact_examples": 2,
    },
    "local": PACKAGED | {
        "model": "minilm-l6", "targets": "*.self.[qv]*.weight", "rate_times_ratio": 3e-5,
        "epochs": 1, "num_train": 640, "num_dev": 200, "curvature_examples": 32,
        "micro_batch": 32, "vectors": 5, "quadrature_steps": 12, "trace_products": 12,
        "tolerance": 5e-2, "max_products": 24, "exact_count": 200, "exact_examples": 16,
    },
    "paper": {},
}  # fmt: skip


def compute(config: Config, store: Store) -> None:
    """Train each mask, then measure its spectrum at both ends; then the exact one."""
    for seed in config.seeds:
        task = load_examples(config, seed)
        model, tokenizer = load_pretrained(config, task)
        for ratio in config.ratios:
            train(config, store, model, tokenizer, task, ratio, seed)
            batches = _batches(config, tokenizer, task, config.curvature_examples)
            for when in ENDS:
                _spectrum_row(config, store, model, batches, ratio, seed, when)
        batches = _batches(config, tokenizer, task, config.exact_examples)
        _exact_row(config, store, model, batches, seed)


def expected(config: Config) -> list[str]:
    """List the keys of all rows."""
    keys = []
    for seed in config.seeds:
        for ratio in config.ratios:
            keys.append(train_key(ratio, seed))
            keys += [_key(ratio, seed, when) for when in ENDS]
        keys.append(f"exact/seed={seed}")
    return keys


def estimate(
    config: Config, operator: ls.LinearOperator, ends: list[ls.EigenResult], seed: int
) -> dict[str, Any]:
    """Return what a few products and its two ends say of a spectrum, as plain values."""
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
    return [
        ls.lanczos(
            operator, k=1, which=which, tol=config.tolerance, max_matvecs=config.max_products
        )
        for which in ENDS_OF_SPECTRUM.values()
    ]


def _spectrum_row(
    config: Config, store: Store, model: Any, batches: list[Any], ratio: float, seed: int, when: str
) -> None:
    key = _key(ratio, seed, when)

    def measure() -> dict[str, Any]:
        row: dict[str, Any] = {"kind": "spectrum", "ratio": ratio, "seed": seed, "when": when}
        with at_end(config, store, model, ratio, seed, when):
            H = ls.HessianOperator(model, batches)
            row["loss"] = H.loss()
            ends = _ends(config, H)
            for end, found in zip(ENDS_OF_SPECTRUM, ends, strict=True):
                row |= {
                    end: float(found.eigenvalues[0]), f"{end}_residual": float(found.residuals[0]),
                    f"{end}_products": found.num_matvecs, f"{end}_converged": found.converged,
                }  # fmt: skip
            row |= estimate(config, H, ends, seed)
            H.release()
        return row

    if key not in store:
        store.say(key)
    store.compute(key, measure)


def _exact_row(config: Config, store: Store, model: Any, batches: list[Any], seed: int) -> None:
    key = f"exact/seed={seed}"

    def measure() -> dict[str, Any]:
        mask = ls.random_mask(
            model, count=config.exact_count, targets=config.targets, seed=seed, sampling="exact"
        )
        ls.attach(model, mask)
        try:
            H = ls.HessianOperator(model, batches)
            found = ls.exact_spectrum(H)
            row = {
                "kind": "exact", "seed": seed, "ratio": mask.ratio,
                "eigenvalues": found.eigenvalues.tolist(),
                "largest_residual": float(found.residuals.max()),
            } | estimate(config, H, _ends(config, H), seed)  # fmt: skip
            H.release()
        finally:
            ls.detach(model)
        return row

    if key not in store:
        store.say(key)
    store.compute(key, measure)


def _batches(config: Config, tokenizer: Any, task: ls.Task, count: int) -> list[Any]:
    batches: list[Any] = ls.make_batches(
        task.train[:count], tokenizer, config.micro_batch, sort=True, loss=task.loss
    )
    return batches


def _key(ratio: float, seed: int, when: str) -> str:
    return f"spectrum/{when}/ratio={ratio:g}/seed={seed}"


ARTEFACT = Artefact(
    name="spectra",
    title="The spectrum of the masked Hessian before and after training",
    source="Hessian spectra inside the masks of Xu & Zhang 2024, beside their figure 4",
    config=Config,
    presets=PRESETS,
    rows=compute,
    render=render,
    check=check,
    expected=expected,
)
