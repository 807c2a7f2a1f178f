"""Tiles: the groups of weights that structured selections take whole.

A matrix is read as (outputs, inputs), whatever its layout in memory, and divided into rectangles of
height x width: columns are (outputs, 1), rows (1, inputs), heads (head size, inputs), and so on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from landscape import checks
from landscape.errors import UserError

GRANULARITIES = ("weights", "columns", "rows", "heads", "blocks")
# projections that read the heads' outputs: their heads lie along the inputs
_AFTER_HEADS = ("o_proj", "out_proj", "c_proj", "dense")


@dataclass(frozen=True)
class Tiling:
    """Divide a matrix into tiles, numbered row by row.

    Args:
        outputs, inputs: the matrix.
        height, width: of a tile; tiles at the edges are smaller where they must be.
        transposed: whether memory holds it as (inputs, outputs), as GPT-2's ``Conv1D`` does.
    """

    outputs: int
    inputs: int
    height: int
    width: int
    transposed: bool = False

    @property
    def across(self) -> int:
        """Return the number of tiles beside each other."""
        return -(-self.inputs // self.width)

    @property
    def count(self) -> int:
        """Return the number of tiles."""
        return -(-self.outputs // self.height) * self.across

    def sizes(self) -> Int64[Tensor, " count"]:
        """Return the number of weights of every tile, shape (count,), int64."""
        heights = _lengths(self.outputs, self.height)
        return torch.outer(heights, _lengths(self.inputs, self.width)).view(-1)

    def means(self, scores: Tensor) -> Float[Tensor, " count"]:
        """Return the mean score of every tile, shape (count,), from one score a weight."""
        if self.height == self.width == 1 and not self.transposed:
            return scores.reshape(-1)
        matrix = (
            scores.view(self.inputs, self.outputs).t()
            if self.transposed
            else scores.view(self.outputs, self.inputs)
        )
        tile = (self.height, self.width)
        pooled = F.avg_pool2d(matrix[None], tile, tile, ceil_mode=True, count_include_pad=False)
        return pooled.reshape(-1)

    def members(self, tiles: Tensor) -> Tensor:
        """Return the flat indices in memory of the weights of some tiles, tile after tile."""
        down = torch.arange(self.height, device=tiles.device)[None, :, None]
        right = torch.arange(self.width, device=tiles.device)[None, None, :]
        row = (tiles // self.across * self.height)[:, None, None] + down
        column = (tiles % self.across * self.width)[:, None, None] + right
        inside = (row < self.outputs) & (column < self.inputs)
        flat = column * self.outputs + row if self.transposed else row * self.inputs + column
        return flat[inside]


def tilings(
    model: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    granularity: str,
    block: tuple[int, int],
) -> dict[str, Tiling]:
    """Divide target tensors into the tiles of a granularity.

    Args:
        model: the model; its modules say how a tensor lies in memory, its configuration how
            wide a head is.
        shapes: the target tensors.
        granularity: "columns" (all weights that read one input), "rows" (all that feed one
            output), "heads" (all that feed one attention head, or read one, for the projection
            after attention) or "blocks".
        block: height and width of a block.

    Raises:
        UserError: an unknown granularity, a tensor that is no matrix, or one that has no heads.
    """
    if granularity not in GRANULARITIES[1:]:
        raise UserError(
            f"expected a granularity among {', '.join(GRANULARITIES)}, or a pattern such as "
            f"'2:4', got {granularity!r}; check the spelling"
        )
    if not isinstance(block, tuple | list) or len(block) != 2:
        checks.refuse("block", "its height and width", block, "give (16, 16)")
    block = (
        checks.whole("the height of block", block[0], least=1),
        checks.whole("the width of block", block[1], least=1),
    )
    modules = dict(model.named_modules())
    tiled = {}
    for name, shape in shapes.items():
        outputs, inputs, transposed = matrix_view(modules, name, shape)
        tile = {
            "columns": (outputs, 1),
            "rows": (1, inputs),
            "blocks": (min(block[0], outputs), min(block[1], inputs)),
        }.get(granularity) or _head(model, name, outputs, inputs)
        tiled[name] = Tiling(outputs, inputs, *tile, transposed)
    return tiled


def matrix_view(
    modules: Mapping[str, nn.Module], name: str, shape: tuple[int, ...]
) -> tuple[int, int, bool]:
    """Return (outputs, inputs, transposed) of a tensor; a convolution's inputs are its patches.

    Raises:
        UserError: the tensor has fewer than two axes.
    """
    if len(shape) < 2:
        raise UserError(
            f"expected matrices, got {name} of shape {shape}; leave it out of targets or choose "
            "granularity='weights'"
        )
    if isinstance(modules.get(name.rpartition(".")[0]), Conv1D):
        return shape[1], shape[0], True
    return shape[0], math.prod(shape[1:]), False


def pattern(granularity: str) -> tuple[int, int] | None:
    """Read "n:m", n weights in every m that follow each other along the inputs; else None.

    Raises:
        UserError: not 1 <= n <= m.

    >>> pattern("2:4"), pattern("rows")
    ((2, 4), None)
    """
    found = re.fullmatch(r"(\d+):(\d+)", granularity)
    if found is None:
        return None
    n, m = int(found[1]), int(found[2])
    if not 1 <= n <= m:
        raise UserError(
            f"expected a pattern n:m with 1 <= n <= m, got {granularity!r}; '2:4' is one"
        )
    return n, m


def _head(model: nn.Module, name: str, outputs: int, inputs: int) -> tuple[int, int]:
    config: Any = getattr(model, "config", None)
    size = getattr(config, "head_dim", None)
    heads = getattr(config, "num_attention_heads", None)
    if not size and heads and getattr(config, "hidden_size", None):
        size = config.hidden_size // heads
    after = name.split(".")[-2:-1] and name.split(".")[-2] in _AFTER_HEADS
    along = inputs if after else outputs
    if not size or along % size:
        raise UserError(
            f"expected a whole number of heads in {name} for granularity 'heads', got {along} "
            f"{'inputs' if after else 'outputs'} and heads of {size or 'an unknown size'}; choose "
            "attention projections, or granularity='blocks'"
        )
    return (outputs, size) if after else (size, inputs)


def _lengths(total: int, part: int) -> Tensor:
    lengths = torch.full((-(-total // part),), part)
    lengths[-1] = total - part * (len(lengths) - 1)
    return lengths
