"""The sampled product on a GPU, where Triton is installed (`landscape.kernels.triton`)."""

from __future__ import annotations

import importlib.util
from functools import cache

from torch import Tensor

from landscape.kernels.coordinates import Coordinates
from landscape.kernels.kernel import Kernel, Work


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _values(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
    from landscape.kernels import triton  # imports the optional package

    return triton.values(a, b, at)


def _units(work: Work) -> dict[str, float]:
    return {"triton.call": 1, "triton.entry": work.k * work.tokens}


KERNEL = Kernel(
    name="triton",
    # counted, not fitted: a gather whose six passes over temporaries are left out of eight
    constants={"triton.call": 9.0e-5, "triton.entry": 4.0e-10},
    units=_units,
    is_usable=lambda at, dtype, device: device.type == "cuda" and _has_triton(),
    values=_values,
    supersedes=("gather", "sampled"),
)
