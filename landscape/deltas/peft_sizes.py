"""How many values a layer stores in peft's sparse formats, and how a mask is padded to that.

peft stores as many values in a layer as one setting of the whole adapter says: r (inputs + outputs)
for SHiRA, int(size (1 - sparsity)) for Super-Tuning. A mask has any number. So a written folder
repeats the last index of a layer with value 0 until the number fits, which changes no sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from landscape.errors import UserError

Shapes = Mapping[str, tuple[int, int]]
Sizes = tuple[dict[str, Any], dict[str, int]]
"""The settings of an adapter, and tensor name -> how many values they mean there."""


def shira_size(counts: Mapping[str, int], shapes: Shapes) -> Sizes:
    """Return the smallest r at which SHiRA holds every tensor's weights.

    Args:
        counts: tensor name -> k_tensor, at least 1.
        shapes: tensor name -> (outputs, inputs).

    Raises:
        UserError: r (inputs + outputs) is more than a tensor has.
    """
    rank = max(-(-counts[name] // sum(shape)) for name, shape in shapes.items())
    sizes = {name: rank * sum(shape) for name, shape in shapes.items()}
    _refuse_dense(sizes, shapes, "SHiRA")
    setting = {"r": rank, "mask_type": "random", "random_seed": None, "fan_in_fan_out": False}
    return setting, sizes


def supertuning_size(counts: Mapping[str, int], shapes: Shapes) -> Sizes:
    """Return the largest sparsity at which Super-Tuning holds every tensor's weights.

    Args:
        counts, shapes: as for `shira_size`.

    Raises:
        UserError: rounding asks for more values than a tensor has.
    """
    density = max(counts[name] / (a * b) for name, (a, b) in shapes.items())
    sparsity = 1 - density

    def stored(name: str) -> int:
        return int(shapes[name][0] * shapes[name][1] * (1 - sparsity))

    while any(stored(name) < count for name, count in counts.items()):
        sparsity -= 1e-12 + 1e-9 * density  # 1 - density was rounded the other way
    sizes = {name: stored(name) for name in counts}
    _refuse_dense(sizes, shapes, "Super-Tuning")
    setting = {"sparsity": max(sparsity, 0.0), "select_top": True, "r": None, "lora_alpha": None,
               "lora_dropout": 0.0, "save_precomputed_indices": True}  # fmt: skip
    return setting, sizes


def padded(
    values: Float[Tensor, " k"], indices: Int[Tensor, " k"], size: int, name: str
) -> tuple[Tensor, Tensor]:
    """Return values in float32 and indices, both of a larger size.

    Args:
        values, indices: shape (k,), k at least 1.
        size: at least k.
        name: of the tensor, for the sentences.

    Raises:
        UserError: float32 cannot hold a value, or int32 an index.
    """
    single = as_float32(values, name)
    if int(indices[-1]) >= 2**31:
        raise UserError(
            f"expected indices below 2^31, which is all that peft stores, got {int(indices[-1])} "
            f"in {name}; use save_delta"
        )
    missing = size - indices.numel()
    return (
        torch.cat([single, single.new_zeros(missing)]),
        torch.cat([indices, indices[-1:].expand(missing)]),
    )


def as_float32(values: Float[Tensor, "*shape"], name: str) -> Float32[Tensor, "*shape"]:
    """Return values in float32, which is what peft stores.

    Raises:
        UserError: they are others there.
    """
    single = values.to(torch.float32)
    if not torch.equal(single.to(values.dtype), values):
        raise UserError(
            f"expected values that float32 holds, which is what peft stores, got wider ones in "
            f"{name}; use save_delta"
        )
    return single


def _refuse_dense(sizes: Mapping[str, int], shapes: Shapes, kind: str) -> None:
    for name, size in sizes.items():
        largest = shapes[name][0] * shapes[name][1]
        if size > largest:
            raise UserError(
                f"expected a mask that {kind} can hold, got one that is too dense for this format: "
                f"it would store {size:,} values for {name}, which has {largest:,}; use save_delta"
            )
