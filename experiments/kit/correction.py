"""Which of several statements are adjusted for being several, said in a sentence beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from experiments.kit.comparisons import Compared
from experiments.kit.judge import Finding, Kind

#: kind of a statement -> how it is told
TOLD: dict[Kind, str] = {
    "difference": "of a difference", "threshold": "against a threshold",
    "exponent": "of an exponent", "agreement": "of an agreement",
    "several": "of several at once", "case": "case by case", "": "of other kinds",
}  # fmt: skip


def correction(findings: Collection[Finding]) -> str:
    """Say which findings Holm's correction spans, and count the others by their kind.

    Nothing where it would tell a reader nothing: of a finding alone, and of such that all are of
    kinds unknown here. Exact numbers have no chance to be corrected for.

    >>> several = [Finding("", "holds", "", kind="case"), Finding("", "fails", "", kind="several")]
    >>> correction(several)
    'Not adjusted for being several: 1 of several at once, 1 case by case.'
    """
    by_chance = [f for f in findings if f.kind != "exact"]
    spanned = [f for f in by_chance if isinstance(f, Compared) and f.difference.family > 1]
    others = Counter(f.kind for f in by_chance if f not in spanned)
    if len(by_chance) < 2 or (not spanned and others.keys() <= {""}):
        return ""
    told = ", ".join(f"{others[kind]} {words}" for kind, words in TOLD.items() if others[kind])
    if not spanned:
        return f"Not adjusted for being several: {told}."
    said = f"Holm's correction spans the {len(spanned)} statements whose evidence names it"
    return f"{said}; not adjusted: {told}." if told else f"{said}."
