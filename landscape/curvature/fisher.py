"""The empirical Fisher matrix: the second moment of the gradients of the loss terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from landscape.curvature.batched import BatchedOperator, Linearised, Pieces
from landscape.curvature.differentiate import checked_sum, derivative
from landscape.curvature.jacobian import Jacobian, Split, default_split, jacobian


@final
class FisherOperator(BatchedOperator[Jacobian]):
    """The empirical Fisher matrix F = (1/n) sum_i g_i g_i', g_i the gradient of loss term i.

    With J the Jacobian of the vector of loss terms, F = J'J / n: no gradient of a single term is
    formed. The labels are the data's, not drawn from the model: for the latter see `GGNOperator`.

    Args:
        model: any module with trainable numbers.
        batches: what `split` takes.
        split: (model, batch) -> (z, loss of z), and loss of z: z -> (terms, number of terms);
            default `landscape.scoring.task_split`: a term is an example of a classification
            task, a token of a language modelling one. Return z = terms to skip the split.
        parameters, keep_graph, memory_budget: see `HessianOperator`.

    Raises:
        UserError: as `HessianOperator`.

    Cost: a product is about one gradient with the graph kept, 3 without. Source: Kunstner,
    Balles & Hennig (2019), Limitations of the empirical Fisher approximation, equation 3.

    >>> w = nn.Linear(1, 1, bias=False)
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> F = FisherOperator(w, [x], split=lambda m, x: (m(x), lambda z: (z, len(z))))
    >>> (F @ torch.ones(1)).tolist()  # (1^2 + 3^2) / 2
    [5.0]
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
        return "empirical fisher"

    def _linearise(self, batch: Any, *, curved: bool) -> Linearised[Jacobian]:
        outputs, loss = self._split(self._model, batch)
        terms, count = loss(outputs)
        value = checked_sum(terms.sum())
        pieces = derivative([terms], self.parameters, given=[torch.ones_like(terms)], retain=curved)
        graph = jacobian(terms, self.parameters) if curved else None
        return Linearised(float(value.detach()), float(count), pieces, graph)

    def _multiply(
        self, graph: Jacobian, pieces: list[Tensor], *, retain: bool, batched: bool
    ) -> Pieces:
        w = graph.forward(pieces, batched=batched)
        return graph.backward(w, retain=retain, batched=batched)
