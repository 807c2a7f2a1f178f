from .density import plot_density
from .page import Page, surface_page
from .style import look
from .surface import plot_surface
from .table import format_table

__all__ = ["Page", "format_table", "look", "plot_density", "plot_surface", "surface_page"]
