from .certificate import Certificate, certify
from .claim import Claim, Finding, Result
from .conditional import Certified, sharpness_interval, squared_distance_interval
from .distributions import DISTRIBUTIONS, draw, prescribed
from .features import Features, from_array, load_features
from .heavy_light import HeavyLight, divide, largest_leverages
from .hidden import hidden_states
from .jacobian import Linearised, jacobian_features, linearise
from .network import LinearNetwork, squared_loss
from .problems import MaskedRegression, make_problem
from .restricted import Restricted
from .suite import claims, default_problems, verify, verify_all

__all__ = [
    "DISTRIBUTIONS",
    "Certificate",
    "Certified",
    "Claim",
    "Features",
    "Finding",
    "HeavyLight",
    "LinearNetwork",
    "Linearised",
    "MaskedRegression",
    "Restricted",
    "Result",
    "certify",
    "claims",
    "default_problems",
    "divide",
    "draw",
    "from_array",
    "hidden_states",
    "jacobian_features",
    "largest_leverages",
    "linearise",
    "load_features",
    "make_problem",
    "prescribed",
    "sharpness_interval",
    "squared_distance_interval",
    "squared_loss",
    "verify",
    "verify_all",
]
