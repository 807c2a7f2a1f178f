"""Products by other modes of differentiation than reverse over reverse."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import dual_level, make_dual, unpack_dual

from landscape.errors import UserError
from landscape.subspace import is_attached, synchronise

Mode: TypeAlias = Literal["reverse-over-reverse", "forward-over-reverse", "finite-difference"]
"""How second derivatives are made. Reverse over forward is not among them: with torch 2.13 it is
silently wrong through layer normalisation (pytorch issues 196700 and 198017)."""

_KINKED = (
    "Relu", "LeakyRelu", "PreluKernel", "RreluWithNoise", "Threshold", "Hardtanh", "Hardsigmoid",
    "Hardswish", "Hardshrink", "Softshrink", "Abs", "MaxPool", "AdaptiveMaxPool",
)  # fmt: skip


class NoForwardModeError(UserError):
    """Say that a loss cannot be differentiated in forward mode."""


@contextlib.contextmanager
def pushed(
    model: nn.Module, parameters: Sequence[Tensor], pieces: Sequence[Tensor]
) -> Iterator[list[Tensor]]:
    """Let dual numbers theta + eps v stand in for the parameters; give them to the block.

    Raises:
        NoForwardModeError: a function in the block has no forward mode, or a parameter is not
            the model's.
    """
    try:
        with dual_level():
            duals = [make_dual(p, v) for p, v in zip(parameters, pieces, strict=True)]
            with _standing_in(model, parameters, duals):
                yield duals
    except RuntimeError as error:  # NotImplementedError is one
        text = str(error)
        if "forward" in text and ("AD" in text or "mode" in text):
            raise NoForwardModeError(
                "expected a loss that can be differentiated in forward mode, got one that cannot: "
                f'{text.splitlines()[0]}; use mode="reverse-over-reverse"'
            ) from error
        raise


def tangent(dual: Tensor | None) -> Tensor | None:
    """Return the derivative that a dual number carries, None where it is zero."""
    return None if dual is None else unpack_dual(dual).tangent


@contextlib.contextmanager
def displaced(
    model: nn.Module, parameters: Sequence[Tensor], pieces: Sequence[Tensor], step: float
) -> Iterator[list[Tensor]]:
    """Let theta + step v stand in for the parameters; give them to the block.

    The masked weights, which follow theta, are written back bit for bit.
    """
    moved = [
        (p.detach() + step * v).requires_grad_() for p, v in zip(parameters, pieces, strict=True)
    ]
    try:
        with _standing_in(model, parameters, moved):
            yield moved
    finally:
        if is_attached(model):
            synchronise(model)


def difference_step(parameters: Sequence[Tensor], v: Tensor, eps: float) -> float:
    """Return the h of a central difference along v: truncation h^2 and rounding eps / h balance."""
    size = sum(float(p.detach().double().square().sum()) for p in parameters) ** 0.5
    return eps ** (1 / 3) * max(1.0, size) / max(float(v.double().norm()), 1e-300)


def smooth_precision(evaluate: Callable[[], Tensor]) -> float:
    """Return the rounding error of the coarsest number that the gradient of a loss depends on.

    Llama's RMSNorm works in float32 whatever the weights' type: a step for float64 would measure
    its rounding. Kinks are looked for among the functions that torch recorded: ReLU and its kin,
    |x|, max-pooling.

    Raises:
        UserError: the loss has kinks, whose finite differences grow as the step shrinks, or is
            computed below float32, where a small displacement is rounded away.

    Cost: one forward, and a walk over the graph's nodes.
    """
    dtypes = set()

    def see(tensor: Tensor) -> Tensor:
        dtypes.add(tensor.dtype)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        value = evaluate()
    waiting, seen = [value.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().startswith(_KINKED):
            raise UserError(
                f"expected a smooth loss for finite differences, got one with {node.name()}: steps "
                'over its kinks are no curvature; use mode="reverse-over-reverse"'
            )
        waiting += [following for following, _ in node.next_functions]
    eps = max((torch.finfo(d).eps for d in dtypes if d.is_floating_point), default=0.0)
    if eps > torch.finfo(torch.float32).eps:
        raise UserError(
            "expected a loss computed in at least float32 for finite differences, got one with a "
            'narrower type in it; load the model in float32, or use mode="reverse-over-reverse"'
        )
    return max(eps, torch.finfo(torch.float64).eps)


@contextlib.contextmanager
def _standing_in(
    model: nn.Module, parameters: Sequence[Tensor], others: Sequence[Tensor]
) -> Iterator[None]:
    """Put other tensors into every place of the model that holds one of the parameters."""
    other = {id(p): o for p, o in zip(parameters, others, strict=True)}
    places = [
        (module._parameters, name, p)
        for module in model.modules()
        for name, p in module._parameters.items()
        if id(p) in other
    ]
    if len({id(p) for _, _, p in places}) < len(other):
        raise NoForwardModeError(
            "expected parameters that the model holds, got others; "
            'use mode="reverse-over-reverse" for tensors that only the loss knows'
        )
    try:
        for held, name, p in places:
            held[name] = other[id(p)]  # type: ignore[assignment]
        yield
    finally:
        for held, name, p in places:
            held[name] = p
