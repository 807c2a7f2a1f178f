"""The papers' claims: every empirical one once, every theorem, and the slips of their texts."""

from __future__ import annotations

from experiments.claims import ablations, id3, random_masking, schedules, slips, theorems
from experiments.claims.claim import Claim

PAPERS: dict[str, tuple[Claim, ...]] = {
    "Xu & Zhang 2024": (
        *random_masking.ACCURACY, *random_masking.RATES, *random_masking.MECHANISM,
        *ablations.ABLATIONS,
    ),
    "Agarwal et al. 2024": (
        *id3.SELECTIVE, *id3.INSERTED, *id3.OPTIONS, *schedules.SCHEDULES, *schedules.PLACES,
        *schedules.COST,
    ),
    "theorems of both": theorems.THEOREMS,
    "theorems beyond them": theorems.BEYOND,
    "slips of both": slips.SLIPS,
}  # fmt: skip
CLAIMS: tuple[Claim, ...] = tuple(claim for claims in PAPERS.values() for claim in claims)
