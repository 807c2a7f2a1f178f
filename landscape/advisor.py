"""Learning rates without training: from what the first step would change."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean, stdev
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from landscape import checks, seeds
from landscape.curvature import GGNOperator, HessianOperator, lanczos
from landscape.errors import UserError
from landscape.losses import Loss, Split, Terms, as_loss, as_split
from landscape.tasks import Task
from landscape.tasks.batches import length_limit, make_batches

Optimizer: TypeAlias = Literal["adamw", "sgd"]
"""Which optimiser a rate is for."""

_ROWS = 4
"""Rows of a forward: a product holds the graph of that many."""

_TOLERANCE, _MAX_PRODUCTS = 5e-2, 60
"""Where Lanczos stops; an eigenvalue's error is about the square of this residual."""

_NOISY = 0.15
"""Worth a note: decades of sampling error."""


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
    "adamw": Calibration(good=1.0, stable=3.0, spread=0.3),
    "sgd": Calibration(good=0.5, stable=1.0, spread=0.45),
}
"""For runs of 40 steps of batch 8, from the artefact `rates`.

AdamW: fitted 0.97 over 20 grids of MiniLM and SmolLM2; 0.8 to 1.3 at ratios of 1e-3 and above, 0.3
to 1.8 below, 3.8 where only the last layer is trained. SGD: between 0.3, which works on SmolLM2
in the artefact `linear`, and 1, the median of four grids of MiniLM within the noise of no training.
"""


