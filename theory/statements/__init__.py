"""All claims, one file a family, in the order of the reference."""

from theory.claim import Claim
from theory.statements import (
    distance,
    dynamics,
    id3,
    law,
    lemma,
    nested,
    net,
    progress,
    sgd,
    sharp,
    sign,
    spectral,
    theorem51,
    traces,
)

_FOUND = {
    claim.id: claim
    for family in (
        theorem51,
        sharp,
        spectral,
        traces,
        lemma,
        net,
        dynamics,
        nested,
        sign,
        sgd,
        distance,
        law,
        progress,
        id3,
    )
    for claim in family.CLAIMS
}

ORDER = (
    "thm-5.1-printed",
    "thm-5.1-corrected",
    "thm-5.1-usefulness",
    "thm-5.1-sharp",
    "sub-gaussian",
    "bernstein",
    "chernoff",
    "lemma-a.1",
    "net-lemma",
    "trace-identity",
    "eq-3",
    "prop-5.2",
    "prop-5.3",
    "cor-distance",
    "distance-law",
    "finite-time",
    "momentum",
    "adam",
    "sign-descent",
    "sign-rate",
    "adam-first-step",
    "nested-masks",
    "sgd",
    "sgd-rate",
    "id3-thm-1",
    "id3-thm-1-corrected",
    "id3-updates",
)

ALL: tuple[Claim, ...] = tuple(_FOUND[name] for name in ORDER)
