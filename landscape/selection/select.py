"""Masks by score: the k weights (or tiles of weights) that score best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError
from landscape.losses import as_batches, as_loss
from landscape.masks import Mask, budget_density, share
from landscape.models.modes import eval_mode
from landscape.models.targets import AUTO, target_patterns, target_shapes
from landscape.models.tensors import num_parameters, tensors
from landscape.selection.best import Best, require_finite
from landscape.selection.scores import Score, make_score
from landscape.selection.stream import Batch, Deliver, Loss, stream_gradients, stream_norms
from landscape.selection.structured import best_of_every, fill, refuse_budget
from landscape.selection.tiles import Tiling, matrix_view, pattern, tilings

Scope = Literal["tensor", "global"]


def select_mask(
    model: nn.Module,
    *,
    score: str,
    batches: Iterable[Batch] | None = None,
    loss: Loss | nn.Module | None = None,
    ratio: float | None = None,
    density: float | None = None,
    count: int | None = None,
    targets: str | Sequence[str] = AUTO,
    scope: Scope = "tensor",
    granularity: str = "weights",
    block: tuple[int, int] = (16, 16),
    max_live: int = 1 << 24,
    **options: Any,
) -> Mask:
    """Select the weights that score best, exactly as many as the budget says.

    Ties go to the tensor that comes first in the model, then to the lowest index, so a mask is
    a function of the scores alone. The model is scored in eval mode and is not changed.

    Args:
        model: a model without a mask attached.
        score: "magnitude" |w|, "magnitude_smallest" -|w| (PaFi), "gradient" |g|, "snip" |g w|,
            "id3" |g| / (|w| + eps)^exp, "fisher" sum_i g_i^2 (FISH), "wanda" |w| ||x||.
        batches: the data of scores that need any; g is the gradient of the mean loss over all.
        loss: (model, batch) -> (sum over examples, count), or a criterion; the default is that of
            a `HessianOperator`.
        ratio, density, count: the budget, exactly one; none for a pattern.
        targets: shell patterns, as for `random_mask`.
        scope: "tensor" shares the budget over tensors in proportion to their size, "global"
            compares all target weights with each other.
        granularity: "weights", or tiles by their mean score, as in `structured_mask`: "columns",
            "rows", "heads", "blocks", or a pattern "n:m", the n best of every m inputs.
        block: height and width of a block.
        max_live: most sums held at once while several batches or examples are added up (2^24 is
            64 MB in float32); targets of more weights cost further passes over the batches.
        options: of the score: ``eps`` and ``exp`` for id3 (no default); ``information``
            ("empirical", "true") and ``power`` (2, 1) for fisher.

    Returns:
        The mask; its rule names the score and its options.

    Raises:
        UserError: a wrong budget, score, option or target, or scores that are not finite.

    Cost: nothing for magnitudes; one forward a batch for wanda; one forward and backward a
    batch for gradients. For fisher, one a batch too where the targets are weights of linear
    layers whose rows tell the examples apart (see `receive_examples`) and it is the empirical one;
    else one an example (and label). Memory: the scores of one tensor, max_live sums unless one
    backward gives everything, 2 k kept candidates.
    """
    checks.model(model)
    checks.text("score", score)
    checks.text("granularity", granularity)
    max_live = checks.whole("max_live", max_live, least=1)
    made = make_score(score, options)
    checks.choice("scope", scope, get_args(Scope))
    held = [] if batches is None else as_batches(batches)
    if made.source != "weights" and not held:
        raise UserError(f"expected the data of the score {score}, got no batches; give batches=")
    patterns = target_patterns(model, targets)
    shapes = target_shapes(model, patterns)
    total = num_parameters(model)
    rule: dict[str, Any] = {
        "kind": "selected",
        "score": score,
        **made.options,
        "scope": scope,
        "granularity": granularity,
        "targets": patterns,
    }
    group = pattern(granularity)
    chooser: _Weights | _Pattern | _Tiles
    if group is not None:
        refuse_budget(granularity, ratio, density, count)
        chooser = _Pattern(model, shapes, group)
    else:
        size = sum(int(np.prod(s)) for s in shapes.values())
        wanted = round(budget_density(ratio, density, count, size, total) * size)
        budget = share(shapes, wanted) if scope == "tensor" else wanted
        rule["count"] = wanted
        if granularity == "weights":
            chooser = _Weights(budget, shapes)
        else:
            chooser = _Tiles(budget, tilings(model, shapes, granularity, block))
    _stream(model, shapes, held, as_loss(loss), made, chooser.add, max_live)
    return Mask(chooser.indices(), shapes, total, rule)


def _stream(
    model: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    batches: Sequence[Batch],
    loss: Loss,
    score: Score,
    add: Deliver,
    max_live: int,
) -> None:
    held = {tensor.name: tensor for tensor in tensors(model)}

    def deliver(name: str, statistic: Tensor) -> None:
        scores = score.of(held[name].values, statistic)
        add(name, require_finite(name, scores.reshape(-1).cpu()))

    with eval_mode(model):
        if score.source == "weights":
            for name in shapes:
                deliver(name, torch.empty(0))
        elif score.source == "activations":
            stream_norms(model, shapes, batches, loss, deliver)
        else:
            stream_gradients(model, shapes, batches, loss, score, deliver, max_live)


class _Weights:
    def __init__(self, budget: Mapping[str, int] | int, shapes: Mapping[str, Any]) -> None:
        self._best = Best(budget, list(shapes))
        self.add: Deliver = self._best.add

    def indices(self) -> dict[str, Tensor]:
        return {name: chosen for name, (chosen, _) in self._best.chosen().items()}


class _Pattern:
    def __init__(
        self, model: nn.Module, shapes: Mapping[str, tuple[int, ...]], group: tuple[int, int]
    ) -> None:
        modules = dict(model.named_modules())
        self._group = group
        self._views = {name: matrix_view(modules, name, shape) for name, shape in shapes.items()}
        self._chosen: dict[str, Tensor] = {}

    def add(self, name: str, scores: Tensor) -> None:
        self._chosen[name] = best_of_every(scores, self._group, self._views[name])

    def indices(self) -> dict[str, Tensor]:
        return {name: self._chosen[name] for name in self._views}


class _Tiles:
    def __init__(self, budget: Mapping[str, int] | int, tiled: Mapping[str, Tiling]) -> None:
        self._budget, self._tiled = budget, tiled
        self._means: dict[str, Tensor] = {}

    def add(self, name: str, scores: Tensor) -> None:
        self._means[name] = self._tiled[name].means(scores)

    def indices(self) -> dict[str, Tensor]:
        budget = self._budget if not isinstance(self._budget, int) else self._shares(self._budget)
        return {
            name: fill(tiling, _descending(self._means[name]), budget[name])
            for name, tiling in self._tiled.items()
        }

    def _shares(self, count: int) -> dict[str, int]:
        """Rank the tiles of all tensors together; return what each tensor gets of the budget."""
        order = _descending(torch.cat([self._means[name] for name in self._tiled]))
        sizes = torch.cat([tiling.sizes() for tiling in self._tiled.values()])[order]
        before = sizes.cumsum(0) - sizes
        taken = torch.empty_like(sizes)
        taken[order] = torch.minimum(sizes, (count - before).clamp(min=0))
        parts = taken.split([tiling.count for tiling in self._tiled.values()])
        return {name: int(part.sum()) for name, part in zip(self._tiled, parts, strict=True)}


def _descending(scores: Tensor) -> Tensor:
    return scores.argsort(descending=True, stable=True)
