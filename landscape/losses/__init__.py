"""Losses: a sum of terms and their number, from a model and a batch."""

from landscape.losses.criterion import Criterion, is_criterion
from landscape.losses.default import default_loss, default_split
from landscape.losses.given import as_batches, as_loss, as_split
from landscape.losses.kinds import Loss, Split, Terms, sum_and_count, terms_and_count

__all__ = [
    "Criterion",
    "Loss",
    "Split",
    "Terms",
    "as_batches",
    "as_loss",
    "as_split",
    "default_loss",
    "default_split",
    "is_criterion",
    "sum_and_count",
    "terms_and_count",
]
