"""The sampled product of IST-DASLab's spops, where a user has built it.

It is installed from its repository, github.com/IST-DASLab/spops; the package of that name on PyPI
is an unrelated one. Its calls here: ``sddmm(row_offsets, row_indices, col_indices, A, BT)`` with
A of shape (rows, tokens) and BT of shape (cols, tokens), in float32, both contiguous.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from landscape.errors import UserError
from landscape.kernels.coordinates import Coordinates
from landscape.kernels.kernel import Kernel, Work

#: On CUDA its indices are int16.
LARGEST = 32_767


def is_usable(shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> bool:
    """Tell whether spops is installed and can compute on such a matrix; never raises."""
    if dtype == torch.float64 or (device.type == "cuda" and max(shape) > LARGEST):
        return False
    module = _installed()
    return module is not None and not _lacks(module)


def load() -> ModuleType:
    """Return the module spops.

    Raises:
        UserError: it is not installed, or what is installed is its namesake.
    """
    module = _installed()
    how = "build it from github.com/IST-DASLab/spops (pip install --no-build-isolation <checkout>)"
    if module is None:
        raise UserError(f"expected the sparse kernels spops, got no such package; {how}")
    if _lacks(module):
        raise UserError(
            f"expected the sparse kernels spops with csr_add and sddmm, got a package of that name "
            f"without {_lacks(module)}, its namesake on PyPI; pip uninstall spops, then {how}"
        )
    return module


def values(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
    """Return s_j = sum_t a[t, r_j] b[t, c_j], shape (k,), float32.

    Raises:
        UserError: spops is not installed, float64 operands, or on CUDA a side beyond int16.
    """
    module = load()
    if a.dtype == torch.float64 or b.dtype == torch.float64:
        raise UserError(
            "expected float32 operands, in which spops computes, got float64; take another kernel"
        )
    if a.is_cuda and max(at.shape) > LARGEST:
        raise UserError(
            f"expected at most {LARGEST} rows and columns, which spops indexes with int16 on CUDA, "
            f"got {at.shape}; take another kernel for this matrix"
        )
    offsets = at.row_offsets
    order = torch.argsort(offsets.diff(), descending=True, stable=True)
    # row and column numbers; on a CPU it widens the columns to int32 itself
    narrow = torch.int16 if max(at.shape) <= LARGEST else torch.int32
    left, right = a.float().t().contiguous(), b.float().t().contiguous()
    out: Tensor = module.sddmm(
        offsets.to(torch.int32), order.to(narrow), at.cols.to(narrow), left, right
    )
    return out


def _lacks(module: ModuleType) -> str:
    return ", ".join(n for n in ("csr_add", "sddmm") if not callable(getattr(module, n, None)))


@cache
def _installed() -> ModuleType | None:
    try:
        return importlib.import_module("spops")
    except ImportError:
        return None


def _units(work: Work) -> dict[str, float]:
    return {
        "spops.call": 1,
        "spops.index": work.k,
        "spops.transpose": work.operands,
        "spops.far_transpose": work.is_far * work.operands,
        "spops.entry": work.k * work.tokens,
        "spops.far_entry": work.is_far * work.k * work.tokens,
    }


KERNEL = Kernel(
    name="spops",
    constants={
        "spops.call": 1.40e-04,
        "spops.index": 1.07e-09,
        "spops.transpose": 1.17e-09,
        "spops.far_transpose": 1.70e-09,
        "spops.entry": 1.50e-10,
        "spops.far_entry": 2.65e-10,
    },
    units=_units,
    is_usable=lambda at, dtype, device: is_usable(at.shape, dtype, device),
    values=values,
)
