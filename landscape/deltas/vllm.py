"""vLLM's checkpoint weight patch, in a file.

vLLM's loader (``vllm/model_executor/model_loader/checkpoint_weight_patch.py``; issue 39451, pull
requests 40096, 50723 and 53751, merged in 2026) takes ``CheckpointWeightPatch(name, shape, dtype,
values, indices)``: name, whole shape and floating type of a tensor of the *checkpoint*, flat
row-major indices into it, and the values that those entries get: absolute, and not NaN, which
stands for an entry that stays. The model's own ``load_weights`` brings them to their place: tied
names, fused projections, tensor-parallel ranks, Conv1D. Sparse and dense patches cannot be mixed
in one call, so a head that was trained whole is here a sparse patch of all its entries.

All that was read in vLLM's source, and exported patches were put through that one file of vLLM
0.33.0: the result was the merged model bit for bit. A running server was not tried, and nothing
here imports vLLM, which defines no file. This one is safetensors: ``<name>.indices`` (int32, which
its NCCL engine demands; the loader takes int64 as well) and ``<name>.values``, and as JSON in the
metadata what that engine's update says: ``names``, ``dtype_names``, ``shapes`` and
``num_updates_list``. To apply it::

    with safe_open(path, "pt") as file:
        lists = [json.loads(file.metadata()[key]) for key in ("names", "shapes", "dtype_names")]
        patches = [
            CheckpointWeightPatch(
                name, tuple(shape), getattr(torch, dtype),
                file.get_tensor(f"{name}.values"), file.get_tensor(f"{name}.indices"),
            )
            for name, shape, dtype in zip(*lists)
        ]
    load_checkpoint_weight_patches(model, patches)
"""

from __future__ import annotations

import json

from landscape.deltas.patch import Patch


def vllm_metadata(patch: Patch) -> dict[str, str]:
    """Return what a file says beside a patch's tensors: the fields of vLLM's sparse update.

    Args:
        patch: in checkpoint coordinates.
    """
    held = patch.weights.values()
    lists = {
        "names": list(patch.weights),
        "dtype_names": [str(weights.values.dtype).removeprefix("torch.") for weights in held],
        "shapes": [list(weights.shape) for weights in held],
        "num_updates_list": [weights.indices.numel() for weights in held],
    }
    return {"format": "checkpoint_weight_patch"} | {k: json.dumps(v) for k, v in lists.items()}
