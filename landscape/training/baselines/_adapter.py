"""Adapters: bottlenecks behind attention and behind the feed-forward block of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from landscape import seeds
from landscape.errors import UserError
from landscape.models.targets import target_shapes

#: second linear maps of attention and of feed-forward blocks, whose output joins the residual
AFTER_BLOCKS = (
    "*.o_proj", "*.out_proj", "*.c_proj", "*.fc2", "*.down_proj",
    "*.attention.output.dense", "layer.*.output.dense", "*.layer.*.output.dense",
)  # fmt: skip

AdapterStart = Literal["identity", "near identity"]


class Adapter(nn.Module):
    """Add a bottleneck to its input: h + up(f(down(h))).

    Args:
        size: of the input.
        width: of the bottleneck.
        start: "identity": up is zero and f the ReLU, as in the code of Xu & Zhang 2024; "near
            identity": both matrices are normal with deviation 1e-2 and f is GELU, after Houlsby et
            al. 2019.
    """

    def __init__(self, size: int, width: int, start: AdapterStart = "identity") -> None:
        super().__init__()
        self.down, self.up = nn.Linear(size, width), nn.Linear(width, size)
        self.activation: nn.Module = nn.ReLU()
        if start == "identity":
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)
            return
        self.activation = nn.GELU()
        for layer in (self.down, self.up):
            nn.init.normal_(layer.weight, std=1e-2)
            nn.init.zeros_(layer.bias)

    def forward(self, h: Tensor) -> Tensor:
        """Return h + up(f(down(h))), in the shape and dtype of h."""
        wide = h.to(self.down.weight.dtype)
        out: Tensor = h + self.up(self.activation(self.down(wide))).to(h.dtype)
        return out


def adapter(
    model: nn.Module,
    *,
    width: int = 8,
    after: str | Sequence[str] = AFTER_BLOCKS,
    start: AdapterStart = "identity",
    seed: int = 0,
) -> nn.Module:
    """Insert adapters behind attention and behind the feed-forward block of every layer.

    Args:
        model: changed in place; each adapter is the child ``adapter`` of the layer before it.
        width: of the bottleneck, at least 1; an adapter of size d has 2 d width + d + width
            parameters, biases included. At width 8 that is 0.250 % of OPT-125m; table 5 of Xu &
            Zhang 2024 prints 0.265 %, and at all three sizes 18 d an adapter: the two matrices and
            2 d more, which fits a layer norm that is trained too, without adapter biases.
        after: shell patterns of the linear layers that adapters follow.
        start: "identity" leaves the model's outputs as they are; its up-projections are zero, so
            scores that are a weight times its gradient are zero in every adapter: for masks on
            adapters by such a score take "near identity", as Houlsby et al. do. See `Adapter`.
        seed: of the initialisation.

    Returns:
        The model.

    Raises:
        UserError: a width below 1, another start, or a model without such layers.

    Source: Houlsby et al. 2019 (layer norms stay frozen here).
    """
    if width < 1:
        raise UserError(f"expected a width of at least 1, got {width}; 8 is the paper's")
    if start not in get_args(AdapterStart):
        raise UserError(
            f"expected a start among {', '.join(get_args(AdapterStart))}, got {start!r}; name how "
            "adapters begin"
        )
    patterns = [after] if isinstance(after, str) else list(after)
    names = _matching(model, patterns)
    modules = dict(model.named_modules())
    model.requires_grad_(False)
    with seeds.drawing(seed):
        for name in names:
            layer = modules[name]
            size = layer.nf if isinstance(layer, Conv1D) else layer.out_features
            weight = layer.weight
            dtype = torch.promote_types(weight.dtype, torch.float32)
            layer.adapter = Adapter(int(size), width, start).to(weight.device, dtype)
            layer.register_forward_hook(_adapt)
    return model


def _adapt(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    adapted: Tensor = layer.get_submodule("adapter")(output)
    return adapted


def _matching(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """List the linear layers that any of the patterns names; most models miss most patterns."""
    found: dict[str, None] = {}
    for pattern in patterns:
        try:
            shapes = target_shapes(model, pattern)
        except UserError:
            continue
        found |= dict.fromkeys(n.removesuffix(".weight") for n, s in shapes.items() if len(s) == 2)
    if not found:
        raise UserError(
            f"expected layers named like {', '.join(patterns)} to put adapters after, got "
            f"{type(model).__name__} without any; give after="
        )
    return list(found)
