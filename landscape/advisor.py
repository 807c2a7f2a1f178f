"""Learning rates without training: from the slope and the curvature along the first step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from landscape.batches import length_limit, make_batches
from landscape.curvature import GGNOperator, HessianOperator, lanczos
from landscape.curvature.objective import Loss, Split
from landscape.errors import UserError
from landscape.tasks import Task

Optimizer: TypeAlias = Literal["adamw", "sgd"]
"""Which optimiser a rate is for."""

_ROWS = 4
"""Rows of a forward: a product holds the graph of that many."""

_TOLERANCE, _MAX_PRODUCTS = 5e-2, 60
"""Where Lanczos stops; an eigenvalue's error is about the square of this residual."""

_DISAGREEMENT, _NOISY = 3.0, 0.25
"""Worth a note: factor between Hessian and Gauss-Newton curvature, decades of sampling error."""


@dataclass(frozen=True)
class Calibration:
    """Hold what measurement cannot give: how a whole run relates to its first step."""

    good: float
    """Good rate of a short run, over the reference rate."""
    stable: float
    """Largest rate of a run that ends no worse than it began, over the reference rate."""
    spread: float
    """Standard deviation of log10(best rate of the grid / good rate), in decades."""


CALIBRATION: dict[str, Calibration] = {
    "adamw": Calibration(good=0.12, stable=0.3, spread=0.5),
    "sgd": Calibration(good=0.5, stable=1.0, spread=0.45),
}
"""For runs of 40 steps of batch 8, from the artefact `rates`. AdamW: 0.09 on MiniLM with a fitted
head, 0.02 with a random one, 0.55 on SmolLM2; the spread covers them, and the rule 3e-5 / ratio did
better on all three. SGD: between 0.3, which works on SmolLM2 in the artefact `linear`, and 1, the
median of four undecided grids of MiniLM."""


@dataclass(frozen=True)
class RateEvidence:
    """Hold all that was measured for a rate, on n batches B of the size of a training step's.

    d_B is the direction of an optimiser's first step on batch B: sign(g_B) for AdamW, g_B for SGD,
    with g_B the gradient of the batch's mean loss; d, without a batch, that of the mean gradient
    g. C is the batch after B, the first after the last, so that no batch judges its own direction.
    """

    optimizer: Optimizer
    """What the rate is for."""
    count: int
    """Number of trainable numbers."""
    examples: int
    """Number of loss terms."""
    slopes: list[list[float]]
    """d_B'g_C for every B (row) and C (column), n x n."""
    hessian: list[float]
    """d_B'H_C d_B for every B."""
    gauss_newton: list[float]
    """d_B'G_C d_B for every B, with G_C the Gauss-Newton matrix of batch C."""
    mean_slope: float
    """d'g: for AdamW the 1-norm of the gradient, for SGD its squared 2-norm."""
    mean_hessian: list[float]
    """d'H_C d for every C."""
    mean_gauss_newton: list[float]
    """d'G_C d for every C."""
    eigenvalue: float | None
    """lambda_1(H), the largest eigenvalue of the mean Hessian; for SGD only."""
    residual: float | None
    """The norm of its residual."""
    eigenvalue_parts: list[float]
    """y'H_C y for every C, with y the eigenvector: their mean is lambda_1."""
    products: int
    """Matrix-vector products, counted in passes over all examples; gradients: two passes."""


