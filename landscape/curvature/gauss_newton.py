"""The generalised Gauss-Newton matrix: the Hessian without the curvature of the network itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from landscape.curvature.batched import BatchedOperator, Linearised, Pieces
from landscape.curvature.differentiate import checked_sum, derivative
from landscape.curvature.jacobian import Jacobian, Split, Terms, default_split, jacobian

_Graph = tuple[Jacobian, Terms]


@final
class GGNOperator(BatchedOperator[_Graph]):
    """The generalised Gauss-Newton matrix G = (1/n) sum over batches of J' H_z J.

    J = dz / dtheta is the Jacobian of the model's outputs z, H_z the Hessian of the loss with
    respect to z, n the number of loss terms. G is positive semidefinite where the loss is convex
    in z, and equals the Hessian where z is linear in theta. For cross-entropy on logits it is
    also the Fisher information of the model's own distribution.

    Args:
        model: any module with trainable numbers.
        batches: what `split` takes.
        split: (model, batch) -> (z, loss of z), and loss of z: z -> (terms, number of terms);
            default `landscape.scoring.task_split`. The two halves decide what G is: cut where
            the loss is convex in z, as at the logits of a cross-entropy.
        parameters, keep_graph, memory_budget: see `HessianOperator`.

    Raises:
        UserError: as `HessianOperator`.

    Cost: a product is about one gradient with the graph kept, 3 without.
    Source: Schraudolph (2002), Fast curvature matrix-vector products.

    >>> w = nn.Linear(2, 1, bias=False)
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> G = GGNOperator(w, [x], split=lambda m, x: (m(x), lambda z: (0.5 * z.square(), len(z))))
    >>> (G @ torch.tensor([1.0, 0.0])).tolist()  # x x'
    [1.0, 2.0]
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        *,
        split: Split | None = None,
        parameters: Sequence[Tensor] | None = None,
        keep_graph: bool | Literal["auto"] = "auto",
        memory_budget: int | None = None,
    ) -> None:
        self._split = default_split() if split is None else split
        super().__init__(
            model,
            batches,
            parameters=parameters,
            keep_graph=keep_graph,
            memory_budget=memory_budget,
        )

    @property
    def kind(self) -> str:
        return "gauss-newton"

    def _linearise(self, batch: Any, *, curved: bool) -> Linearised[_Graph]:
        outputs, loss = self._split(self._model, batch)
        z = outputs.detach().requires_grad_()
        terms, count = loss(z)
        value = checked_sum(terms.sum())
        (slope,) = derivative([value], [z])
        slope = torch.zeros_like(z) if slope is None else slope
        pieces = derivative([outputs], self.parameters, given=[slope], retain=curved)
        graph = (jacobian(outputs, self.parameters), loss) if curved else None
        return Linearised(float(value.detach()), float(count), pieces, graph)

    def _multiply(
        self, graph: _Graph, pieces: list[Tensor], *, retain: bool, batched: bool
    ) -> Pieces:
        J, loss = graph
        w = J.forward(pieces, batched=batched)
        curved = _curved(loss, J.outputs.detach(), w, batched)
        return J.backward(curved, retain=retain, batched=batched)


def _curved(loss: Terms, outputs: Tensor, w: Tensor, batched: bool) -> Tensor:
    """Return H_z w, the curvature of the loss in the outputs."""
    z = outputs.clone().requires_grad_()
    (slope,) = derivative([loss(z)[0].sum()], [z], create_graph=True)
    if slope is None or not slope.requires_grad:
        return torch.zeros_like(w)
    (product,) = derivative([slope], [z], given=[w], batched=batched)
    return torch.zeros_like(w) if product is None else product
