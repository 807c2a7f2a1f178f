"""What was measured as a learning rate, with its interval; pure, and calibrated on runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from scipy import stats

from landscape.advisor.evidence import TOLERANCE, Optimizer, RateEvidence
from landscape.errors import UserError

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


def recommend(evidence: RateEvidence) -> RateSuggestion:
    """Turn what was measured into learning rates; pure, so stored evidence can be judged again.

    Args:
        evidence: of `measure_rates`.

    Returns:
        The suggestion, with about 95 % intervals.

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
        raise UserError(
            "expected outputs that change along the gradient's signs, got none that do; check that "
            "the trainable parameters reach the outputs"
        )
    if reference == 0:
        raise UserError(
            "expected outputs that differ between examples, got the same for all; "
            "fit the head first, or start from a random one"
        )
    # the root of a mean has half its relative error
    error = 0.5 * float(stats.sem(changes)) / fmean(changes) / math.log(10)
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
    relative = math.hypot(float(stats.sem(parts)), residual) / value
    error, notes = relative / math.log(10), []
    if residual > TOLERANCE * value:
        notes.append("the largest eigenvalue did not converge")
    return 2 / value, error, notes
