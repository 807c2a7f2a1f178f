"""What a matrix is, for every algorithm here: a size, a dtype, a device and a product."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from landscape.errors import UserError
from landscape.shown import card

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = "Tensor | NDArray[np.generic]"
"""Real numbers, in torch or in numpy."""


class LinearOperator(ABC):
    """A square matrix A of shape (size, size), known by its products A v only.

    Every algorithm in `landscape.curvature.spectrum` takes any such operator. A new one has seven
    members: `size`, `dtype`, `device` and `description` say what the matrix is; `_apply(v)` returns
    A v for v of shape (size,), `_apply_rows(rows)` A v for each row of (b, size), and
    `_apply_afresh(v)` A v from nothing that earlier products left behind and, where there is one,
    by another method: what `health_check` compares with. Arguments are checked before they come.
    """

    num_matvecs: int = 0
    """Matvecs made since the operator exists, by anybody."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of rows, which is the number of columns."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The floating-point type of the vectors: float32 or float64."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the vectors live."""

    @property
    @abstractmethod
    def description(self) -> dict[str, Any]:
        """How the products are made, as plain values for a result file."""

    @abstractmethod
    def _apply(self, v: Tensor) -> Tensor:
        """Return A v for a vector of the right length, dtype and device."""

    @abstractmethod
    def _apply_afresh(self, v: Tensor) -> Tensor:
        """Return A v made another way, using nothing kept from earlier products."""

    @abstractmethod
    def _apply_rows(self, rows: Tensor) -> Tensor:
        """Return A v for each row v of (b, size), as rows."""

    @final
    def __repr__(self) -> str:
        return f"{type(self).__name__}, {self.size:,} x {self.size:,}, {self.dtype}, {self.device}"

    @final
    def _repr_html_(self) -> str:
        return card(repr(self), self.description)

    @final
    def matvec(self, v: Array) -> Float[Tensor, " size"]:
        """Return the product A v.

        Args:
            v: shape (size,), a tensor or a numpy array of real numbers; it is converted to the
                operator's dtype and device.

        Returns:
            A v, shape (size,), in the operator's dtype and on its device.

        Raises:
            UserError: v has another shape or is not real.

        Cost: one matvec.
        """
        vector = self._vector(v)
        self.num_matvecs += 1
        return self._apply(vector)

    @final
    def matvec_afresh(self, v: Array) -> Float[Tensor, " size"]:
        """Return A v made another way, the second opinion of `health_check`.

        Nothing kept from earlier products takes part, and where there is a second mode of
        differentiation it is used (the description says which). Same arguments, result and
        errors as `matvec`; it may cost more.
        """
        vector = self._vector(v)
        self.num_matvecs += 1
        return self._apply_afresh(vector)

    @final
    def matmat(self, block: Array) -> Float[Tensor, "size b"]:
        """Return A V for the columns of V, shape (size, b). Cost: b matvecs."""
        columns = as_tensor(block)
        if columns.ndim != 2 or columns.shape[0] != self.size:
            raise UserError(
                f"expected a block of shape ({self.size}, b), got {tuple(columns.shape)}; "
                "pass one vector a column"
            )
        if columns.shape[1] == 0:
            return torch.zeros(self.size, 0, dtype=self.dtype, device=self.device)
        if columns.shape[1] == 1:
            return self.matvec(columns[:, 0])[:, None]
        self.num_matvecs += columns.shape[1]
        rows = columns.detach().t().to(device=self.device, dtype=self.dtype)
        return self._apply_rows(rows.contiguous()).t()

    @final
    def __matmul__(self, v: Array) -> Tensor:
        """Return A v for a vector, A V for a block of columns."""
        return self.matmat(v) if v.ndim == 2 else self.matvec(v)

    @final
    def to_scipy(self) -> Any:
        """Return this operator as a `scipy.sparse.linalg.LinearOperator`.

        Products are made in the operator's own dtype and come back as numpy arrays of it.

        >>> from scipy.sparse.linalg import eigsh
        >>> A = MatrixOperator([[2.0, 1.0], [1.0, 2.0]])
        >>> bool(abs(eigsh(A.to_scipy(), k=1)[0][0] - 3.0) < 1e-12)
        True
        """
        from scipy.sparse.linalg import LinearOperator as ScipyOperator

        def product(v: NDArray[np.floating]) -> NDArray[np.floating]:
            result: NDArray[np.floating] = self.matvec(np.asarray(v).reshape(-1)).cpu().numpy()
            return result

        dtype = np.float64 if self.dtype == torch.float64 else np.float32
        shape = (self.size, self.size)
        return ScipyOperator(shape, matvec=product, rmatvec=product, dtype=dtype)

    def _vector(self, v: Array) -> Tensor:
        vector = as_tensor(v)
        if vector.shape != (self.size,):
            raise UserError(
                f"expected a vector of shape ({self.size},), got {tuple(vector.shape)}; "
                "an operator acts on the flat vector of its parameters"
            )
        return vector.detach().to(device=self.device, dtype=self.dtype)


