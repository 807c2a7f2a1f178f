"""All claims, one file a family, in the order of the reference."""

from theory.claim import Claim
from theory.statements import (
    contraction,
    distance,
    dynamics,
    every_n,
    id3,
    law,
    lemma,
    net,
    progress,
    prose,
    sparser,
    spectral,
    theorem51,
    traces,
    updates,
    work,
)

_FOUND = {
    claim.id: claim
    for family in (
        theorem51, every_n, prose, spectral, traces, lemma, net, dynamics, contraction, distance,
        sparser, law, progress, id3, updates, work,
    )  # fmt: skip
    for claim in family.CLAIMS
}

ORDER = (
    "thm-5.1-printed",
    "thm-5.1-every-n",
    "thm-5.1-corrected",
    "thm-5.1-usefulness",
    "thm-5.1-sharp",
    "thm-5.1-needed-d",
    "bernstein",
    "chernoff",
    "lemma-a.1",
    "net-lemma",
    "trace-identity",
    "eq-3",
    "prop-5.2",
    "prop-5.2-norm",
    "prop-5.2-limit",
    "prop-5.3",
    "cor-distance",
    "sparser-is-farther",
    "distance-law",
    "finite-time",
    "momentum",
    "adam",
    "id3-thm-1",
    "id3-thm-1-corrected",
    "id3-importance",
    "id3-updates",
    "id3-literal",
    "id3-sums",
    "id3-sign",
    "id3-work",
)

ALL: tuple[Claim, ...] = tuple(_FOUND[name] for name in ORDER)
