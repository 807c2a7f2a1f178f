"""Verify what is claimed about masked linear regression, and refute what is false."""

from theory.certificate import Certificate, certify
from theory.claim import Claim, Finding, Result
from theory.features import DISTRIBUTIONS, Features, draw, from_array, load_features, prescribed
from theory.hidden import hidden_states
from theory.network import LinearNetwork, squared_loss
from theory.problems import MaskedRegression, Restricted, make_problem
from theory.suite import claims, default_problems, verify, verify_all

__all__ = [
    "DISTRIBUTIONS",
    "Certificate",
    "Claim",
    "Features",
    "Finding",
    "LinearNetwork",
    "MaskedRegression",
    "Restricted",
    "Result",
    "certify",
    "claims",
    "default_problems",
    "draw",
    "from_array",
    "hidden_states",
    "load_features",
    "make_problem",
    "prescribed",
    "squared_loss",
    "verify",
    "verify_all",
]
