"""Baselines: other ways to give a model trainable numbers, all with one interface.

Each takes a plain model and returns one whose `trainable` numbers are the method's, ready for
`finetune`, `HessianOperator` or a mask on top (``targets="*adapter*"``, ``targets="*lora_*"``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from landscape import seeds
from landscape.errors import UserError
from landscape.models.targets import QUERY_VALUE, target_shapes
from landscape.sources.carriers import optional

#: second linear maps of attention and of feed-forward blocks, whose output joins the residual
AFTER_BLOCKS = (
    "*.o_proj", "*.out_proj", "*.c_proj", "*.fc2", "*.down_proj",
    "*.attention.output.dense", "layer.*.output.dense", "*.layer.*.output.dense",
)  # fmt: skip


def full(model: nn.Module) -> nn.Module:
    """Train every parameter."""
    return model.requires_grad_(True)


def bitfit(model: nn.Module, *, norms: bool = True) -> nn.Module:
    """Train the biases alone.

    Args:
        model: changed in place.
        norms: with the biases of LayerNorms, as the papers train it; False leaves the biases of
            linear layers, as paper 1 counts it.

    Raises:
        UserError: the model has no such bias.

    Source: Ben Zaken et al. 2021.
    """
    kinds = (nn.Linear, Conv1D, nn.LayerNorm) if norms else (nn.Linear, Conv1D)
    biases = [m.bias for m in model.modules() if isinstance(m, kinds) and m.bias is not None]
    if not biases:
        raise UserError(
            f"bitfit needs a model with biases, got {type(model).__name__} without any; "
            "use a mask or lora"
        )
    model.requires_grad_(False)
    for bias in biases:
        bias.requires_grad_(True)
    return model


AdapterStart = Literal["identity", "near identity"]


class Adapter(nn.Module):
    """Add a bottleneck to its input: h + up(f(down(h))).

    Args:
        size: of the input.
        width: of the bottleneck.
        start: "identity": up is zero and f the ReLU, as in the code of paper 1; "near identity":
            both matrices are normal with deviation 1e-2 and f is GELU, after Houlsby et al.
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
        width: of the bottleneck, at least 1; an adapter on d numbers has 2 d width + d + width,
            biases included. At width 8 that is 0.250 % of OPT-125m; table 5 of paper 1 prints
            0.265 %, and at all three sizes 18 d an adapter: the two matrices and 2 d more, which
            fits the weight and bias of a layer norm that is trained too, without adapter biases.
        after: shell patterns of the linear layers that adapters follow.
        start: "identity" leaves the model's outputs as they are; its up-projections are zero, so
            scores that are a weight times its gradient are zero in every adapter: for masks on
            adapters by such a score take "near identity", as Houlsby et al. do. See `Adapter`.
        seed: of the initialisation.

    Raises:
        UserError: a width below 1, another start, or a model without such layers.

    Source: Houlsby et al. 2019 (layer norms stay frozen here).
    """
    if width < 1:
        raise UserError(f"width must be at least 1, got {width}")
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


def lora(
    model: nn.Module,
    *,
    rank: int = 8,
    alpha: float = 16,
    targets: str | Sequence[str] = QUERY_VALUE,
    seed: int = 0,
) -> nn.Module:
    """Add low-rank updates alpha / rank * B A to target matrices, by peft.

    Raises:
        UserError: peft is missing, or targets match nothing.

    Source: Hu et al. 2021.
    """
    peft = _peft()
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, **_layers(model, targets))
    return _wrap(model, config, seed)


def adalora(
    model: nn.Module,
    *,
    steps: int,
    rank: int = 8,
    first_rank: int = 12,
    alpha: float = 16,
    targets: str | Sequence[str] = QUERY_VALUE,
    seed: int = 0,
) -> nn.Module:
    """Add updates P E Q whose ranks are shared out during training, by peft.

    `finetune` adds the orthogonality penalty and shares out the ranks after each step; the first
    tenth of the steps keeps all ranks, the last third keeps them fixed.

    Args:
        model: the model to wrap.
        steps: of the whole run.
        rank: average rank at the end.
        first_rank: at the start, above `rank`.
        alpha, targets, seed: as for `lora`.

    Raises:
        UserError: peft is missing, or targets match nothing.

    Source: Zhang et al. 2023 (AdaLoRA).
    """
    peft = _peft()
    config = peft.AdaLoraConfig(
        target_r=rank, init_r=first_rank, lora_alpha=alpha, total_step=steps, tinit=steps // 10,
        tfinal=steps // 3, **_layers(model, targets),
    )  # fmt: skip
    return _wrap(model, config, seed)


def prefix(model: nn.Module, *, tokens: Tensor) -> nn.Module:
    """Put trainable keys and values before every text, by peft.

    They start as the model's own keys and values of real words, so that before training the
    model answers as if the words stood before the text.

    Args:
        model: causal language model.
        tokens: the words as token ids, shape (length,); the paper's length is 5.

    Raises:
        UserError: peft is missing, or tokens that are no row of ids.

    Source: Li & Liang 2021.
    """
    peft = _peft()
    if tokens.dim() != 1 or not tokens.numel():
        raise UserError(f"tokens must be one row of ids, got shape {tuple(tokens.shape)}")
    with torch.no_grad():
        cache = model(input_ids=tokens[None].to(_device(model)), use_cache=True).past_key_values
    parts = [(layer.keys[0], layer.values[0]) for layer in cache.layers]
    # peft reads (length, layer, key or value, head, number) from one row a token
    flat = torch.stack([torch.stack(pair) for pair in parts]).permute(3, 0, 1, 2, 4)
    heads, _, size = parts[0][0].shape
    config = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=tokens.numel(), num_layers=len(parts),
        num_attention_heads=heads, token_dim=heads * size,
    )  # fmt: skip
    wrapped = _wrap(model, config, 0)
    (weight,) = (p for p in wrapped.parameters() if p.requires_grad)
    with torch.no_grad():
        weight.copy_(flat.reshape(tokens.numel(), -1))
    return wrapped


BASELINES: dict[str, Callable[..., nn.Module]] = {
    make.__name__: make for make in (full, bitfit, adapter, lora, adalora, prefix)
}
"""Method name -> the function that gives a model its trainable numbers."""


#: AdaLoRA's importances as peft names them: of the last step, averaged, and how they vary
_AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def penalty(model: nn.Module) -> Tensor | float:
    """Return what a method adds to the mean loss: AdaLoRA's orthogonality term, else 0.

    weight * mean over factors of ||A A^T - I||_F        (||B^T B - I||_F for the other)
    """
    config = _adalora_config(model)
    if config is None:
        return 0.0
    terms = [
        torch.linalg.matrix_norm(gram - torch.eye(gram.shape[0], device=gram.device))
        for name, p in model.named_parameters()
        for gram in ([p @ p.T] if "lora_A" in name else [p.T @ p] if "lora_B" in name else [])
    ]
    return config.orth_reg_weight * torch.stack(terms).mean()


def advance(model: Any, step: int) -> None:
    """Let a method do what it does after an update: AdaLoRA shares out its ranks."""
    if _adalora_config(model) is not None:
        model.base_model.update_and_allocate(step)


def memory(model: Any) -> dict[str, Tensor]:
    """Return what a method remembers between steps beside its numbers and the optimizer's.

    AdaLoRA's averages of importance, one a trainable number, and the ranks it has kept; copies.
    """
    config = _adalora_config(model)
    if config is None:
        return {}
    allocator = model.base_model.rankallocator
    averages = {
        f"{average}/{name}": value.clone()
        for average in _AVERAGES
        for name, value in getattr(allocator, average).items()
    }
    ranks = {f"ranks/{n}": torch.tensor(kept) for n, kept in (config.rank_pattern or {}).items()}
    return averages | ranks


def recall(model: Any, remembered: Mapping[str, Tensor]) -> None:
    """Give a method what `memory` said; the next step is then that of a run without a stop.

    Args:
        model: a model that was made as the first one was.
        remembered: what `memory` returned.
    """
    config = _adalora_config(model)
    if config is None:
        return
    allocator = model.base_model.rankallocator
    devices = {name: p.device for name, p in model.base_model.model.named_parameters()}
    allocator.reset_ipt()
    ranks = {}
    for key, value in remembered.items():
        kind, _, name = key.partition("/")
        if kind == "ranks":
            ranks[name] = value.tolist()
        else:
            getattr(allocator, kind)[name] = value.to(devices[name])
    config.rank_pattern = ranks or None


def _adalora_config(model: nn.Module) -> Any:
    configs = getattr(model, "peft_config", {}).values()
    return next((c for c in configs if hasattr(c, "orth_reg_weight")), None)


def _adapt(layer: nn.Module, args: Any, output: Tensor) -> Tensor:
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


def _layers(model: nn.Module, targets: str | Sequence[str]) -> dict[str, Any]:
    names = [name.rpartition(".")[0] for name in target_shapes(model, targets)]
    modules = dict(model.named_modules())
    transposed = any(isinstance(modules[name], Conv1D) for name in names)
    return {"target_modules": names, "fan_in_fan_out": transposed}


def _wrap(model: nn.Module, config: Any, seed: int) -> nn.Module:
    with seeds.drawing(seed):
        wrapped: nn.Module = _peft().get_peft_model(model, config)
    return wrapped


def _peft() -> Any:
    return optional("peft")


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
