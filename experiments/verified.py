"""Verifications: what fresh seeds said of a claim, one line each, appended and never changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.kit.published import RESULTS

NAME = "verified.jsonl"


@dataclass(frozen=True)
class Verification:
    """Hold what fresh seeds said of a claim.

    Args:
        claim: its id.
        preset: of the runs.
        seeds: the fresh ones.
        alone: statement's name -> verdict of the fresh seeds alone.
        together: statement's name -> verdict of all seeds.
        evidence: statement's name -> the fresh seeds' numbers.
        date, commit: of the verification.
    """

    claim: str
    preset: str
    seeds: Sequence[int]
    alone: dict[str, str]
    together: dict[str, str]
    evidence: dict[str, str]
    date: str
    commit: str | None

    def sentence(self, statements: Sequence[str] = ()) -> str:
        """Say it in the ledger.

        Args:
            statements: of the claim; none are all that were judged then.

        Returns:
            Nothing where none of the statements was judged then.
        """
        names = [name for name in statements or self.alone if name in self.alone]
        if not names:
            return ""
        alone, together = (
            " and ".join(dict.fromkeys(v[name] for name in names))
            for v in (self.alone, self.together)
        )
        seeds = ", ".join(map(str, self.seeds))
        if alone == together:
            return f"fresh seeds {seeds} ({self.date[:10]}): {alone}"
        return f"fresh seeds {seeds} ({self.date[:10]}): {alone}, with the others {together}"


def verifications(results: Path = RESULTS) -> dict[str, list[Verification]]:
    """Return all verifications, by claim."""
    path = results / NAME
    found: dict[str, list[Verification]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            one = Verification(**json.loads(line))
            found.setdefault(one.claim, []).append(one)
    return found


def append(one: Verification, results: Path = RESULTS) -> Path:
    """Append a verification to the record; return its path."""
    path = results / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(one)) + "\n")
    return path
