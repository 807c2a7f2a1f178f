"""A claim: a formula, the examination that can refute it, and what came out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from landscape import checks
from theory import binomial
from theory.features import Array
from theory.problems import MaskedRegression

Verdict = Literal["holds", "violated", "vacuous", "unsettled"]
CONFIDENCE = 0.99  # of the two-sided Clopper-Pearson intervals
FEWEST, MOST = 128, 4000  # masks of a probability claim


@dataclass(frozen=True)
class Finding:
    """Hold what one examination found.

    Args:
        verdict: holds | violated | vacuous (the statement says nothing about this instance) |
            unsettled (it does, but the sample or float64 is too small to decide).
        quantity: what prediction and measurement are numbers of.
        prediction: what the claim says.
        measurement: what was found; the worst case where there are many.
        tightness: prediction over measurement, nearer 1 is tighter; None where it has no meaning.
        method: "exact" (closed form, exact arithmetic or float64 to rounding), "Monte Carlo", or
            "certificate" (exact, on an instance of its own: the given one does not matter).
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
    """Hold one statement that can be refuted on an instance, and what a reader asks about it.

    The table prints ``id``, ``brief`` and what was found, under its ``chapter``. ``python -m theory
    explain ID`` prints the rest, so every claim fills all of it, in plain text without LaTeX, each
    in one to three sentences of words that stand alone.

    Args:
        id: its name in the reference; also the heading of its section in NOTES.md.
        brief: what is claimed, in one line of at most 92 characters.
        statement: the same in full, in formulas.
        source: where it is printed, paper and place ("paper 1, section 5.2, after theorem 5.1");
            or "this project" and what it follows from.
        predict: the formula on its own, so that a wrong formula can take its place.
        examine: (predict, problem, seed) -> finding.
        expected: "violated" for a statement known to be false.
        chapter: heading (##) of NOTES.md under which its section stands, letter by letter.
        assumptions: what the statement needs, each in a few words ("|x| <= r"); () for nothing
            beyond the setting of NOTES.md.
        proof: the idea of the proof; of a false statement, why it is false.
        measured: what is measured, by which route, and what would make the verdict "violated".
        rejects: the errors in its formula that the tests see rejected, the texts of its twins.
    """

    id: str
    brief: str
    statement: str
    source: str
    predict: Callable[..., Any]
    examine: Callable[[Callable[..., Any], MaskedRegression, int], Finding]
    expected: Verdict = "holds"
    chapter: str = ""
    assumptions: tuple[str, ...] = ()
    proof: str = ""
    measured: str = ""
    rejects: tuple[str, ...] = ()

    def verify(self, problem: MaskedRegression, seed: int = 0) -> Result:
        """Examine the claim on one instance; deterministic in (problem, seed).

        An assumption that the instance does not satisfy makes the verdict vacuous. A number that
        leaves float64 on the way makes it unsettled.

        Raises:
            UserError: no instance, no seed, or an instance that does not fit into memory.
        """
        checks.instance("problem", problem, MaskedRegression, "make_problem poses one")
        checks.whole("seed", seed)
        problem.require_memory()
        try:
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                finding = self.examine(self.predict, problem, seed)
        except ArithmeticError as error:
            note = f"numbers beyond float64 on this instance ({error})"
            finding = Finding("unsettled", "-", 0.0, 0.0, note=note)
        failed = [name for name, met in finding.assumptions.items() if not met]
        if failed and self.expected == "holds":
            finding = replace(
                finding, verdict="vacuous", note=f"assumption not met: {'; '.join(failed)}"
            )
        return Result(self.id, problem.name, self.expected, finding)

    def twin(self, predict: Callable[..., object]) -> Claim:
        """Return the claim with another formula in place of its own."""
        return replace(self, predict=predict)


def sample_size(delta: float) -> int:
    """Return how many masks certify a failure probability below delta when none fails.

    The Clopper-Pearson interval at 0 failures ends at 1 - ((1 - CONFIDENCE)/2)^(1/N); N makes it
    at most delta, within [128, 4000]. Below delta = 0.0014 that is not enough.

    >>> sample_size(0.05), sample_size(0.01)
    (128, 528)
    """
    settling = math.log((1 - CONFIDENCE) / 2) / math.log1p(-delta)
    return min(MOST, max(FEWEST, math.ceil(min(settling, MOST))))


def looks(delta: float) -> tuple[int, ...]:
    """Return the sample sizes to try in turn: what settles delta, and four times as many masks.

    A bound that fails nearly as often as it may needs the second look. Two looks at 99 % confidence
    are wrong in at most 2 % of cases where the probability is exactly delta, and far less below.
    """
    first = sample_size(delta)
    return first, max(first, min(MOST, 4 * first))


def clopper_pearson(
    violations: int, samples: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the exact two-sided interval of a probability after so many violations.

    >>> low, high = clopper_pearson(0, 100)
    >>> low, round(high, 4) == round(1 - 0.005 ** 0.01, 4)
    (0.0, True)
    """
    return binomial.interval(violations, samples, confidence)


def judge_probability(violations: int, samples: int, delta: float) -> tuple[Verdict, str]:
    """Compare the interval of a failure probability with delta: violated where all of it is above.

    It holds where all of it is at or below delta, and is unsettled where delta lies inside.
    """
    low, high = clopper_pearson(violations, samples)
    if low > delta:
        return "violated", f"{violations} of {samples} masks break it, more than delta allows"
    if high > delta:
        return "unsettled", f"{violations} of {samples} masks fail: does not settle delta={delta:g}"
    return "holds", ""


def settle(
    delta: float, sample: Callable[[int], Array], fails: Callable[[Array], NDArray[np.bool_]]
) -> tuple[Array, int, Verdict, str]:
    """Sample what a probability claim is about, and more where the first sample decides nothing.

    Args:
        delta: failure probability that the claim allows.
        sample: number of masks -> one value for each, of which fewer are the first of more.
        fails: values -> which of them break the claim.

    Returns:
        The values of the last sample, how many of them fail, the verdict and its note.
    """
    for count in looks(delta):
        values = sample(count)
        broken = int(fails(values).sum())
        verdict, note = judge_probability(broken, count, delta)
        if verdict != "unsettled":
            break
    return values, broken, verdict, note


def ratio(prediction: float, measurement: float) -> float | None:
    """Return prediction / measurement, None when the measurement is 0 or not finite."""
    if measurement == 0 or not math.isfinite(prediction) or not math.isfinite(measurement):
        return None
    return prediction / measurement