@dataclass(frozen=True)
class RateSuggestion:
    """Hold a suggested learning rate with its uncertainty; prints as a few lines."""

    optimizer: Optimizer
    """What the rate is for."""
    good: float
    """The rate to use, or to put a grid around."""
    interval: tuple[float, float]
    """Where the best rate lies in about 95 of 100 cases."""
    largest_stable: float
    """Above this a run is expected to end worse than it began."""
    stable_interval: tuple[float, float]
    """About 95 % interval of the largest stable rate."""
    reference: float
    """What was measured: the one-step optimum (AdamW), 2 / lambda_1 (SGD)."""
    sampling_error: float
    """Standard error of the curvature over the batches, in decades; the direction is held fixed."""
    notes: tuple[str, ...]
    """Reasons to trust the quadratic model less."""
    cost: str
    """What was spent."""

    def __str__(self) -> str:
        (low, high), (floor, ceiling) = self.interval, self.stable_interval
        lines = [
            f"{self.optimizer}: good rate {self.good:.2g}, 95 % interval {low:.2g} to {high:.2g}",
            f"largest stable rate {self.largest_stable:.2g}, 95 % interval {floor:.2g} to "
            f"{ceiling:.2g}",
            f"cost: {self.cost}",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def suggest_lr(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    optimizer: Optimizer = "adamw",
    examples: int = 64,
    batch_size: int = 8,
) -> RateSuggestion:
    """Predict a good and the largest stable learning rate of the trainable numbers.

    AdamW's first step is -rate sign(g). On a quadratic it is best at the rate |g|_1 / s'Gs, with
    s = sign(g) and G the Gauss-Newton matrix; a run's best constant rate is a fixed share of this.
    SGD is stable below 2 / lambda_1(H). The shares are `CALIBRATION`. Nothing is trained: weights,
    ``.grad``, mode and random state are left as they were.

    Args:
        model: a model with trainable numbers.
        tokenizer: its tokenizer.
        task: the task; the first training examples are used.
        optimizer: ``"adamw"`` (as in `finetune`) or ``"sgd"`` (without momentum).
        examples: how many training examples, at least three batches.
        batch_size: examples of a training step; the batches' spread is the sampling error.

    Returns:
        The suggestion, for a constant rate and a run of about 40 steps.

    Raises:
        UserError: fewer than three batches, an unknown optimiser, nothing trainable, or a loss
            that is flat or not finite.

    Cost: 2 gradients and 4 products over the examples, for SGD about 20 products more; k numbers
    for each batch. Source: the best step of a noisy quadratic: McCandlish et al. (2018), section
    2.2; steps along the sign: Balles & Hennig (2018); SGD: Cohen et al. (2021), section 2.
    """
    if batch_size < 1:
        raise UserError(f"expected a batch size of at least 1, got {batch_size}")
    chosen = task.train[:examples]
    if len(chosen) < 3 * batch_size:
        raise UserError(
            f"expected examples for at least three batches of {batch_size}, got {len(chosen)}; "
            "raise examples and the task's num_train, or lower batch_size"
        )
    limit = length_limit(model)
    batches = [
        make_batches(
            chosen[i : i + batch_size], tokenizer, _ROWS, sort=True, loss=task.loss,
            max_length=limit,
        )
        for i in range(0, len(chosen) - batch_size + 1, batch_size)
    ]  # fmt: skip
    return recommend(measure_rates(model, batches, optimizer=optimizer))


def measure_rates(
    model: nn.Module,
    batches: Sequence[Sequence[Any]],
    *,
    optimizer: Optimizer = "adamw",
    split: Split | None = None,
) -> RateEvidence:
    """Measure what `recommend` turns into a rate.

    Args:
        model: any module with trainable numbers.
        batches: at least three training batches of one size, each cut into parts that are
            forwarded one at a time.
        optimizer: ``"adamw"`` or ``"sgd"``.
        split: (model, part) -> (outputs z, loss of z); see `GGNOperator`.

    Raises:
        UserError: as `suggest_lr`.
    """
    if optimizer not in get_args(Optimizer):
        raise UserError(f"expected the optimizer adamw or sgd, got {optimizer!r}")
    if len(batches) < 3:
        raise UserError(
            f"expected at least three batches, got {len(batches)}; their spread is the uncertainty"
        )
    loss = None if split is None else _loss_of(split)
    H = [HessianOperator(model, batch, loss=loss, keep_graph=False) for batch in batches]
    gradients = torch.stack([part.gradient() for part in H])
    if not bool(torch.isfinite(gradients).all()) or not bool(gradients.any()):
        raise UserError("expected a finite gradient that is not zero, got another; check the loss")
    towards = torch.sign if optimizer == "adamw" else torch.clone
    directions = towards(gradients)
    mean = towards(gradients.mean(0))
    curvature: list[list[float]] = []
    for c, (batch, part) in enumerate(zip(batches, H, strict=True)):
        G = GGNOperator(model, batch, split=split, keep_graph=False)
        V = torch.stack([directions[c - 1], mean], dim=1)
        curvature.append([*_quadratic(V, part @ V), *_quadratic(V, G @ V)])
    hessian, mean_hessian, newton, mean_newton = (list(column) for column in zip(*curvature))
    value, residual, parts, products = None, None, [], 0
    if optimizer == "sgd":
        everything = [part for batch in batches for part in batch]
        whole = HessianOperator(model, everything, loss=loss)
        top = lanczos(whole, k=1, which="LA", tol=_TOLERANCE, max_matvecs=_MAX_PRODUCTS)
        value, residual = float(top.eigenvalues[0]), float(top.residuals[0])
        y, products = top.eigenvectors[:, :1], top.num_matvecs + 1
        parts = [_quadratic(y, part @ y)[0] for part in H]
    return RateEvidence(
        optimizer=optimizer, count=gradients.shape[1], examples=sum(_terms(part) for part in H),
        slopes=(directions.double() @ gradients.double().t()).tolist(),
        hessian=[*hessian[1:], hessian[0]], gauss_newton=[*newton[1:], newton[0]],
        mean_slope=float(mean.double() @ gradients.double().mean(0)), mean_hessian=mean_hessian,
        mean_gauss_newton=mean_newton, eigenvalue=value, residual=residual, eigenvalue_parts=parts,
        products=4 + products,
    )  # fmt: skip


def recommend(evidence: RateEvidence) -> RateSuggestion:
    """Turn what was measured into rates; pure, so stored evidence can be judged again.

    Raises:
        UserError: the loss has no curvature along the first step.
    """
    measured = _sgd if evidence.optimizer == "sgd" else _adamw
    reference, error, notes = measured(evidence)
    constants = CALIBRATION[evidence.optimizer]
    width = 10 ** (1.96 * math.hypot(error, constants.spread))
    good, stable = constants.good * reference, constants.stable * reference
    return RateSuggestion(
        optimizer=evidence.optimizer, good=good, interval=(good / width, good * width),
        largest_stable=stable, stable_interval=(stable / width, stable * width),
        reference=reference, sampling_error=error, notes=tuple(notes),
        cost=f"2 gradients and {evidence.products} products over {evidence.examples} examples",
    )  # fmt: skip


def one_step_optimum(evidence: RateEvidence) -> float:
    """Return d'g / d'Gd, slope over Gauss-Newton curvature along the step on the mean gradient.

    Infinite where there is no curvature. The Hessian's d'Hd may be negative or near zero far from
    a minimum, where Gauss-Newton's still says how far a step moves the predictions.
    """
    curvature = fmean(evidence.mean_gauss_newton)
    return evidence.mean_slope / curvature if curvature > 0 else math.inf


def _adamw(evidence: RateEvidence) -> tuple[float, float, list[str]]:
    reference = one_step_optimum(evidence)
    if not math.isfinite(reference):
        raise UserError("expected a loss with curvature along its gradient's signs, got none")
    parts = evidence.mean_gauss_newton
    linear, whole = fmean(parts), fmean(evidence.mean_hessian)
    error = stdev(parts) / math.sqrt(len(parts)) / linear / math.log(10)
    notes = []
    if error > _NOISY:
        notes.append("curvature differs much between batches: raise examples")
    if not 1 / _DISAGREEMENT < whole / linear < _DISAGREEMENT:
        notes.append(
            f"curvature along the step is {whole:.2g} by the Hessian, {linear:.2g} by Gauss-Newton "
            "(used): the quadratic model is a poor one here"
        )
    return reference, error, notes


def _sgd(evidence: RateEvidence) -> tuple[float, float, list[str]]:
    value, residual = evidence.eigenvalue, evidence.residual
    assert value is not None
    assert residual is not None
    if value <= 0:
        raise UserError(
            f"expected a positive largest Hessian eigenvalue, got {value:.3g}; "
            "no rate is unstable on this loss"
        )
    parts = evidence.eigenvalue_parts
    relative = math.hypot(stdev(parts) / math.sqrt(len(parts)), residual) / value
    error, notes = relative / math.log(10), []
    if residual > _TOLERANCE * value:
        notes.append("the largest eigenvalue did not converge")
    return 2 / value, error, notes


def _quadratic(V: Tensor, product: Tensor) -> list[float]:
    """Return v'A v for the columns v of V, given A V."""
    return [float(value) for value in (V.double() * product.double()).sum(0)]


def _terms(part: HessianOperator) -> int:
    return round(part.description["loss_terms"])


def _loss_of(split: Split) -> Loss:
    def loss(model: Any, batch: Any) -> tuple[Tensor, float]:
        outputs, rest = split(model, batch)
        terms, count = rest(outputs)
        return terms.sum(), count

    return loss
