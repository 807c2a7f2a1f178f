"""Slices of the loss through the present weights, inside the space of the trainable parameters."""

from landscape.surface.directions import PrincipalDirections, displacement, random_directions
from landscape.surface.grid import Surface
from landscape.surface.interpolation import interpolate
from landscape.surface.scan import surface_1d, surface_2d
from landscape.surface.trajectory import Trajectory

__all__ = [
    "PrincipalDirections",
    "Surface",
    "Trajectory",
    "displacement",
    "interpolate",
    "random_directions",
    "surface_1d",
    "surface_2d",
]
