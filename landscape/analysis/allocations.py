"""Where a mask lies: layer by layer and module by module, and how that changes over the steps."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from landscape.masks import Mask
from landscape.subspace import attached_mask

Row = dict[str, Any]


def allocation(mask: Mask) -> list[Row]:
    """List how much of a budget each tensor got.

    Returns:
        One row a target tensor, in the model's order: ``tensor``, its name; ``layer``, the first
        number in it, None without; ``module``, what follows that number, without "weight";
        ``selected`` and ``size``, weights; ``density``, the one over the other.

    Source: Agarwal et al. 2024, figure 7.

    >>> import torch
    >>> mask = Mask({"h.1.fc.weight": torch.tensor([0, 3])}, {"h.1.fc.weight": (2, 4)}, 10)
    >>> [(row["layer"], row["module"], row["density"]) for row in allocation(mask)]
    [(1, 'fc', 0.25)]
    """
    rows = []
    for name, indices in mask.indices.items():
        layer, module = place(name)
        size = math.prod(mask.shapes[name])
        rows.append({
            "tensor": name, "layer": layer, "module": module, "selected": indices.numel(),
            "size": size, "density": indices.numel() / size,
        })  # fmt: skip
    return rows


def place(name: str) -> tuple[int | None, str]:
    """Split a tensor's name into its layer and what it is within the layer.

    >>> place("model.layers.3.self_attn.q_proj.weight")
    (3, 'self_attn.q_proj')
    >>> place("lm_head.bias")
    (None, 'lm_head.bias')
    """
    parts = name.removesuffix(".weight").split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    if not numbers:
        return None, ".".join(parts)
    first = numbers[0]
    return int(parts[first]), ".".join(parts[first + 1 :])


def spread(mask: Mask) -> Row:
    """Say how evenly a mask is spread over its target tensors.

    With d_j the density of tensor j of M and q_j = d_j / sum d:

        sparsity = |{j : d_j = 0}| / M,      entropy = -sum_j q_j log q_j / log M

    Returns:
        ``selected``, weights; ``sparsity``, the share of tensors without any; ``entropy``, from 0
        (all in one tensor, or none selected) to 1 (every tensor equally dense). The paper does
        not say how it normalises the entropy.

    Source: Agarwal et al. 2024, section 6, figures 8 and 9.
    """
    densities = [row["density"] for row in allocation(mask)]
    total, tensors = sum(densities), len(densities)
    shares = [d / total for d in densities if d]
    entropy = -sum(q * math.log(q) for q in shares) / math.log(tensors) if tensors > 1 else 0.0
    empty = sum(1 for d in densities if not d)
    return {"selected": mask.count, "sparsity": empty / tensors, "entropy": max(entropy, 0.0)}


class MaskProbe:
    """Follow the attached mask while `finetune` runs: ``probes=[probe]``, then ``probe.rows``.

    A weight counts from its first selection on, also where a schedule has frozen it since: all
    weights that differ, or may differ, from the pretrained ones.

    Args:
        every: steps between two rows, at least 1.
    """

    def __init__(self, every: int = 1) -> None:
        self.rows: list[Row] = []
        self._every = max(every, 1)

    def __call__(self, model: nn.Module, record: dict[str, Any]) -> None:
        """Append step, selected, sparsity and entropy."""
        if int(record["step"]) % self._every == 0:
            self.rows.append({"step": int(record["step"]), **spread(attached_mask(model))})
