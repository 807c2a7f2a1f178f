"""What is measured for a learning rate: what a first step changes, or the largest eigenvalue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from landscape import checks, seeds
from landscape.curvature import GGNOperator, HessianOperator, lanczos
from landscape.errors import UserError
from landscape.losses import Criterion, Loss, Split, Terms, as_loss, as_split

Optimizer: TypeAlias = Literal["adamw", "sgd"]
"""Which optimizer a learning rate is for."""

TOLERANCE = 5e-2
"""Where Lanczos stops; an eigenvalue's error is about the square of this residual."""

_MAX_MATVECS = 60


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
    """Number of trainable parameters."""
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


def measure_rates(
    model: nn.Module,
    batches: Sequence[Sequence[object]],
    *,
    optimizer: Optimizer = "adamw",
    split: Split | None = None,
    loss: Criterion | None = None,
) -> RateEvidence:
    """Measure what `recommend` turns into a rate.

    Args:
        model: any module with trainable parameters.
        batches: at least three training batches of one size, each in parts that are
            forwarded one at a time, and of more than one example.
        optimizer: ``"adamw"`` or ``"sgd"``.
        split: (model, part) -> (outputs z, loss of z); see `GGNOperator`.
        loss: a criterion such as ``torch.nn.CrossEntropyLoss()`` instead, for parts
            (inputs, targets).

    Returns:
        What was measured, to be stored or judged.

    Raises:
        UserError: as `suggest_lr`.
    """
    if optimizer not in get_args(Optimizer):
        checks.refuse("optimizer", "adamw or sgd", optimizer, "name one of the two")
    if len(batches) < 3:
        raise UserError(
            f"expected at least three batches, got {len(batches)}; their spread is the uncertainty"
        )
    given, whole = split is not None or loss is not None, as_split(split, loss)
    summed = as_loss(split=whole) if given else None
    if optimizer == "sgd":
        return _measure_threshold(model, batches, summed)
    apart = partial(_apart, whole)
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
    model: nn.Module, batches: Sequence[Sequence[object]], loss: Loss | None
) -> RateEvidence:
    whole = HessianOperator(model, [part for batch in batches for part in batch], loss=loss)
    _checked(whole.gradient())
    top = lanczos(whole, k=1, which="LA", tol=TOLERANCE, max_matvecs=_MAX_MATVECS)
    y, parts = top.eigenvectors[:, 0], []
    for batch in batches:
        H = HessianOperator(model, batch, loss=loss, keep_graph=False)
        parts.append(float(y.double() @ (H @ y).double()))
    return RateEvidence(
        optimizer="sgd", count=whole.size, examples=_terms(whole),
        eigenvalue=float(top.eigenvalues[0]), residual=float(top.residuals[0]),
        eigenvalue_parts=parts, products=top.num_matvecs + 1,
    )  # fmt: skip


def _apart(split: Split, model: nn.Module, batch: Any) -> tuple[Tensor, Terms]:
    """Split a loss at the outputs z, and put sum_i |z_i - mean z|^2 / 2 in the place of the rest.

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


def _terms(part: HessianOperator) -> int:
    return round(part.description["loss_terms"])
