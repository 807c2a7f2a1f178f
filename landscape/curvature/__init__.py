"""Curvature of a loss on a model's trainable numbers: operators, and algorithms on any of them."""

from landscape.curvature.eigen import EigenResult
from landscape.curvature.fisher import FisherOperator
from landscape.curvature.gauss_newton import GGNOperator
from landscape.curvature.health import Health, UnhealthyOperatorError, health_check
from landscape.curvature.hessian import HessianOperator
from landscape.curvature.lanczos import lanczos
from landscape.curvature.operators import LinearOperator, MatrixOperator
from landscape.curvature.power import power_iteration

__all__ = [
    "EigenResult",
    "FisherOperator",
    "GGNOperator",
    "Health",
    "HessianOperator",
    "LinearOperator",
    "MatrixOperator",
    "UnhealthyOperatorError",
    "health_check",
    "lanczos",
    "power_iteration",
]
