"""The space that an operator acts on: the trainable parameters of a model as one flat vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError
from landscape.subspace import trainable

Pieces: TypeAlias = Sequence[Tensor | None]
"""A vector of the trainable parameters as one tensor a parameter, None where it is zero."""


class Space:
    """Hold the parameters whose entries the vectors are, flattened and concatenated in order.

    Args:
        model: the model.
        parameters: tensors of any shape with ``requires_grad``; None for `trainable(model)`.

    Raises:
        UserError: there are none, or they are frozen or complex.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[Tensor] | None) -> None:
        checks.model(model)
        chosen = trainable(model).values() if parameters is None else parameters
        checks.several("parameters", chosen, "tensors")
        self.parameters = tuple(chosen)
        for one in self.parameters:
            checks.instance("each of parameters", one, Tensor, "give tensors of the model")
        self._model, self._chosen = model, parameters is not None
        self._held = _held(model) & {id(p) for p in self.parameters}
        if not sum(self.sizes):
            raise UserError(
                "expected a model with trainable parameters, got none; attach a mask, "
                "or set requires_grad on what is to be measured"
            )
        self.refuse_frozen("leave them out")
        odd = [n for n, p in zip(self.names, self.parameters, strict=True) if p.is_complex()]
        if odd:
            raise UserError(
                f"expected real weights, got complex ones in {', '.join(odd[:3])}; freeze them, or "
                "make two real tensors of each (torch.view_as_real)"
            )

    @property
    def sizes(self) -> list[int]:
        """The number of entries of each parameter; a mask that moves changes them."""
        return [parameter.numel() for parameter in self.parameters]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the vectors: float32, or float64 where a parameter is that."""
        dtype = torch.float32
        for parameter in self.parameters:
            dtype = torch.promote_types(dtype, parameter.dtype)
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the vectors live."""
        return self.parameters[0].device

    @property
    def names(self) -> tuple[str, ...]:
        """The tensor names of the parameters; a position where the model has no name."""
        known = [*self._model.named_parameters(), *trainable(self._model).items()]
        named = {id(p): name for name, p in known}
        return tuple(named.get(id(p), str(n)) for n, p in enumerate(self.parameters))

    @property
    def rounding(self) -> float:
        """The rounding error of the coarsest dtype among the model's tensors."""
        tensors = [*self.parameters, *self._model.parameters()]
        return max(torch.finfo(p.dtype).eps for p in tensors if p.is_floating_point())

    def pieces(self, v: Tensor) -> list[Tensor]:
        """Divide a vector (size,), or each row of (b, size), into one tensor a parameter."""
        return [
            piece.reshape((*v.shape[:-1], *p.shape)).to(dtype=p.dtype, device=p.device)
            for piece, p in zip(v.split(self.sizes, dim=-1), self.parameters, strict=True)
        ]

    def add(self, total: Tensor, pieces: Pieces) -> None:
        """Add one tensor a parameter to a vector, or to the rows of a block."""
        for part, piece in zip(total.split(self.sizes, dim=-1), pieces, strict=True):
            if piece is not None:
                part.add_(piece.detach().reshape(part.shape).to(total.device, total.dtype))

    def refuse_other_parameters(self) -> None:
        """Refuse a model that has other trainable parameters than when the operator was built.

        Raises:
            UserError: a parameter was replaced (a new layer in its place) or added.
        """
        now = _held(self._model)
        gone = [n for n, p in enumerate(self.parameters) if id(p) in self._held - now]
        if gone:
            raise UserError(
                "expected the model that the operator was built on, got one without the parameters "
                f"at positions {gone[:5]}: a layer was replaced, or a mask attached or removed; "
                "build a new operator"
            )
        own = {id(p) for p in self.parameters}
        new = [n for n, p in trainable(self._model).items() if id(p) not in own]
        if new and not self._chosen:
            raise UserError(
                f"expected the trainable parameters that the operator was built on, got new ones "
                f"in {', '.join(new[:3])}; build a new operator"
            )

    def refuse_frozen(self, remedy: str = "build a new operator") -> None:
        """Refuse parameters that have been frozen.

        Raises:
            UserError: there are some.
        """
        frozen = [n for n, p in enumerate(self.parameters) if not p.requires_grad]
        if frozen:
            raise UserError(
                f"expected parameters with requires_grad, got frozen ones at positions "
                f"{frozen[:5]}; {remedy}"
            )


def _held(model: nn.Module) -> set[int]:
    return {id(p) for p in (*model.parameters(), *trainable(model).values())}
