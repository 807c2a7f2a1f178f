"""The best weights of one training step, by the gradients of its own backwards."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.models.tensors import NamedTensor
from landscape.selection.best import Best
from landscape.selection.scores import Score
from landscape.subspace import attached_mask, thetas
from landscape.training.budget import Counts


class Ranking:
    """Score the weights of masked tensors as their dense gradients arrive, and keep the best.

    Args:
        model: a model with a mask attached.
        held: its masked tensors by name.
        score: of weights or gradients.
        wanted: how many weights to keep.
        anew: whether weights on the mask take part as well; else those beside it alone.
        backwards: the most backward passes, whose gradients add up.
    """

    def __init__(
        self,
        model: nn.Module,
        held: Mapping[str, NamedTensor],
        score: Score,
        wanted: Counts,
        *,
        anew: bool,
        backwards: int,
    ) -> None:
        self._model, self._held, self._score, self._anew = model, held, score, anew
        self._backwards = backwards
        self._best = Best(wanted, list(held))
        self._finite: dict[str, bool] = {}
        self._sums: dict[str, Tensor] = {}
        self._passes: dict[str, int] = {}

    @torch.no_grad()
    def receive(self, name: str, gradient: Tensor) -> None:
        """Take a tensor's gradient from a backward; score it where no other one may add to it.

        Raises:
            UserError: there are more backwards than was said.
        """
        self._passes[name] = self._passes.get(name, 0) + 1
        if self._passes[name] > self._backwards:
            raise UserError(
                f"expected at most {self._backwards} backward in a step of a moving mask, got "
                "another one; give moving.step(..., backwards=) how many there are"
            )
        gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        if self._backwards == 1:
            self._rank(name, gradient)
        elif name in self._sums:
            self._sums[name] += gradient
        else:
            self._sums[name] = gradient.clone()

    @torch.no_grad()
    def chosen(self) -> dict[str, tuple[Tensor, Tensor]] | None:
        """Return tensor name -> (sorted indices, gradients there) of the best weights.

        A tensor that the loss does not use has the gradient 0. None where a score is not finite.

        Raises:
            UserError: no backward has reached any of the tensors.
        """
        if not self._passes:
            raise UserError(
                "expected a forward and a backward inside moving.step, got none that reached a "
                "masked tensor; move them into the with block"
            )
        for name in self._held.keys() - self._finite.keys():
            total = self._sums.pop(name, None)
            if total is None:
                total = thetas(self._model)[name].new_zeros(self._held[name].shape)
            self._rank(name, total)
        return self._best.chosen() if all(self._finite.values()) else None

    def _rank(self, name: str, gradient: Tensor) -> None:
        scores = self._score.of(lambda: self._weight(name), gradient).reshape(-1)
        self._finite[name] = bool(torch.isfinite(scores).all())
        if not self._finite[name]:
            return
        if not self._anew:
            scores[attached_mask(self._model).indices[name].to(scores.device)] = -torch.inf
        self._best.add(name, scores, values=gradient)

    def _weight(self, name: str) -> Tensor:
        """Return the weight that a forward computes with: theta is beside a quantised one."""
        tensor = self._held[name]
        if not tensor.quantised:
            return tensor.values()
        theta = thetas(self._model)[name].detach()
        indices = attached_mask(self._model).indices[name].to(theta.device)
        flat = tensor.values().to(theta.dtype).reshape(-1)
        return flat.index_add(0, indices, theta).view(tensor.shape)
