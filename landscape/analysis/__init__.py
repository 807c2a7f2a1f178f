"""Analyses of a selection: where a mask lies, how it spreads, what each further budget buys."""

from landscape.analysis.allocations import MaskProbe, allocation, spread
from landscape.analysis.budgets import BudgetProbe, score_against_updated, score_checkpoints
from landscape.analysis.plots import plot_allocation, plot_curves

__all__ = [
    "BudgetProbe",
    "MaskProbe",
    "allocation",
    "plot_allocation",
    "plot_curves",
    "score_against_updated",
    "score_checkpoints",
    "spread",
]
