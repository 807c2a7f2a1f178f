"""What is averaged: see that a loss is a sum of terms over the rows of some batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from landscape.curvature.rows import micro_batches, num_rows, twice
from landscape.errors import UserError

Evaluate: TypeAlias = Callable[[Any], tuple[Tensor, float]]
"""batch -> (sum of the loss terms, their number)."""

_DIFFERENT = 1e-3
"""Relative difference above which two losses are not the same."""


def without_graph(evaluate: Evaluate) -> Evaluate:
    """Return a function that evaluates a loss without its graph, where the loss allows it.

    A loss that differentiates inside (a physics-informed one, a gradient penalty) needs its graph;
    it is noticed at the first call.
    """
    graph = [False]

    def value(batch: object) -> tuple[Tensor, float]:
        if not graph[0]:
            try:
                with torch.no_grad():
                    return evaluate(batch)
            except RuntimeError as error:
                if "does not require grad" not in str(error):
                    raise
                graph[0] = True
        with torch.enable_grad():
            total, count = evaluate(batch)
        return total.detach(), count

    return value


def refuse_other_sums(
    objective: object, evaluate: Evaluate, batches: Sequence[object], *, eps: float
) -> None:
    """Refuse a loss that is not what is averaged: a sum over rows beside the number of its terms.

    With every row taken twice, a sum and a number of terms both double; with the rows in two
    halves, they add up. A loss that says ``loss.in_batch = False`` is believed, one that says True
    may have one batch; one whose batches cannot be divided (see `micro_batches`), or that does not
    take more or fewer rows, is not checked.

    Args:
        objective: the loss or split, for what it says of itself.
        evaluate: the loss of a batch, in evaluation mode.
        batches: all batches.
        eps: rounding error of the coarsest numbers that the loss is computed in.

    Raises:
        UserError: the loss is a mean whose number of terms is that of a sum; or, over several
            batches, a mean over batches of different sizes, or one that couples the rows of a
            batch, or is random.

    Cost: two forwards for a single batch; one of half of it more for several.
    """
    says = getattr(objective, "in_batch", None)
    if says is False or (says and len(batches) == 1):
        return
    if says:
        raise _coupled("")
    batch = next((b for b in batches if (num_rows(b) or 0) > (len(batches) > 1)), None)
    if batch is None:
        return
    tolerance = max(_DIFFERENT, eps**0.5)
    evaluate = without_graph(evaluate)
    whole = _numbers(evaluate(batch))
    if not whole[0] or not whole[1]:
        return
    doubled = _try(evaluate, [twice(batch)])
    if doubled:
        _refuse_means(whole, doubled[0], batches, tolerance)
    if len(batches) > 1:
        halves = _try(evaluate, micro_batches(batch, ((num_rows(batch) or 0) + 1) // 2))
        if halves:
            _refuse_coupled_rows(whole, halves, tolerance)


def _refuse_means(
    whole: tuple[float, float],
    doubled: tuple[float, float],
    batches: Sequence[object],
    tolerance: float,
) -> None:
    value, count = (after / before for before, after in zip(whole, doubled, strict=True))
    if abs(value - 1) > tolerance:
        return
    if abs(count - 2) < 1e-6:
        raise UserError(
            "expected a loss that returns (sum over the terms, number of terms), got a mean beside "
            f"{whole[1]:g} terms: with every row twice it stays {whole[0]:.4g}; return "
            "(mean * number of terms, number of terms), or use reduction='sum'"
        )
    sizes = {num_rows(batch) for batch in batches}
    if len(sizes) > 1 and abs(count - 1) < 1e-6:
        raise UserError(
            "expected a loss that returns (sum over the terms, number of terms), got one that "
            f"averages them and says {whole[1]:g} for every batch, so that batches of "
            f"{sorted(s or 0 for s in sizes)} rows would weigh the same; return "
            "(mean * rows, rows), or set loss.in_batch = False if they should"
        )


def _refuse_coupled_rows(
    whole: tuple[float, float], halves: Sequence[tuple[float, float]], tolerance: float
) -> None:
    total, number = (sum(numbers) for numbers in zip(*halves, strict=True))
    if not number:
        return
    together, apart = whole[0] / whole[1], total / number
    if abs(together - apart) > tolerance * max(abs(together), abs(apart)):
        raise _coupled(f": {together:.4g} for a batch, {apart:.4g} for its halves")


def _coupled(shown: str) -> UserError:
    return UserError(
        "expected a loss that is a sum over the rows of a batch, got one that couples them "
        f"(in-batch negatives), averages them, or is random{shown}; pass a single batch, return "
        "(sum, number of terms), or set loss.in_batch = False"
    )


def _try(evaluate: Evaluate, batches: Sequence[object]) -> list[tuple[float, float]]:
    """Return what a loss says of batches of other sizes, nothing where it does not take them."""
    try:
        return [_numbers(evaluate(batch)) for batch in batches]
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError):
        return []


def _numbers(pair: tuple[Tensor, float]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
