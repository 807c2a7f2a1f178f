"""Slices of the loss through the present weights, inside the space of the trainable numbers."""

from landscape.surface.directions import displacement, random_directions
from landscape.surface.picture import plot_surface
from landscape.surface.scan import Surface, surface_1d, surface_2d

__all__ = [
    "Surface",
    "displacement",
    "plot_surface",
    "random_directions",
    "surface_1d",
    "surface_2d",
]
