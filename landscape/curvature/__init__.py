"""Curvature of a loss on a model's trainable numbers: operators, and algorithms on any of them."""

from landscape.curvature.density import SpectralDensity, spectral_density
from landscape.curvature.eigen import EigenResult
from landscape.curvature.eigensolver import lanczos
from landscape.curvature.exact import exact_matrix, exact_spectrum
from landscape.curvature.fisher import FisherOperator
from landscape.curvature.gauss_newton import GGNOperator
from landscape.curvature.health import Health, UnhealthyOperatorError, health_check
from landscape.curvature.hessian import HessianOperator
from landscape.curvature.hutchinson import Trace, trace
from landscape.curvature.negative import NegativeShare, negative_share
from landscape.curvature.norm import NormBound, norm_bound
from landscape.curvature.operators import LinearOperator, MatrixOperator
from landscape.curvature.power import power_iteration
from landscape.curvature.precondition import (
    PreconditionedOperator,
    preconditioned,
    stability_threshold,
)
from landscape.curvature.restrict import RestrictedOperator, module_blocks
from landscape.curvature.rows import micro_batches

__all__ = [
    "EigenResult",
    "FisherOperator",
    "GGNOperator",
    "Health",
    "HessianOperator",
    "LinearOperator",
    "MatrixOperator",
    "NegativeShare",
    "NormBound",
    "PreconditionedOperator",
    "RestrictedOperator",
    "SpectralDensity",
    "Trace",
    "UnhealthyOperatorError",
    "exact_matrix",
    "exact_spectrum",
    "health_check",
    "lanczos",
    "micro_batches",
    "module_blocks",
    "negative_share",
    "norm_bound",
    "power_iteration",
    "preconditioned",
    "spectral_density",
    "stability_threshold",
    "trace",
]
