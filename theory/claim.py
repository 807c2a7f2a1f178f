"""A claim: a formula, the examination that can refute it, and what came out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from scipy import stats

from theory.problems import MaskedRegression

Verdict = Literal["holds", "violated", "vacuous"]
CONFIDENCE = 0.99  # of the two-sided Clopper-Pearson intervals


@dataclass(frozen=True)
class Finding:
    """Hold what one examination found.

    Args:
        verdict: holds | violated | vacuous (the statement says nothing about this instance).
        quantity: what prediction and measurement are numbers of.
        prediction: what the claim says.
        measurement: what was found; the worst case where there are many.
        tightness: prediction over measurement, nearer 1 is tighter; None where it has no meaning.
        method: "exact" (closed form, exact arithmetic or float64 to rounding) or "Monte Carlo".
        assumptions: assumption -> whether this instance satisfies it.
        samples: masks or draws of a Monte Carlo measurement.
        standard_error: of a Monte Carlo mean.
        violations: times that the bound failed, out of samples.
        interval: Clopper-Pearson interval of the violation probability.
        note: one sentence for the reader.
        details: further numbers by name.
    """

    verdict: Verdict
    quantity: str
    prediction: float
    measurement: float
    tightness: float | None = None
    method: str = "exact"
    assumptions: Mapping[str, bool] = field(default_factory=dict)
    samples: int | None = None
    standard_error: float | None = None
    violations: int | None = None
    interval: tuple[float, float] | None = None
    note: str = ""
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """Hold a finding with the claim and the instance it is about."""

    id: str
    instance: str
    expected: Verdict
    finding: Finding

    @property
    def verdict(self) -> Verdict:
        """Return the finding's verdict."""
        return self.finding.verdict

    @property
    def surprising(self) -> bool:
        """Whether a true claim was found violated, or a false one not."""
        return (self.verdict == "violated") != (self.expected == "violated")


@dataclass(frozen=True)
class Claim:
    """Hold one statement that can be refuted on an instance.

    Args:
        id: its name in the reference.
        statement: what is claimed, in formulas.
        source: where it comes from.
        predict: the formula on its own, so that a wrong formula can take its place.
        examine: (predict, problem, seed) -> finding.
        expected: "violated" for a statement known to be false.
    """

    id: str
    statement: str
    source: str
    predict: Callable[..., Any]
    examine: Callable[[Callable[..., Any], MaskedRegression, int], Finding]
    expected: Verdict = "holds"

    def verify(self, problem: MaskedRegression, seed: int = 0) -> Result:
        """Examine the claim on one instance; deterministic in (problem, seed).

        An assumption that the instance does not satisfy makes the verdict vacuous.
        """
        finding = self.examine(self.predict, problem, seed)
        failed = [name for name, met in finding.assumptions.items() if not met]
        if failed and self.expected == "holds":
            finding = replace(
                finding, verdict="vacuous", note=f"assumption not met: {'; '.join(failed)}"
            )
        return Result(self.id, problem.name, self.expected, finding)

    def twin(self, predict: Callable[..., Any]) -> Claim:
        """Return the claim with another formula in place of its own."""
        return replace(self, predict=predict)


def sample_size(delta: float) -> int:
    """Return how many masks certify a failure probability below delta when none fails.

    The Clopper-Pearson interval at 0 failures ends at 1 - ((1 - CONFIDENCE)/2)^(1/N); N makes it
    at most delta, within [128, 4000].

    >>> sample_size(0.05), sample_size(0.01)
    (128, 528)
    """
    return min(4000, max(128, math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log1p(-delta))))


def clopper_pearson(violations: int, samples: int) -> tuple[float, float]:
    """Return the exact two-sided interval of a probability after so many violations.

    >>> low, high = clopper_pearson(0, 100)
    >>> low, round(high, 4) == round(1 - 0.005 ** 0.01, 4)
    (0.0, True)
    """
    tail = (1 - CONFIDENCE) / 2
    low = stats.beta.ppf(tail, violations, samples - violations + 1) if violations else 0.0
    high = stats.beta.isf(tail, violations + 1, samples - violations) if violations < samples else 1
    return float(low), float(high)


def judge_probability(violations: int, samples: int, delta: float) -> tuple[Verdict, str]:
    """Return violated when the whole interval lies above delta; say when it does not settle it."""
    low, high = clopper_pearson(violations, samples)
    if low > delta:
        return "violated", f"{violations} of {samples} masks break it, more than delta allows"
    settled = "" if high <= delta else f"{samples} masks do not settle delta={delta:g}"
    return "holds", settled


def ratio(prediction: float, measurement: float) -> float | None:
    """Return prediction / measurement, None when the measurement is 0 or not finite."""
    if measurement == 0 or not math.isfinite(prediction) or not math.isfinite(measurement):
        return None
    return prediction / measurement
