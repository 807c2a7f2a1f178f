"""Pictures of the landscape: surfaces and spectra, on paper and on a page to turn and read."""

from landscape.figures.density import plot_density
from landscape.figures.surface import plot_surface

__all__ = ["plot_density", "plot_surface"]
