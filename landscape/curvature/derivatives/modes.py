"""Products by other modes of differentiation than reverse over reverse."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from torch import Tensor, nn
from torch.autograd.forward_ad import dual_level, make_dual, unpack_dual

from landscape.errors import UserError

Mode: TypeAlias = Literal["reverse-over-reverse", "forward-over-reverse"]
"""How second derivatives are made. Reverse over forward is not among them: with torch 2.13 it is
silently wrong through layer normalisation (pytorch issues 196700 and 198017)."""


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
