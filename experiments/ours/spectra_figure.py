"""Draw `spectra`: densities with their errors, both ends, negative curvature."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from experiments.kit.draw import RATIO, colors
from experiments.kit.panels import Panel
from experiments.kit.records import Record
from experiments.ours.spectra_report import Row, density, negative_share, rows_of, spectra
from experiments.ours.trained import ENDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def drawn(records: Sequence[Record]) -> list[Panel]:
    """Draw the densities of every ratio; then their ends, negative shares and the exact one."""
    rows = rows_of(records)
    found = []
    for ratio in sorted({r["ratio"] for r in spectra(rows)}, reverse=True):
        chosen = [r for r in spectra(rows) if r["ratio"] == ratio]
        found.append(Panel(f"Ratio {ratio:g}", partial(_draw_densities, chosen)))
    found += [Panel("Both ends of the spectrum", partial(_draw_ends, rows)),
              Panel("Negative curvature", partial(_draw_shares, rows))]  # fmt: skip
    for row in [r for r in rows if r["kind"] == "exact"][:1]:
        name = f"The estimate's check, {row['size']} weights"
        found.append(Panel(name, partial(_draw_exact, row)))
    return found


def _color(when: str) -> tuple[float, float, float]:
    return colors()[1 - ENDS.index(when)]


def _draw_densities(chosen: Sequence[Row], axis: Axes, *_: Any) -> None:
    import numpy as np
    import torch

    low = min(min(r["bottom"], density(r).nodes.min().item()) for r in chosen)
    high = max(max(r["top"], density(r).nodes.max().item()) for r in chosen)
    width = 0.02 * (high - low)
    floor = 0.05 / width  # an eighth of the height of a single eigenvalue
    most = floor
    grid = torch.linspace(low - 4 * width, high + 4 * width, 600, dtype=torch.float64)
    for r in sorted(chosen, key=lambda r: ENDS.index(r["when"])):
        value, error = (r["size"] * t.numpy() for t in density(r).density(grid, width))
        most, color = max(most, value.max()), _color(r["when"])
        axis.plot(grid, value, color=color, lw=1.5, label=f"{r['when']} training")
        axis.fill_between(grid, np.maximum(value - error, 1e-300), value + error, color=color,
                          alpha=0.2, lw=0)  # fmt: skip
        axis.plot([r["bottom"], r["top"]], [floor] * 2, "^", color=color, ms=8, clip_on=False)
    axis.axvline(0, color="0.7", lw=0.8, zorder=0)
    axis.set(
        yscale="log",
        ylim=(floor, 3 * most),
        xlabel="eigenvalue (triangles: both ends)",
        ylabel="eigenvalues per unit",
    )
    axis.locator_params(axis="x", nbins=5)


def _draw_ends(rows: Sequence[Row], axis: Axes, *_: Any) -> None:
    for when in ENDS:
        chosen = spectra(rows, when)
        ratios = [r["ratio"] for r in chosen]
        for end, sign, style in (("top", 1, "o-"), ("bottom", -1, "v:")):
            values = [sign * r[end] for r in chosen]
            axis.errorbar(
                ratios, values, [r[f"{end}_residual"] for r in chosen], fmt=style, ms=5, capsize=2,
                color=_color(when), label=f"{'' if sign > 0 else 'minus '}{end}, {when} training",
            )  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel=RATIO,
             ylabel="magnitude of the eigenvalue")  # fmt: skip


def _draw_shares(rows: Sequence[Row], axis: Axes, *_: Any) -> None:
    for when, aside in zip(ENDS, (1 / 1.06, 1.06), strict=True):  # intervals beside each other
        chosen = spectra(rows, when)
        shares = [negative_share(r) for r in chosen]
        axis.errorbar(
            [aside * r["ratio"] for r in chosen], [s.value for s in shares],
            [[s.value - s.low for s in shares], [s.high - s.value for s in shares]],
            fmt="o-", ms=5, capsize=2, color=_color(when), label=f"{when} training",
        )  # fmt: skip
    axis.axhline(0.5, color="0.6", lw=1, ls="--", label="as much negative as positive")
    axis.set(xscale="log", xlabel=RATIO, ylim=(0, 0.72),
             ylabel=r"negative share of $\sum|\lambda|$")  # fmt: skip


def _draw_exact(row: Row, axis: Axes, *_: Any) -> None:
    import numpy as np
    import torch

    from landscape.curvature import SpectralDensity

    values = torch.tensor(row["eigenvalues"]).double()
    low, high = float(values.min()), float(values.max())
    width = 0.02 * (high - low)
    grid = torch.linspace(low - 4 * width, high + 4 * width, 600, dtype=torch.float64)
    exact = SpectralDensity(values[None], torch.full((1, len(values)), 1 / len(values)).double(),
                            len(values), 0)  # fmt: skip
    truth = len(values) * exact.density(grid, width)[0].numpy()
    value, error = (row["size"] * t.numpy() for t in density(row).density(grid, width))
    axis.plot(grid, truth, color="0.2", lw=1.5, label=f"exact, {len(values)} eigenvalues")
    color = colors()[2]
    axis.plot(grid, value, color=color, lw=1.5, ls="--",
              label=f"estimated, {row['num_matvecs']} products")  # fmt: skip
    axis.fill_between(grid, np.maximum(value - error, 1e-300), value + error, color=color,
                      alpha=0.2, lw=0)  # fmt: skip
    axis.set(yscale="log", ylim=(0.05 / width, 5 * max(truth.max(), value.max())),
             xlabel="eigenvalue", ylabel="eigenvalues per unit")  # fmt: skip
    axis.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3), useMathText=True)
