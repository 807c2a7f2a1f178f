"""All claims, one file a family."""

from theory.claim import Claim
from theory.claims import distance, dynamics, theorem51

ALL: tuple[Claim, ...] = (*theorem51.CLAIMS, *dynamics.CLAIMS, *distance.CLAIMS)
