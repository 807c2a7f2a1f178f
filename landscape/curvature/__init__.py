"""Curvature of a loss on a model's trainable parameters: operators, and algorithms on any."""

from landscape.curvature.health import UnhealthyOperatorError, health_check
from landscape.curvature.operators.fisher import FisherOperator
from landscape.curvature.operators.gauss_newton import GGNOperator
from landscape.curvature.operators.hessian import HessianOperator
from landscape.curvature.operators.linear import LinearOperator, MatrixOperator
from landscape.curvature.operators.precondition import preconditioned
from landscape.curvature.operators.restrict import RestrictedOperator, module_blocks
from landscape.curvature.rows import micro_batches
from landscape.curvature.spectrum.ceiling import norm_bound
from landscape.curvature.spectrum.density import SpectralDensity, spectral_density
from landscape.curvature.spectrum.exact import exact_matrix, exact_spectrum
from landscape.curvature.spectrum.lanczos import lanczos
from landscape.curvature.spectrum.negative import NegativeShare, negative_share
from landscape.curvature.spectrum.power import power_iteration
from landscape.curvature.spectrum.result import EigenResult
from landscape.curvature.spectrum.trace import trace
from landscape.curvature.stability import stability_threshold

__all__ = [
    "EigenResult",
    "FisherOperator",
    "GGNOperator",
    "HessianOperator",
    "LinearOperator",
    "MatrixOperator",
    "NegativeShare",
    "RestrictedOperator",
    "SpectralDensity",
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
