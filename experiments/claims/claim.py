"""A claim: a sentence of a paper, what the paper prints for it, and what judges it here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Hold one claim of a paper and how it is judged here, or why it cannot be.

    Args:
        id: its name in the ledger, for good; the paper's letters in front.
        says: the claim in our own words, as a sentence that could be false.
        place: section, table or figure.
        printed: the paper's own number, with what follows from its tables.
        artefact: name of the artefact whose statements judge it.
        statements: their short names; all must hold.
        theory: id of a claim of `theory` that judges it instead.
        untestable: why nothing here judges it.
        misprint: what is printed wrong, where the claim is a slip of the text; what is right.
    """

    id: str
    says: str
    place: str
    printed: str = ""
    artefact: str = ""
    statements: tuple[str, ...] = ()
    theory: str = ""
    untestable: str = ""
    misprint: str = ""