@final
class MatrixOperator(LinearOperator):
    """A matrix that is known entry by entry: for closed forms, theory and tests.

    Args:
        matrix: shape (n, n), n at least 1; a tensor, a numpy array or nested lists. Numbers below
            float32 are raised to it, integers to float64. Symmetry is not assumed: `health_check`
            tells.

    Raises:
        UserError: the matrix is empty, not square or not real.

    >>> float((MatrixOperator([[2.0, 1.0], [1.0, 2.0]]) @ torch.ones(2))[0])
    3.0
    """

    def __init__(self, matrix: Array | list[list[float]]) -> None:
        entries = as_tensor(np.asarray(matrix) if isinstance(matrix, list) else matrix).detach()
        if entries.ndim != 2 or entries.shape[0] != entries.shape[1] or entries.numel() == 0:
            raise UserError(
                f"expected a square matrix, got shape {tuple(entries.shape)}; "
                "give as many rows as columns, at least one"
            )
        if not entries.is_floating_point():
            entries = entries.to(torch.float64)
        self._matrix = entries.to(torch.promote_types(entries.dtype, torch.float32))

    @property
    def size(self) -> int:
        return self._matrix.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        return self._matrix.dtype

    @property
    def device(self) -> torch.device:
        return self._matrix.device

    @property
    def description(self) -> dict[str, Any]:
        return {"operator": "matrix", "size": self.size, "dtype": str(self.dtype)}

    def _apply(self, v: Tensor) -> Tensor:
        return self._matrix @ v

    def _apply_rows(self, rows: Tensor) -> Tensor:
        return rows @ self._matrix.t()

    def _apply_afresh(self, v: Tensor) -> Tensor:
        return (self._matrix * v).sum(dim=1)


class CongruentOperator(LinearOperator):
    """A matrix P' A P, symmetric where A is; a subclass says how P and P' multiply vectors."""

    def __init__(self, operator: LinearOperator) -> None:
        self._operator = operator

    @abstractmethod
    def _push(self, v: Tensor) -> Tensor:
        """Return P v along the last dimension."""

    @abstractmethod
    def _pull(self, w: Tensor) -> Tensor:
        """Return P' w along the last dimension."""

    @property
    @final
    def dtype(self) -> torch.dtype:
        return self._operator.dtype

    @property
    @final
    def device(self) -> torch.device:
        return self._operator.device

    @final
    def _apply(self, v: Tensor) -> Tensor:
        return self._pull(self._operator._apply(self._push(v)))

    @final
    def _apply_rows(self, rows: Tensor) -> Tensor:
        return self._pull(self._operator._apply_rows(self._push(rows)))

    @final
    def _apply_afresh(self, v: Tensor) -> Tensor:
        return self._pull(self._operator._apply_afresh(self._push(v)))


def as_tensor(v: object) -> Shaped[Tensor, "*shape"]:
    """Return real numbers, whatever holds them, as a tensor.

    Raises:
        UserError: they are complex, or none.
    """
    try:
        tensor = v if isinstance(v, Tensor) else torch.as_tensor(np.asarray(v))
    except TypeError as error:
        raise UserError(
            f"expected numbers, got what are none ({error}); give a tensor, an array or lists"
        ) from error
    if tensor.is_complex():
        raise UserError(f"expected real numbers, got {tensor.dtype}; give the real part")
    return tensor
