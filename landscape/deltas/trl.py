"""TRL's sparse delta file: the weights that changed, in bfloat16.

A safetensors file with ``<name>.indices`` (int32, flat, ascending) and ``<name>.values`` (bfloat16,
absolute) for each tensor, and metadata that are texts: ``sparse`` is "True", and ``changed_params``
a JSON list of the names, by which the receiver goes through them. The receiver keeps a bfloat16
copy of the checkpoint that it began with, writes the values there and hands whole tensors to vLLM.

Read in TRL's source, ``trl/experimental/async_grpo/delta_engine.py`` of pull request 5417, which
huggingface.co/blog/delta-weight-sync describes (May 2026); nothing here imports it. That request
was closed unmerged, and TRL up to 1.16 does not read the file; its successor, 5937, closed too,
names the tensors ``.idx`` and ``.val`` and codes gaps between indices. What is written here is the
format that was published. TRL leaves out what bfloat16 rounds back to what it was; here all weights
of the mask are written, so that a patch also replaces another one on the same mask. TRL takes names
from the trainer's parameters; here they are the checkpoint's, which its receiver looks up.
"""

from __future__ import annotations

import json

from landscape.deltas.patch import Patch


def trl_metadata(patch: Patch, *, version: int) -> dict[str, str]:
    """Return what a file says beside a patch's tensors: the texts of TRL's ``PatchMetadata``.

    ``sparsity`` is the share of the whole checkpoint that is not written.

    Args:
        patch: in checkpoint coordinates.
        version: of the model that the patch makes: 0 is the base.
    """
    said = {
        "format": "sparse_weight_patch", "version": 1, "sparse": True, "model_version": version,
        "num_changed_params": len(patch.weights), "total_changed_elements": patch.count,
        "total_elements": patch.size, "sparsity": 1 - patch.count / patch.size,
        "changed_params": json.dumps(list(patch.weights)),
    }  # fmt: skip
    return {key: str(value) for key, value in said.items()}
