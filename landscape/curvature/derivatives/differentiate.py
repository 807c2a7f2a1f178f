"""First and second derivatives by autograd, with torch's refusals turned into sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from landscape.curvature.derivatives.layers import nodes
from landscape.curvature.derivatives.space import Pieces
from landscape.errors import UserError

Graph = TypeVar("Graph")
"""What an operator keeps of a batch between products."""


@dataclass(frozen=True)
class Linearised(Generic[Graph]):
    """Hold what one batch contributes at the present weights."""

    value: float
    """The loss sum."""
    count: float
    """The number of loss terms."""
    gradient: Pieces
    """The gradient of the loss sum."""
    graph: Graph | None
    """What products need, where it was asked for."""


def checked_sum(value: Tensor) -> Tensor:
    """Return a loss sum, refusing what has no Hessian.

    Raises:
        UserError: it is not finite.
    """
    if not bool(torch.isfinite(value.detach())):
        raise UserError(
            f"expected a finite loss, got {float(value.detach())}; "
            "curvature is not defined at diverged weights"
        )
    return value


def derivative(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    *,
    given: Sequence[Tensor] | None = None,
    create_graph: bool = False,
    retain: bool | None = None,
    batched: bool = False,
) -> list[Tensor | None]:
    """Return the derivative of sum_i <given_i, outputs_i> by each input, None where it is zero.

    With `batched`, every given_i and every derivative has one more dimension in front.

    Raises:
        UserError: torch cannot differentiate this once more.
    """
    if not any(output.requires_grad for output in outputs):
        return [None] * len(inputs)
    try:
        found = torch.autograd.grad(
            outputs,
            inputs,
            grad_outputs=given,
            create_graph=create_graph,
            retain_graph=retain,
            allow_unused=True,
            is_grads_batched=batched,
        )
    except RuntimeError as error:
        raise _explained(error) from error
    if any(piece is not None and piece.layout != torch.strided for piece in found):
        raise UserError(
            "expected dense gradients, which can be differentiated, got sparse ones; call "
            "embeddings with sparse=False"
        )
    return list(found)


def refuse_single_derivatives(outputs: Sequence[Tensor]) -> None:
    """Refuse a gradient in which a function with one derivative only took part.

    Torch ends the graph there and would answer as if that part of the gradient were constant.

    Raises:
        UserError: such a function is in the graph of an output.

    Cost: one walk over the graph's nodes.
    """
    if any(node.name() == "torch::autograd::Error" for node in nodes(outputs)):
        raise _once("a function of this loss is marked once_differentiable")


def _explained(error: RuntimeError) -> Exception:
    """Turn torch's refusal to differentiate again into a sentence for the user."""
    text = str(error)
    if "is not implemented" in text or "double backward" in text or "checkpoint" in text.lower():
        return _once(text.splitlines()[0])
    if "modified by an inplace operation" in text:
        return UserError(
            "expected batches that stay as they were, got one written in place since; "
            "build a new operator"
        )
    return error


def _once(said: str) -> UserError:
    return UserError(
        f"expected a loss that can be differentiated twice, got one that cannot: {said}; "
        "use eager or sdpa attention, no torch.compile, and gradient checkpointing with "
        "use_reentrant=False"
    )
