"""All claims, one file a family, in the order of the reference."""

from theory.claim import Claim
from theory.statements import (
    corrected,
    distance,
    dynamics,
    heavy,
    id3,
    law,
    lemma,
    net,
    progress,
    spectral,
    steps,
    theorem51,
    traces,
)

_FOUND = {
    claim.id: claim
    for family in (
        theorem51,
        spectral,
        heavy,
        steps,
        traces,
        lemma,
        net,
        dynamics,
        distance,
        law,
        corrected,
        progress,
        id3,
    )
    for claim in family.CLAIMS
}

ORDER = (
    "thm-5.1-printed",
    "thm-5.1-corrected",
    "thm-5.1-usefulness",
    "bernstein",
    "chernoff",
    "heavy-light",
    "top-below",
    "step-gaussian",
    "step-isotropic",
    "lemma-a.1",
    "net-lemma",
    "trace-identity",
    "eq-3",
    "prop-5.2",
    "prop-5.3",
    "cor-distance",
    "distance-law",
    "distance-haar",
    "distance-leverage",
    "finite-time",
    "momentum",
    "adam",
    "id3-thm-1",
    "id3-thm-1-corrected",
    "id3-updates",
)

ALL: tuple[Claim, ...] = tuple(_FOUND[name] for name in ORDER)
