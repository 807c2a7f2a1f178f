"""Selections: which weights to train, by structure or by score, at an exact budget."""

from landscape.selection.select import select_mask
from landscape.selection.structured import structured_mask

__all__ = ["select_mask", "structured_mask"]
