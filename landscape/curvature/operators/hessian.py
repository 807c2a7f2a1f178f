"""The Hessian of a model's loss on its trainable parameters, as an operator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias, final, get_args

from torch import Tensor, nn

from landscape.curvature.derivatives.differentiate import (
    Linearised,
    checked_sum,
    derivative,
    refuse_single_derivatives,
)
from landscape.curvature.derivatives.layers import refuse_wrong_functions
from landscape.curvature.derivatives.modes import Mode, tangent
from landscape.curvature.derivatives.space import Pieces
from landscape.curvature.operators.batched import BatchedOperator
from landscape.errors import UserError
from landscape.losses import Loss, Split, as_loss, sum_and_count

_Graph: TypeAlias = dict[int, Tensor]
"""The gradient of one batch's loss sum: parameter number -> a piece that can be differentiated."""


@final
class HessianOperator(BatchedOperator[_Graph]):
    """The Hessian H of the mean loss over some batches, with respect to the trainable parameters.

    L(theta) = (sum over batches of the loss sum) / (sum over batches of the number of terms),
    H = d^2 L / d theta^2. On a network with ReLU this is the Hessian almost everywhere: the
    curvature of the kinks is not in it.

    Args:
        model, batches, parameters, keep_graph, memory_budget, batch_statistics: see
            `BatchedOperator`.
        loss: (model, batch) -> (sum, number of terms), or a criterion such as
            ``torch.nn.CrossEntropyLoss()`` for batches (inputs, targets); default `task_loss`, or
            for a dict batch with ``labels`` the model's own cross-entropy. It must be a sum over
            rows: a loss that couples the rows of a batch (contrastive) is right for a single batch
            only. Over several one that says ``loss.in_batch = True``, or whose halves differ from
            the whole, is refused; so is a mean beside the number of terms of a sum.
        split: the loss in two halves instead, as `GGNOperator` takes it.
        mode: how products are made. ``"reverse-over-reverse"``, with the graph of the gradient
            kept, or ``"forward-over-reverse"``, which keeps nothing and costs about twice as much.
            The description says which; `health_check` compares with the other one.

    Raises:
        UserError: as `BatchedOperator`; an unknown mode.

    Cost: with one kept batch a product is about 2 gradients. Source: Pearlmutter (1994), Fast
    exact multiplication by the Hessian.

    >>> import torch
    >>> w = torch.nn.Linear(2, 1, bias=False)
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> H = HessianOperator(w, [x], loss=lambda model, x: (0.5 * model(x).pow(2).sum(), 1))
    >>> (H @ torch.tensor([1.0, 0.0])).tolist()  # x x'
    [1.0, 2.0]
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[object],
        *,
        loss: Loss | nn.Module | None = None,
        split: Split | None = None,
        mode: Mode = "reverse-over-reverse",
        parameters: Sequence[Tensor] | None = None,
        keep_graph: bool | Literal["auto"] = "auto",
        memory_budget: int | None = None,
        batch_statistics: bool | None = None,
    ) -> None:
        if mode not in get_args(Mode):
            raise UserError(
                f"expected a mode among {', '.join(get_args(Mode))}, got {mode!r}; reverse over "
                "forward is wrong through layer normalisation and not offered"
            )
        super().__init__(
            model, batches, as_loss(loss, split), mode=mode, parameters=parameters,
            keep_graph=keep_graph, memory_budget=memory_budget, batch_statistics=batch_statistics,
        )  # fmt: skip

    @property
    def kind(self) -> str:
        return "hessian"

    def _evaluate(self, batch: object) -> tuple[Tensor, float]:
        value, count = sum_and_count(self._objective(self._model, batch))
        return checked_sum(value), count

    def _linearise(
        self, batch: object, parameters: Sequence[Tensor], *, curved: bool
    ) -> Linearised[_Graph]:
        value, count = self._evaluate(batch)
        pieces = derivative([value], parameters, create_graph=curved)
        graph = None
        if curved:
            graph = {n: g for n, g in enumerate(pieces) if g is not None and g.requires_grad}
            refuse_single_derivatives(list(graph.values()))
            refuse_wrong_functions(value)
        return Linearised(float(value.detach()), float(count), pieces, graph)

    def _multiply(
        self, graph: _Graph, pieces: list[Tensor], *, retain: bool, batched: bool
    ) -> Pieces:
        given = [pieces[number] for number in graph]
        return derivative(
            list(graph.values()), self.parameters, given=given, retain=retain, batched=batched
        )

    def _multiply_forward(self, batch: object, duals: Sequence[Tensor]) -> tuple[Pieces, float]:
        value, count = self._evaluate(batch)
        # with a graph: torch's backward of SiLU without one has no forward mode
        slopes = derivative([value], duals, create_graph=True)
        return [tangent(slope) for slope in slopes], float(count)
