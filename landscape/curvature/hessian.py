"""The Hessian of a model's loss on its trainable numbers, as an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias, final

from torch import Tensor, nn

from landscape.curvature.batched import BatchedOperator, Linearised, Pieces
from landscape.curvature.differentiate import checked_sum, derivative, refuse_cut_graph

Loss: TypeAlias = Callable[[Any, Any], tuple[Tensor, float]]
"""A loss: (model, batch) -> (sum over the loss terms of the batch, number of terms)."""

_Graph: TypeAlias = dict[int, Tensor]
"""The gradient of one batch's loss sum: parameter number -> a piece that can be differentiated."""


@final
class HessianOperator(BatchedOperator[_Graph]):
    """The Hessian H of the mean loss over some batches, with respect to the trainable numbers.

    L(theta) = (sum over batches of the loss sum) / (sum over batches of the number of terms),
    H = d^2 L / d theta^2, so that H of a list of unequal batches is H of their concatenation.
    The trainable numbers are flattened and concatenated in the order of `trainable(model)`.
    A number that the loss does not use has a zero row. On a network with ReLU this is the
    Hessian almost everywhere: the curvature of the kinks is not in it.

    Products are reverse-over-reverse, inside evaluation mode, math attention and without
    autocast; the model's mode, the attention setting, ``.grad`` and the random state are left as
    they were. If the weights change between two products, the next product is at the new weights
    (the graph is rebuilt); a Lanczos run must therefore not be interleaved with training steps.

    Args:
        model: any module with trainable numbers: masked, LoRA, or full.
        batches: what `loss` takes, one a time; kept as a list, used in order.
        loss: (model, batch) -> (sum, number of terms); default `landscape.scoring.task_loss`.
            It must be a sum over rows: a loss that couples the rows of a batch (contrastive)
            is right for a single batch only.
        parameters: tensors of any shape with ``requires_grad``; default `trainable(model)`.
        keep_graph: keep the graphs of the gradients between products: a kept batch costs 2
            gradients a product instead of 3.3. ``"auto"`` keeps as many batches as fit into
            `memory_budget` (a single batch always); True all, False none.
        memory_budget: bytes for kept graphs under ``"auto"``; default 40 % of what is available.

    Raises:
        UserError: nothing trainable, no batch, no loss terms, a loss that is not finite, not a
            scalar or ignores the trainable numbers, no second derivative, or batch
            normalisation over the batch.

    Cost: one gradient at construction; memory 3 to 3.5 times a gradient's activations per kept
    batch, and no vector larger than the trainable numbers. Source: Pearlmutter (1994), Fast exact
    multiplication by the Hessian.

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
        batches: Iterable[Any],
        *,
        loss: Loss | None = None,
        parameters: Sequence[Tensor] | None = None,
        keep_graph: bool | Literal["auto"] = "auto",
        memory_budget: int | None = None,
    ) -> None:
        self._loss = loss if loss is not None else _task_loss()
        super().__init__(
            model,
            batches,
            parameters=parameters,
            keep_graph=keep_graph,
            memory_budget=memory_budget,
        )

    @property
    def kind(self) -> str:
        return "hessian"

    def _linearise(self, batch: Any, *, curved: bool) -> Linearised[_Graph]:
        value, count = self._loss(self._model, batch)
        value = checked_sum(value)
        pieces = derivative([value], self.parameters, create_graph=curved)
        graph = None
        if curved:
            graph = {n: g for n, g in enumerate(pieces) if g is not None and g.requires_grad}
            refuse_cut_graph(list(graph.values()))
        return Linearised(float(value.detach()), float(count), pieces, graph)

    def _multiply(
        self, graph: _Graph, pieces: list[Tensor], *, retain: bool, batched: bool
    ) -> Pieces:
        given = [pieces[number] for number in graph]
        return derivative(
            list(graph.values()), self.parameters, given=given, retain=retain, batched=batched
        )


def _task_loss() -> Loss:
    from landscape.scoring import task_loss

    loss: Loss = task_loss
    return loss
