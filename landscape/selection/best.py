"""The best k of scores that arrive tensor by tensor: exact under ties, in O(k) memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from landscape.errors import UserError

# scores that are sorted to find such a bound
_SAMPLE = 1 << 14


def top(scores: Float[Tensor, " n"], k: int) -> Tensor:
    """Return the sorted positions of the k largest scores; the lowest positions win ties.

    Args:
        scores: shape (n,), float32 or float64, without NaN.
        k: from 0 to n.

    Cost: O(n), and memory of the scores above a bound that a sample of them gives.

    >>> top(torch.tensor([1.0, 3.0, 3.0, 3.0, 0.0]), 2)
    tensor([1, 2])
    """
    n = scores.numel()
    if k >= n:
        return torch.arange(n, device=scores.device)
    if k <= 0:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    values = scores.detach().cpu().numpy()
    # one score in many tells nearly where the k-th lies: few candidates, or too few and then all
    sample = np.sort(values[:: -(-n // _SAMPLE)])
    share = sample.size * k / n
    low = sample[max(0, int(sample.size - share - 4 * share**0.5 - 4))]
    candidates = np.flatnonzero(values >= low)
    if candidates.size < k:
        candidates = np.arange(n)
    held = values[candidates]
    threshold = np.partition(held, held.size - k)[held.size - k]
    above, ties = candidates[held > threshold], candidates[held == threshold]
    chosen = np.sort(np.concatenate([above, ties[: k - above.size]]))
    return torch.from_numpy(chosen).to(scores.device)


def require_finite(name: str, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return scores that are all finite.

    Raises:
        UserError: some are not.
    """
    # the extremes are NaN where any score is
    if scores.numel() and not bool(torch.isfinite(torch.stack(torch.aminmax(scores))).all()):
        raise UserError(
            f"expected finite scores for {name}, got NaN or infinity; check that the weights and "
            "the loss on these batches are finite"
        )
    return scores


class Best:
    """Keep the best weights of tensors whose scores arrive one tensor at a time, in any order.

    Ties go to the tensor that comes first in `order`, and to the lowest index in a tensor.

    Args:
        budget: how many weights in each tensor, or, as one number, in all of them together.
        order: the tensors' names.
    """

    def __init__(self, budget: Mapping[str, int] | int, order: Sequence[str]) -> None:
        self._budget = budget
        self._order = {name: i for i, name in enumerate(order)}
        self._kept: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self._threshold = -torch.inf

    @property
    def live(self) -> int:
        """Return how many scores are held."""
        return sum(scores.numel() for scores, _, _ in self._kept.values())

    def add(self, name: str, scores: Tensor, values: Tensor | None = None) -> None:
        """Take the scores of one tensor, shape (n,), and keep what may be among the best.

        Args:
            name: the tensor's name.
            scores: one a weight; -inf leaves a weight out.
            values: to keep with the scores, shape (n,).
        """
        k = self._budget if isinstance(self._budget, int) else self._budget.get(name, 0)
        chosen = top(scores, k)
        chosen = chosen[scores[chosen] > -torch.inf]
        if isinstance(self._budget, int):
            chosen = chosen[scores[chosen] >= self._threshold]
        carried = scores.new_empty(0) if values is None else values.reshape(-1)[chosen]
        self._kept[name] = (scores[chosen], chosen, carried)
        if isinstance(self._budget, int) and self.live > 2 * self._budget:
            self._prune(self._budget)

    def chosen(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return tensor name -> (sorted indices, values kept with them)."""
        if isinstance(self._budget, int):
            self._prune(self._budget)
        return {
            name: self._kept[name][1:] for name in sorted(self._kept, key=self._order.__getitem__)
        }

    def _prune(self, k: int) -> None:
        names = sorted(self._kept, key=self._order.__getitem__)
        if not names:
            return
        scores = torch.cat([self._kept[name][0] for name in names])
        best = top(scores, k)
        if 0 < k <= scores.numel():
            self._threshold = float(scores[best].min())
        keep = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
        keep[best] = True
        start = 0
        for name in names:
            kept = self._kept[name]
            mine = keep[start : start + kept[0].numel()]
            start += mine.numel()
            carried = kept[2][mine] if kept[2].numel() else kept[2]
            self._kept[name] = (kept[0][mine], kept[1][mine], carried)
