"""Structured masks: random columns, rows, heads, blocks or n:m patterns of the targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn

from landscape import checks, seeds
from landscape.errors import UserError
from landscape.masks import Mask, budget_density, share
from landscape.models.targets import AUTO, target_patterns, target_shapes
from landscape.models.tensors import num_parameters
from landscape.selection.tiles import Tiling, matrix_view, pattern, tilings

Order: TypeAlias = Literal["random", "first"]


def structured_mask(
    model: nn.Module,
    *,
    granularity: str = "columns",
    ratio: float | None = None,
    density: float | None = None,
    count: int | None = None,
    targets: str | Sequence[str] = AUTO,
    seed: int = 0,
    block: tuple[int, int] = (16, 16),
    order: Order = "random",
) -> Mask:
    """Make a structured mask over the target matrices of a model: of random tiles, or the first.

    The budget is shared over the tensors in proportion to their size and met exactly: random
    tiles are taken whole, the last one in part where the budget ends inside it. Every tensor's
    tiles are a pure function of (seed, tensor name, shape), as in `random_mask`.

    Args:
        model: the model; only names, shapes and its configuration are read.
        granularity: "columns" (all weights that read one input), "rows" (all that feed one
            output), "heads", "blocks", or a pattern "n:m": n random weights in every m that
            follow each other along the inputs.
        ratio, density, count: the budget, exactly one; none for a pattern, which is one itself.
        targets: shell patterns, as for `random_mask`.
        seed: seed of the mask.
        block: height and width of a block.
        order: "random" draws the tiles; "first" takes them as they lie, the first columns of every
            matrix and of the last one its first rows, as the code of Xu & Zhang 2024 does for its
            tables 8 and 9: the paper calls that random.

    Returns:
        The mask.

    Raises:
        UserError: a wrong budget, unknown granularity or order, a pattern, which is random, with
            another order, or targets that are no matrices.

    Cost: O(k) memory and one number a tile; a pattern one number a weight of one tensor.
    Source: Xu & Zhang 2024, section 4.4 (columns).

    >>> layer = nn.ModuleDict({"q": nn.Linear(5, 4, bias=False)})
    >>> structured_mask(layer, granularity="rows", count=10, targets="q").indices["q.weight"] // 5
    tensor([2, 2, 2, 2, 2, 3, 3, 3, 3, 3])
    >>> structured_mask(layer, count=6, targets="q", order="first").indices["q.weight"]
    tensor([ 0,  1,  5,  6, 10, 15])
    """
    checks.model(model)
    checks.choice("order", order, get_args(Order))
    checks.text("granularity", granularity)
    seed = checks.seed(seed)
    patterns = target_patterns(model, targets)
    shapes = target_shapes(model, patterns)
    total = num_parameters(model)
    group = pattern(granularity)
    rule: dict[str, Any] = {
        "kind": "structured",
        "granularity": granularity,
        "seed": seed,
        "targets": patterns,
    }
    if group is not None:
        refuse_budget(granularity, ratio, density, count)
        if order != "random":
            raise UserError(
                f'expected order "random" for the pattern {granularity}, whose weights are drawn, '
                f"got {order!r}; leave it out, or choose columns, rows, heads or blocks"
            )
        modules = dict(model.named_modules())
        indices = {}
        for name, shape in shapes.items():
            draws = seeds.stream(seed, name, shape).random(int(np.prod(shape)), dtype=np.float32)
            view = matrix_view(modules, name, shape)
            indices[name] = best_of_every(torch.from_numpy(draws), group, view)
        return Mask(indices, shapes, total, rule)
    tiled = tilings(model, shapes, granularity, block)
    size = sum(int(np.prod(s)) for s in shapes.values())
    wanted = round(budget_density(ratio, density, count, size, total) * size)
    indices = {}
    for name, k in share(shapes, wanted).items():
        tiles = torch.arange(tiled[name].count)
        if order == "random":
            drawn = seeds.stream(seed, name, shapes[name]).permutation(tiled[name].count)
            tiles = torch.from_numpy(drawn)
        indices[name] = fill(tiled[name], tiles, k)
    rule |= {"count": wanted, "block": list(block)}
    if order != "random":
        rule = {key: value for key, value in rule.items() if key != "seed"} | {"order": order}
    return Mask(indices, shapes, total, rule)


def fill(tiling: Tiling, order: Tensor, k: int) -> Tensor:
    """Take tiles in an order until k weights are together, the last tile in part; sorted."""
    if k == 0:
        return torch.empty(0, dtype=torch.int64)
    filled = tiling.sizes()[order].cumsum(0)
    needed = int(torch.searchsorted(filled, k)) + 1
    return tiling.members(order[:needed])[:k].sort().values


def best_of_every(scores: Tensor, group: tuple[int, int], view: tuple[int, int, bool]) -> Tensor:
    """Return the sorted flat indices of the n best of every m weights along the inputs.

    A last group of fewer than m weights gives floor(n / m * its size). Ties: the lowest input.
    """
    (n, m), (outputs, inputs, transposed) = group, view
    matrix = scores.view(inputs, outputs).t() if transposed else scores.view(outputs, inputs)
    parts = []
    for start, stop, take in ((0, inputs - inputs % m, n), (inputs - inputs % m, inputs, 0)):
        width = min(m, stop - start)
        if width:
            take = take or n * width // m
            tiles = matrix[:, start:stop].reshape(outputs, -1, width)
            order = tiles.argsort(dim=2, descending=True, stable=True)[..., :take]
            base = torch.arange(start, stop, width, device=scores.device)[None, :, None]
            column = order + base
            row = torch.arange(outputs, device=scores.device)[:, None, None].expand_as(column)
            flat = column * outputs + row if transposed else row * inputs + column
            parts.append(flat.reshape(-1))
    return torch.cat(parts).sort().values


def refuse_budget(granularity: str, *budgets: float | None) -> None:
    """Refuse a budget beside a pattern, which is a budget itself.

    Raises:
        UserError: a budget is given.
    """
    given = [b for b in budgets if b is not None]
    if given:
        raise UserError(
            f"expected no budget beside the pattern {granularity}, which is one itself, got "
            f"{given[0]}; leave out ratio, density and count"
        )