@dataclass(frozen=True)
class RateEvidence:
    """Hold all that was measured for a rate, on n batches B of the size of a training step's.

    AdamW's first step on batch B goes along d_B = sign(g_B), with g_B the gradient of the batch's
    mean loss. What the outputs z of an example say is their part that the loss can see: |w|^2 is
    w'H_0 w, with H_0 the loss's curvature at z = 0 (for a cross-entropy, the variance of w over
    the candidates).
    """

    optimizer: Optimizer
    """What the rate is for."""
    count: int
    """Number of trainable numbers."""
    examples: int
    """Number of loss terms."""
    spread: float | None = None
    """Variance of z between examples, sum of |z_i - mean z|^2 / degrees of freedom; for AdamW."""
    changes: list[float] = field(default_factory=list)
    """Variance of J d_B between the examples of B itself, for every B; for AdamW."""
    eigenvalue: float | None = None
    """lambda_1(H), the largest eigenvalue of the mean Hessian; for SGD."""
    residual: float | None = None
    """The norm of its residual."""
    eigenvalue_parts: list[float] = field(default_factory=list)
    """y'H_B y for every B, with y the eigenvector: their mean is lambda_1."""
    products: int = 0
    """Matrix-vector products, counted in passes over all examples."""


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
    """What was measured: `matching_step` (AdamW), 2 / lambda_1 (SGD)."""
    sampling_error: float
    """Standard error of the reference over the batches, in decades."""
    notes: tuple[str, ...]
    """Reasons to trust the measurement less."""
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

    AdamW's first step on a batch is -rate sign(g). A good rate is the one at which it moves the
    outputs of the batch's examples apart by as much as they differ: the standard deviation of the
    outputs over that of their change. SGD is stable below 2 / lambda_1(H). A run's best constant
    rate is a fixed share of either (`CALIBRATION`). Nothing is trained: weights, ``.grad``, mode
    and random state are left as they were.

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
        UserError: fewer than three batches, an unknown optimiser, nothing trainable, a loss that
            is flat or not finite, or outputs that are the same for every example.

    Cost: for AdamW 2 gradients and a product over the examples, for SGD about 20 products; k
    numbers for each batch. Source: AdamW: the artefact `rates`, in the spirit of features that
    change by their own size, Yang & Hu (2021); SGD: Cohen et al. (2021), section 2.
    """
    checks.model(model)
    if not hasattr(model, "config"):
        raise UserError(
            f"expected a model of transformers for a task's text, got {type(model).__name__}; for "
            "a module and batches of your own use landscape.advisor: "
            "recommend(measure_rates(model, [[batch], [batch], ...], loss=))"
        )
    checks.tokenizer(tokenizer)
    checks.has("task", task, "a Task", "train", "split", do="load or make one")
    examples = checks.whole("examples", examples, least=1)
    batch_size = checks.whole("batch_size", batch_size, least=1)
    least = 2 if optimizer == "adamw" else 1
    if batch_size < least:
        raise UserError(
            f"expected a batch size of at least {least}, got {batch_size}; for adamw examples are "
            "compared with others of their batch"
        )
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
    loss: nn.Module | Callable[..., Tensor] | None = None,
) -> RateEvidence:
    """Measure what `recommend` turns into a rate.

    Args:
        model: any module with trainable numbers.
        batches: at least three training batches of one size, each cut into parts that are
            forwarded one at a time, and of more than one example.
        optimizer: ``"adamw"`` or ``"sgd"``.
        split: (model, part) -> (outputs z, loss of z); see `GGNOperator`.
        loss: a criterion such as ``torch.nn.CrossEntropyLoss()`` instead, for parts
            (inputs, targets).

    Raises:
        UserError: as `suggest_lr`.
    """
    if optimizer not in get_args(Optimizer):
        raise UserError(f"expected the optimizer adamw or sgd, got {optimizer!r}")
    if len(batches) < 3:
        raise UserError(
            f"expected at least three batches, got {len(batches)}; their spread is the uncertainty"
        )
    given, cut = split is not None or loss is not None, as_split(split, loss)
    summed = as_loss(split=cut) if given else None
    if optimizer == "sgd":
        return _measure_threshold(model, batches, summed)
    apart = partial(_apart, cut)
    apart.in_batch = False  # type: ignore[attr-defined]  # couples the examples of a part, as meant
    spreads, changes, terms = [], [], 0
    for batch in batches:
        H = HessianOperator(model, batch, loss=summed, keep_graph=False)
        gradient, terms = H.gradient(), terms + _terms(H)
        A = GGNOperator(model, batch, split=apart)
        d = _checked(gradient).sign()
        spreads.append(2 * A.loss())
        changes.append(float(d.double() @ (A @ d).double()))
        A.release()
    return RateEvidence(
        optimizer="adamw", count=len(gradient), examples=terms, spread=fmean(spreads),
        changes=changes, products=1,
    )  # fmt: skip


def _measure_threshold(
    model: nn.Module, batches: Sequence[Sequence[Any]], loss: Loss | None
) -> RateEvidence:
    whole = HessianOperator(model, [part for batch in batches for part in batch], loss=loss)
    _checked(whole.gradient())
    top = lanczos(whole, k=1, which="LA", tol=_TOLERANCE, max_matvecs=_MAX_PRODUCTS)
    y, parts = top.eigenvectors[:, 0], []
    for batch in batches:
        H = HessianOperator(model, batch, loss=loss, keep_graph=False)
        parts.append(float(y.double() @ (H @ y).double()))
    return RateEvidence(
        optimizer="sgd", count=whole.size, examples=_terms(whole),
        eigenvalue=float(top.eigenvalues[0]), residual=float(top.residuals[0]),
        eigenvalue_parts=parts, products=top.num_matvecs + 1,
    )  # fmt: skip


def _apart(split: Split, model: Any, batch: Any) -> tuple[Tensor, Terms]:
    """Cut a loss at the outputs z, and put sum_i |z_i - mean z|^2 / 2 in the place of the rest.

    Its Gauss-Newton matrix is J'P'H_0 P J, with P the centring over the examples of a batch; its
    number of terms the degrees of freedom, so that batches of any length are pooled unbiased.
    """
    outputs, loss = split(model, batch)
    origin = torch.zeros_like(outputs, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(origin)[0].sum(), origin, create_graph=True)

    def curved(w: Tensor) -> Tensor:
        if not slope.requires_grad:
            return torch.zeros_like(w)
        (product,) = torch.autograd.grad(slope, origin, w, retain_graph=True, create_graph=True)
        return product

    generator = seeds.generator(0)
    probe = torch.randn(outputs.shape, generator=generator).to(outputs)
    here = (curved(probe).detach() != 0).to(outputs.dtype)  # absent candidates have no curvature
    flat = (-1, outputs.shape[-1]) if outputs.dim() > 1 else (-1, 1)
    here = here.reshape(flat)
    degrees = max(float(here.amax(1).sum()) - 1, 0.0)

    def variance(z: Tensor) -> tuple[Tensor, float]:
        w = z.reshape(flat)
        w = ((w - (w * here).sum(0) / here.sum(0).clamp(min=1)) * here).view_as(z)
        return 0.5 * w * curved(w), degrees

    return outputs, variance


def _checked(gradient: Tensor) -> Tensor:
    if not bool(torch.isfinite(gradient).all()) or not bool(gradient.any()):
        raise UserError("expected a finite gradient that is not zero, got another; check the loss")
    return gradient


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


def matching_step(evidence: RateEvidence) -> float:
    """Return the rate at which a first step moves a batch's examples apart by what they differ.

    The standard deviation of the outputs between examples, over that of their change along the
    signs of the batch's gradient. A shift that all examples share is left out of both. Infinite
    where the outputs do not change.
    """
    assert evidence.spread is not None
    change = fmean(evidence.changes)
    return math.sqrt(evidence.spread / change) if change > 0 else math.inf


def _adamw(evidence: RateEvidence) -> tuple[float, float, list[str]]:
    reference, changes = matching_step(evidence), evidence.changes
    if not math.isfinite(reference):
        raise UserError("expected outputs that change along the gradient's signs, got none that do")
    if reference == 0:
        raise UserError(
            "expected outputs that differ between examples, got the same for all; "
            "fit the head first, or start from a random one"
        )
    # the root of a mean has half its relative error
    error = 0.5 * stdev(changes) / math.sqrt(len(changes)) / fmean(changes) / math.log(10)
    notes = ["the change differs much between batches: raise examples"] if error > _NOISY else []
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


def _terms(part: HessianOperator) -> int:
    return round(part.description["loss_terms"])
