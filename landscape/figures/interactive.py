"""A surface as figures of plotly: a relief and a map, or a curve, as plain values."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from landscape.figures.losses import drawable, lowest, written
from landscape.figures.style import BLUE, MARK, ORANGE, RED
from landscape.surface import Surface

Figure = dict[str, Any]
_TICKS = 6


def figures(surface: Surface, labels: tuple[str, str], trajectory: Tensor | None) -> list[Figure]:
    """Return the figures of a surface, each its traces and its layout.

    Raises:
        UserError: no cell is finite, or the trajectory is none of this surface.
    """
    import plotly.graph_objects as go

    losses = drawable(surface, trajectory)
    way = None if trajectory is None else trajectory.numpy().astype(float)
    parts = (
        [("curve", _curve(surface, losses, labels))]
        if losses.ndim == 1
        else [
            ("relief", _relief(surface, losses, labels, way)),
            ("map", _map(surface, losses, labels, way)),
        ]
    )
    found = [(name, go.Figure(*part).to_plotly_json()) for name, part in parts]
    for _, figure in found:
        del figure["layout"]["template"]  # plotly's own look, larger than what is drawn
    return [{"name": name, **figure} for name, figure in found]


def _relief(
    surface: Surface, losses: np.ma.MaskedArray, labels: tuple[str, str], way: np.ndarray | None
) -> tuple[list[Figure], Figure]:
    x, y = (axis.tolist() for axis in surface.axes)
    i, j = lowest(losses)
    colours, _ = _ranks(losses)
    traces: list[Figure] = [
        {"type": "surface", "x": x, "y": y, "z": _plain(losses.T), "surfacecolor": colours,
         "customdata": _plain(_beside(surface, losses)), "colorscale": "Viridis", "cmin": 0,
         "cmax": 1, "showscale": False, "hovertemplate": _template(surface, labels, "z"),
         "lighting": {"ambient": 0.85, "diffuse": 0.4, "specular": 0.05}, "name": ""},
    ]  # fmt: skip
    if way is not None:  # over the relief, where it is inside
        heights = [_between(surface, losses, point) for point in way]
        traces.append(
            {"type": "scatter3d", "x": _plain(way[:, 0]), "y": _plain(way[:, 1]), "z": heights,
             "mode": "lines", "line": {"color": RED, "width": 5}, "name": "training",
             "hoverinfo": "skip"}
        )  # fmt: skip
    marks = [("model", "cross", 0.0, 0.0, surface.centre),
             ("lowest cell", "circle-open", x[i], y[j], float(losses[i, j]))]  # fmt: skip
    traces += [
        {"type": "scatter3d", "x": [a], "y": [b], "z": [_finite(c)], "mode": "markers",
         "marker": {"symbol": sign, "color": MARK, "size": 6, "line": {"color": MARK, "width": 3}},
         "name": name, "hovertemplate": f"{name}: loss %{{z:.4g}}<extra></extra>"}
        for name, sign, a, b, c in marks
    ]  # fmt: skip
    scene = {
        "xaxis": {"title": {"text": _short(labels[0])}},
        "yaxis": {"title": {"text": _short(labels[1])}},
        "zaxis": {"title": {"text": "loss"}}, "aspectmode": "manual",
        "aspectratio": {"x": 1.0, "y": 1.0, "z": 0.75},
        "camera": {"eye": {"x": -1.65, "y": -1.95, "z": 1.25},
                   "center": {"x": 0, "y": 0, "z": -0.1}},
    }  # fmt: skip
    return traces, {"scene": scene, "showlegend": False, "margin": dict.fromkeys("lrtb", 0)}


def _map(
    surface: Surface, losses: np.ma.MaskedArray, labels: tuple[str, str], way: np.ndarray | None
) -> tuple[list[Figure], Figure]:
    x, y = (axis.tolist() for axis in surface.axes)
    i, j = lowest(losses)
    colours, bar = _ranks(losses)
    traces: list[Figure] = [
        {"type": "heatmap", "x": x, "y": y, "z": colours, "colorscale": "Viridis", "zmin": 0,
         "zmax": 1, "colorbar": bar, "customdata": _plain(_beside(surface, losses)), "name": "",
         "hovertemplate": _template(surface, labels, "customdata[0]")},
    ]  # fmt: skip
    missing = np.argwhere(np.ma.getmaskarray(losses))
    if len(missing):
        found = [str(float(surface.losses[tuple(cell)])) for cell in missing.tolist()]
        traces.append(
            {"type": "scatter", "x": [x[a] for a, _ in missing], "y": [y[b] for _, b in missing],
             "mode": "markers", "marker": {"symbol": "x-thin-open", "color": "#888", "size": 8},
             "text": found, "hovertemplate": "loss %{text}<extra></extra>", "name": "not finite"}
        )  # fmt: skip
    if way is not None:
        traces.append(
            {"type": "scatter", "x": _plain(way[:, 0]), "y": _plain(way[:, 1]),
             "name": "training", "mode": "lines+markers", "line": {"color": RED, "width": 2},
             "marker": {"size": 5}, "hoverinfo": "skip"}
        )  # fmt: skip
    traces += _marks((0.0, 0.0), (x[i], y[j]))
    ends = [_ends(axis) for axis in (x, y)]
    return traces, {
        "xaxis": {"title": {"text": f"{labels[0]} (l2)"}, "range": ends[0]},
        "yaxis": {"title": {"text": f"{labels[1]} (l2)"}, "range": ends[1]},
        "showlegend": False,
        "margin": {"l": 62, "r": 8, "t": 12, "b": 52},
    }  # fmt: skip


def _curve(
    surface: Surface, losses: np.ma.MaskedArray, labels: tuple[str, str]
) -> tuple[list[Figure], Figure]:
    x = surface.axes[0].tolist()
    traces: list[Figure] = [
        {"type": "scatter", "x": x, "y": _plain(losses), "mode": "lines+markers", "name": "loss",
         "line": {"color": BLUE}, "hovertemplate": f"{labels[0]} %{{x:.4g}}<br>loss %{{y:.4g}}"}
    ]  # fmt: skip
    if surface.prediction is not None:
        traces.append(
            {"type": "scatter", "x": x, "y": _plain(surface.prediction.numpy()), "mode": "lines",
             "line": {"color": ORANGE, "dash": "dash"},
             "name": "quadratic prediction", "hovertemplate": "prediction %{y:.4g}"}
        )  # fmt: skip
    (i,) = lowest(losses)
    traces += _marks((0.0, _finite(surface.centre)), (x[i], float(losses[i])))
    half = (x[1] - x[0]) / 2
    bands = [
        {"type": "rect", "xref": "x", "yref": "paper", "x0": a - half, "x1": a + half, "y0": 0,
         "y1": 1, "fillcolor": "#888", "opacity": 0.2, "line": {"width": 0}, "layer": "below"}
        for a, bad in zip(x, np.ma.getmaskarray(losses), strict=True) if bad
    ]  # fmt: skip
    low, high = float(losses.min()), float(losses.max())
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return traces, {
        "xaxis": {"title": {"text": f"{labels[0]} (l2)"}}, "shapes": bands,
        "yaxis": {"title": {"text": "loss"}, "range": [low - room, high + room]},
        "showlegend": False,
        "margin": {"l": 70, "r": 12, "t": 12, "b": 52},
    }  # fmt: skip


def _marks(model: tuple[float, float | None], low: tuple[float, float]) -> list[Figure]:
    look = {"model": ("cross-thin-open", 12), "lowest cell": ("circle-open", 12)}
    return [
        {"type": "scatter", "x": [at[0]], "y": [at[1]], "mode": "markers", "name": name,
         "marker": {"symbol": sign, "size": size, "color": MARK,
                    "line": {"color": MARK, "width": 2.5}},
         "hoverinfo": "skip", "cliponaxis": False}
        for at, (name, (sign, size)) in zip((model, low), look.items(), strict=True)
    ]  # fmt: skip


def _ends(axis: list[float]) -> list[float]:
    """Return where the outermost cells of an axis end."""
    half = (axis[-1] - axis[0]) / (len(axis) - 1) / 2
    return [axis[0] - half, axis[-1] + half]


def _ranks(losses: np.ma.MaskedArray) -> tuple[list[Any], Figure]:
    """Return the share of cells below each, as rows of y, and the scale that says their losses."""
    known = np.sort(losses.compressed())
    below = np.searchsorted(known, losses.filled(known[0])) / max(len(known) - 1, 1)
    if known[0] == known[-1]:
        below = np.full(losses.shape, 0.5)
    shares = np.linspace(0, 1, _TICKS)
    words = written(np.quantile(known, shares))
    bar = {"title": {"text": "loss", "side": "top"}, "tickvals": shares.tolist(),
           "ticktext": words, "thickness": 14, "len": 0.9, "outlinewidth": 0}  # fmt: skip
    return _plain(np.ma.masked_array(below, np.ma.getmaskarray(losses)).T), bar


def _beside(surface: Surface, losses: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """Return loss and prediction of every cell, as rows of y."""
    found = [losses] if surface.prediction is None else [losses, surface.prediction.numpy()]
    stacked: np.ma.MaskedArray = np.ma.masked_invalid(np.ma.stack(found, -1).swapaxes(0, 1))
    return stacked


def _template(surface: Surface, labels: tuple[str, str], loss: str) -> str:
    lines = [f"{labels[0]} %{{x:.4g}}", f"{labels[1]} %{{y:.4g}}", f"loss %{{{loss}:.4g}}"]
    if surface.prediction is not None:
        lines.append("quadratic prediction %{customdata[1]:.4g}")
    return "<br>".join(lines) + "<extra></extra>"


def _between(surface: Surface, losses: np.ma.MaskedArray, point: np.ndarray) -> float | None:
    """Return the loss at a point, linear between cells; none outside or beside one without."""
    places, shares = [], []
    for axis, at in zip((a.numpy() for a in surface.axes), point, strict=True):
        if not axis[0] <= at <= axis[-1]:
            return None
        place = min(int(np.searchsorted(axis, at, side="right")) - 1, len(axis) - 2)
        places.append(place)
        shares.append(float((at - axis[place]) / (axis[place + 1] - axis[place])))
    (i, j), (s, t) = places, shares
    corners = losses[i : i + 2, j : j + 2]
    if np.ma.getmaskarray(corners).any():
        return None
    return float(np.array([1 - s, s]) @ corners.filled() @ np.array([1 - t, t]))


def _short(label: str) -> str:
    """Return a label's name without what follows its comma: reliefs have little room."""
    return label.partition(",")[0]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _plain(values: np.ndarray) -> list[Any]:
    """Return nested lists, with None where there is no number."""
    found: list[Any] = np.ma.masked_invalid(values).tolist()
    return found
