"""The figure of a spectral density with its standard errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from landscape.curvature.spectrum.density import SpectralDensity
from landscape.errors import UserError
from landscape.figures.canvas import axes_for, saved
from landscape.figures.style import BLUE, ORANGE, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_density(
    density: SpectralDensity,
    path: str | Path | None = None,
    *,
    ax: Axes | None = None,
    width: float | None = None,
    before: SpectralDensity | None = None,
    title: str = "",
) -> Axes:
    """Draw the density of the eigenvalues, smoothed by a Gaussian, with its standard error.

    The density is on a logarithmic scale down to what a tenth of one eigenvalue would show at its
    peak; the bars below are the Ritz values, whose outermost are close to eigenvalues.

    Args:
        density: of `spectral_density`.
        path: a file to write; its suffix (.png, .pdf, .svg) is the format.
        ax: axes to draw on; by default those of a new figure, which a notebook shows.
        width: standard deviation of the Gaussian, in units of the eigenvalues; default 1 % of
            the range.
        before: a second one behind it, for example of the pretrained weights.
        title: above the axes.

    Returns:
        The axes.

    Raises:
        UserError: width is not positive, or the suffix is no format.
    """
    if width is not None and not width > 0:
        raise UserError(
            f"expected a positive width of the smoothing, got {width}; leave it out for 1 % of "
            "the range"
        )
    with look():
        (axes,) = axes_for(ax, path, (5.6, 3.8))
        _draw(axes, density, width, before)
        axes.set_title(title)
        return saved(axes, path)


def _draw(
    axes: Axes, density: SpectralDensity, width: float | None, before: SpectralDensity | None
) -> None:
    shown = [("before", before, ORANGE)] if before is not None else []
    shown.append(("after" if before is not None else "density", density, BLUE))
    grids = [d.grid(800) for _, d, _ in shown if d is not None]
    reach = max(float(g[-1] - g[0]) for g in grids)
    sigma = 0.01 * reach if width is None else width
    floor = 0.1 / max(d.size for _, d, _ in shown if d is not None) / (sigma * (2 * np.pi) ** 0.5)
    for row, (name, one, colour) in enumerate(shown):
        assert one is not None
        grid = one.grid(800)
        value, error = (t.numpy() for t in one.density(grid, sigma))
        axes.plot(grid, np.maximum(value, floor), color=colour, label=name)
        if np.isfinite(error).all():
            low, high = np.maximum(value - error, floor), np.maximum(value + error, floor)
            axes.fill_between(grid, low, high, color=colour, alpha=0.25, linewidth=0)
        nodes = one.nodes[one.weights > 0].numpy()
        axes.plot(nodes, np.full(len(nodes), 0.02 + 0.035 * row), "|", color=colour, alpha=0.5,
                  markersize=7, transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(bottom=floor)
    axes.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    axes.set(xlabel="eigenvalue", ylabel="density ± standard error")
    axes.legend()
