"""The negative share of a spectrum's total magnitude, in bounds that hold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from landscape.curvature.spectrum.density import SpectralDensity


@dataclass(frozen=True)
class NegativeShare:
    """Hold sum |lambda| over lambda < 0, over sum |lambda|, and where it lies."""

    value: float
    """The estimate; NaN where every eigenvalue seen is zero."""
    low: float
    """Lower end of a 95 % interval."""
    high: float
    """Upper end."""

    def __str__(self) -> str:
        return f"{self.value:.3f}, 95 % interval {self.low:.3f} to {self.high:.3f}"


def negative_share(density: SpectralDensity) -> NegativeShare:
    """Return the negative share of the eigenvalues' total magnitude, with a 95 % interval.

        sum of |lambda| over lambda < 0 / sum of |lambda|

    How *many* eigenvalues are negative no such quadrature tells: most lie so close to zero that
    rounding decides their sign. They hardly count here.

    The interval has two parts. For each vector's measure mu, N = integral of mu(lambda <= t) over
    t < 0 lies between sums of the quadrature's weights, whatever the spectrum: between two nodes
    mu(lambda <= t) is at least the weight before the lower node, at most that up to the upper one
    (the Chebyshev-Markov-Stieltjes inequalities); the mean, N's counterpart, is exact. Over the
    vectors, Student's quantile of the quotient's linearised
    error, on the scale of the odds. A few eigenvalues that hold
    most of the magnitude make it too narrow: give them to `spectral_density` as `known`.

    Args:
        density: of `spectral_density`, with at least 2 vectors; with one the interval is [0, 1].

    Source: Szegö (1939), Orthogonal polynomials, section 3.41 (the inequalities).
    """
    known = density.known
    exact = float(known.clamp(max=0).abs().sum()) / density.size
    mean = (density.weights * density.nodes).sum(1)
    nodes, weights = density.drawn()
    # a run that ended early, or has seen every dimension, is its measure
    whole = (weights == 0).any(1) | (nodes.shape[1] >= density.size - len(known))
    sums = [exact + _below_zero(nodes, weights, shift, whole) for shift in (0, -1, 1)]
    value, _ = _quotient(sums[0], mean)
    count = len(mean)
    if count < 2 or value != value:
        return NegativeShare(value, 0.0, 1.0)
    quantile = float(stats.t.ppf(0.975, count - 1))
    ends = []
    for bound in sums[1:]:
        share, error = _quotient(bound, mean)
        ends += _interval(share, quantile * error)
    return NegativeShare(value, min(ends), max(ends))


def _below_zero(nodes: Tensor, weights: Tensor, shift: int, whole: Tensor) -> Tensor:
    """Integrate the cumulated weights from the first node to zero, per vector.

    `shift` nodes more (1) or fewer (-1) are counted than lie below, an upper and a lower bound,
    except where the quadrature is the `whole` measure.
    """
    if not nodes.shape[1]:
        return torch.zeros(len(nodes), dtype=torch.float64, device="cpu")
    total = weights.cumsum(1)
    before = torch.cat([torch.zeros_like(total[:, :1]), total], dim=1)  # weight of nodes 0..i-1
    widths = (nodes[:, 1:].clamp(max=0) - nodes[:, :-1].clamp(max=0)).clamp(min=0)
    last = -nodes[:, -1:].clamp(max=0)  # beyond the last node everything is below
    steps = torch.arange(nodes.shape[1] - 1, device="cpu") + 1 + shift
    counted = torch.where(whole[:, None], before[:, 1:-1], before[:, steps])
    return (widths * counted).sum(1) + (last * total[:, -1:]).sum(1)


def _interval(share: float, half: float) -> list[float]:
    """Return share +- half, taken on the scale of log(share / (1 - share)), where shares end."""
    if not 0 < share < 1:
        return [max(0.0, share - half), min(1.0, share + half)]
    stretch = math.exp(min(half / (share * (1 - share)), 50.0))
    odds = share / (1 - share)
    return [odds / stretch / (1 + odds / stretch), odds * stretch / (1 + odds * stretch)]


def _quotient(negative: Tensor, mean: Tensor) -> tuple[float, float]:
    """Return the mean of N over that of 2 N + (P - N), and its standard error."""
    total = mean + 2 * negative
    if not float(total.mean()) > 0:
        return float("nan"), float("inf")
    share = negative.mean() / total.mean()
    if len(mean) < 2:
        return float(share), float("inf")
    error = (negative - share * total).std() / total.mean() / len(mean) ** 0.5
    return float(share), float(error)
