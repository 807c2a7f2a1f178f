from .certificate import Certificate, certify
from .claim import Claim, Finding, Result
from .distributions import DISTRIBUTIONS, draw, prescribed
from .features import Features, from_array, load_features
from .hidden import hidden_states
from .jacobian import Linearised, jacobian_features, linearise
from .network import LinearNetwork, squared_loss
from .problems import MaskedRegression, make_problem
from .restricted import Restricted
from .suite import claims, default_problems, verify, verify_all

__all__ = [
    "DISTRIBUTIONS",
    "Certificate",
    "Claim",
    "Features",
    "Finding",
    "LinearNetwork",
    "Linearised",
    "MaskedRegression",
    "Restricted",
    "Result",
    "certify",
    "claims",
    "default_problems",
    "draw",
    "from_array",
    "hidden_states",
    "jacobian_features",
    "linearise",
    "load_features",
    "make_problem",
    "prescribed",
    "squared_loss",
    "verify",
    "verify_all",
]
