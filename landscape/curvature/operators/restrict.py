"""Principal submatrices of an operator: any set of coordinates, or one block a module."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from landscape import checks
from landscape.curvature.operators.linear import CongruentOperator, LinearOperator
from landscape.curvature.operators.model import ModelOperator
from landscape.errors import UserError


@final
class RestrictedOperator(CongruentOperator):
    """The principal submatrix A[i, i] of an operator A, i a set of coordinates.

    For a Hessian: the Hessian with everything outside i frozen. Its largest eigenvalue is at most
    the operator's (interlacing).

    Args:
        operator: any operator A.
        indices: distinct coordinates, shape (m,), m at least 1.

    Raises:
        UserError: indices are empty, repeated or outside the operator.

    Cost: a product is a product of A.

    >>> from landscape.curvature.operators.linear import MatrixOperator
    >>> A = MatrixOperator([[1.0, 2.0], [2.0, 3.0]])
    >>> (RestrictedOperator(A, torch.tensor([1])) @ torch.ones(1)).tolist()
    [3.0]
    """

    def __init__(self, operator: LinearOperator, indices: Tensor) -> None:
        super().__init__(operator)
        given = torch.as_tensor(indices, device=operator.device)
        whole = not given.is_floating_point() and given.dtype != torch.bool
        self._indices = given.long()
        flat = whole and self._indices.ndim == 1 and self._indices.numel() > 0
        inside = flat and 0 <= int(self._indices.min()) <= int(self._indices.max()) < operator.size
        if not inside or self._indices.unique().numel() != self._indices.numel():
            raise UserError(
                f"expected distinct coordinates in 0..{operator.size - 1}, at least one, got "
                f"{given.flatten()[:5].tolist()} of shape {tuple(given.shape)}; "
                "give each coordinate of the submatrix once"
            )

    @property
    def size(self) -> int:
        return self._indices.numel()

    @property
    def description(self) -> dict[str, Any]:
        return {**self._operator.description, "restricted_to": self.size}

    def _push(self, v: Tensor) -> Tensor:
        whole = v.new_zeros(*v.shape[:-1], self._operator.size)
        whole[..., self._indices] = v
        return whole

    def _pull(self, w: Tensor) -> Tensor:
        return w[..., self._indices]


def module_blocks(operator: ModelOperator, modules: str = "*") -> dict[str, RestrictedOperator]:
    """Restrict an operator to the trainable parameters of one module at a time.

    Args:
        operator: a Hessian, Gauss-Newton or Fisher operator of a model.
        modules: a shell pattern of module names, such as ``"*.layers.*[0-9]"`` for whole layers
            or ``"*.q_proj"``; the default is one block for each module that owns trainable
            parameters. Of the modules that match, those inside another one are left out unless the
            pattern is the default.

    Returns:
        Module name -> its diagonal block, in the operator's order.

    Raises:
        UserError: the pattern matches no module with trainable parameters.
    """
    checks.operator(operator)
    checks.text("modules", modules)
    ends = np.cumsum([p.numel() for p in operator.parameters])
    members: dict[str, list[Tensor]] = {}
    for name, p, end in zip(operator.names, operator.parameters, ends, strict=True):
        block = _block_of(name, modules)
        if block is not None and p.numel():
            members.setdefault(block, []).append(torch.arange(end - p.numel(), end))
    if not members:
        owners = sorted({name.rpartition(".")[0] for name in operator.names})
        raise UserError(
            f"expected a pattern of modules with trainable parameters, got {modules!r}, which "
            f"matches none; they are: {', '.join(owners[:8])}"
        )
    return {name: RestrictedOperator(operator, torch.cat(i)) for name, i in members.items()}


def _block_of(tensor: str, modules: str) -> str | None:
    """Return the outermost matching module that holds a tensor; its owner for the pattern *."""
    parts = tensor.split(".")[:-1]
    if modules == "*":
        return ".".join(parts)
    prefixes = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
    return next((prefix for prefix in prefixes if fnmatchcase(prefix, modules)), None)
