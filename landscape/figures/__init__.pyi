from .density import plot_density
from .surface import plot_surface
from .table import format_table

__all__ = ["format_table", "plot_density", "plot_surface"]
