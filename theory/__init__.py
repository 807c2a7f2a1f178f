"""Verify what is claimed about masked linear regression, and refute what is false."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from theory.certificate import Certificate, certify
from theory.claim import Claim, Finding, Result
from theory.distributions import DISTRIBUTIONS, draw, prescribed
from theory.features import Features, from_array, load_features
from theory.problems import MaskedRegression, make_problem
from theory.restricted import Restricted
from theory.suite import claims, default_problems, verify, verify_all

if TYPE_CHECKING:
    from theory.hidden import hidden_states
    from theory.network import LinearNetwork, squared_loss

#: names whose modules import torch, which takes seconds: only when they are used
_HEAVY = {"hidden_states": "hidden", "LinearNetwork": "network", "squared_loss": "network"}

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


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module 'theory' has no attribute {name!r}")
    return getattr(import_module(f"theory.{_HEAVY[name]}"), name)
