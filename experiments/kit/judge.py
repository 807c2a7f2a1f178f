"""Three verdicts: a statement holds, fails, or the rows do not decide it.

A statement about a number with an error is decided where the number's interval lies on one side of
the threshold. What varies with the seed has the interval over seeds, so one seed decides nothing; a
number that was measured once has the interval of its measurement, such as a residual.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from landscape.cli.guard import DONE, FAILED, UNDECIDED

Verdict = Literal["holds", "fails", "undecided"]
#: of what a statement is: what a correction for several statements tells apart
Kind = Literal["difference", "threshold", "exponent", "agreement", "several", "case", "exact", ""]
#: what stands before a verdict, for readers who do not see its colour
SIGNS: dict[Verdict, str] = {"holds": "✓", "fails": "✗", "undecided": "?"}
#: exit codes of a check
CODES: dict[Verdict, int] = {"holds": DONE, "fails": FAILED, "undecided": UNDECIDED}


@dataclass(frozen=True)
class Finding:
    """Hold one statement that a check compared with the rows.

    Args:
        statement: the sentence.
        verdict: what the rows say of it.
        evidence: the numbers behind the verdict, for a reader.
        estimate: the number that decided, and the ends of its interval, where there is one.
        needs: of an undecided statement, how many seeds would settle what was seen.
        clause: the evidence in a few words, where it is longer than a line.
        kind: of what the statement is: a difference of arms, one against a threshold, an exponent,
            an agreement, several statements at once, a case of another statement, exact numbers.
    """

    statement: str
    verdict: Verdict
    evidence: str
    estimate: tuple[float, float, float] | None = None
    needs: int | None = None
    clause: str = ""
    kind: Kind = ""

    @property
    def short(self) -> str:
        """Return the evidence in a few words."""
        return self.clause or self.evidence

    @property
    def marked(self) -> str:
        """Return the verdict behind its sign."""
        return f"{SIGNS[self.verdict]} {self.verdict}"


def settle(claim: bool) -> Verdict:
    """Judge a statement about exact numbers.

    >>> settle(2 + 2 == 4)
    'holds'
    """
    return "holds" if claim else "fails"


def contrary(verdict: Verdict) -> Verdict:
    """Return what the contrary of a statement is where the statement has a verdict.

    >>> contrary("holds"), contrary("fails"), contrary("undecided")
    ('fails', 'holds', 'undecided')
    """
    verdicts: dict[Verdict, Verdict] = {"holds": "fails", "fails": "holds"}
    return verdicts.get(verdict, "undecided")


def above(low: float, high: float, threshold: float = 0.0) -> Verdict:
    """Judge "the number is above the threshold" by the number's interval [low, high].

    >>> above(0.1, 0.3), above(-0.3, -0.1), above(-0.1, 0.3), above(float("nan"), float("nan"))
    ('holds', 'fails', 'undecided', 'undecided')
    """
    return "holds" if low > threshold else "fails" if high < threshold else "undecided"


def equal(low: float, high: float, *, within: float) -> Verdict:
    """Judge "the difference is zero" by the difference's interval [low, high].

    Args:
        low: lower end of the interval.
        high: its upper end.
        within: a difference of this size would matter; an interval that holds both zero and such
            a difference tells nothing.

    >>> equal(-0.1, 0.2, within=0.5), equal(0.1, 0.2, within=0.5), equal(-0.1, 0.9, within=0.5)
    ('holds', 'fails', 'undecided')
    """
    rounding = 1e-9
    if low > rounding or high < -rounding:
        return "fails"
    return "holds" if max(-low, high) <= within else "undecided"


def within(low: float, high: float, margin: float) -> Verdict:
    """Judge "the difference is smaller than a margin" by the difference's interval [low, high].

    Two one-sided tests: a difference that is there may well be inside the margin.

    Source: Schuirmann (1987), of equivalence.

    >>> within(0.1, 0.2, 0.5), within(0.6, 0.9, 0.5), within(0.1, 0.9, 0.5)
    ('holds', 'fails', 'undecided')
    """
    return every([above(low, high, -margin), above(-high, -low, -margin)])


def every(verdicts: Iterable[Verdict]) -> Verdict:
    """Judge a statement about all of several: one failure fails it, and nothing decides nothing.

    >>> every(["holds", "undecided"]), every(["fails", "undecided"]), every(["holds"]), every([])
    ('undecided', 'fails', 'holds', 'undecided')
    """
    seen = set(verdicts)
    if "fails" in seen:
        return "fails"
    return "holds" if seen == {"holds"} else "undecided"


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 0 where all statements hold, 1 where one fails, 3 where only some are undecided."""
    return CODES[every(f.verdict for f in findings)]
