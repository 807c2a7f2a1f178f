"""Tiny models that the shared cases lack, with inputs and a loss, and attached beside plain."""

from __future__ import annotations

import copy

import torch
from conftest import CASES, Case, class_loss, image_loss, language_loss
from torch import Tensor, nn

import landscape as ls


def seeded(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval()


def tokens(rows: int = 3, length: int = 7, seed: int = 1) -> Tensor:
    return torch.randint(3, 60, (rows, length), generator=torch.Generator().manual_seed(seed))


def bart() -> nn.Module:
    from transformers import BartConfig, BartForConditionalGeneration

    return seeded(lambda: BartForConditionalGeneration(BartConfig(
        vocab_size=64, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, dropout=0.0,
        max_position_embeddings=32,
    )))  # fmt: skip


def sequence_loss(model: nn.Module) -> Tensor:
    logits = model(input_ids=tokens(), labels=tokens(seed=2)).logits
    return torch.logsumexp(logits, -1).mean() - logits[..., 5].mean()


def contrastive_loss(model: nn.Module) -> Tensor:
    dtype = next(model.parameters()).dtype
    pixels = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(2)).to(dtype)
    logits = model(input_ids=tokens(), pixel_values=pixels).logits_per_image
    return nn.functional.cross_entropy(logits, torch.arange(3))


class Bart(Case):
    """A case whose model is built here."""

    def model(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        return bart().to(dtype)


FAMILIES = [
    *CASES,
    Case("qwen2", "*", language_loss),
    Case("roberta", "*", class_loss),
    Case("mpnet", "*", class_loss),
    Case("deberta-v2", "*", class_loss),
    Case("resnet", "*", image_loss),
    Case("t5", "*", sequence_loss),
    Bart("bart", "*", sequence_loss),
    Case("clip", "*", contrastive_loss),
]


def case_of(name: str) -> Case:
    return next(case for case in FAMILIES if case.name == name)


def attached(case: Case, dtype=torch.float32, density=0.05, targets=None, seed=4):
    model = case.model(dtype)
    mask = ls.random_mask(model, density=density, targets=targets or case.targets, seed=seed)
    ls.attach(model, mask)
    return model, mask


def spread(model: nn.Module, scale: float = 0.05) -> dict[str, Tensor]:
    """Give theta fixed random values, the same for equal names."""
    values = {}
    with torch.no_grad():
        for i, (name, theta) in enumerate(ls.trainable(model).items()):
            generator = torch.Generator().manual_seed(i)
            theta.copy_(scale * torch.randn(theta.shape, generator=generator))
            values[name] = theta.detach().clone()
    return values


def add_dense(model: nn.Module, mask: ls.Mask, values: dict[str, Tensor]) -> nn.Module:
    """Add values into the weights of a plain model, index by index."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, value in values.items():
            flat = weights[name].view(-1)
            for i, v in zip(mask.indices[name].tolist(), value.tolist(), strict=True):
                flat[i] = (flat[i].double() + v).to(flat.dtype)
    return model


class Small(nn.Module):
    """One of each kind of site: an embedding, a norm, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(64, 16), nn.LayerNorm(16)
        self.inner, self.head = nn.Linear(16, 40), nn.Linear(40, 8)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.inner(self.norm(self.table(ids)))))


def pair(
    model: nn.Module, density: float = 0.1, targets="*", scale: float = 0.3
) -> tuple[nn.Module, nn.Module, ls.Mask]:
    """An attached model whose theta was changed after a forward, and a plain one edited by hand."""
    plain = copy.deepcopy(model)
    mask = ls.random_mask(model, density=density, targets=targets, seed=4)
    ls.attach(model, mask)
    add_dense(plain, mask, spread(model, scale))
    return model, plain, mask


def small() -> tuple[nn.Module, nn.Module, ls.Mask]:
    model = seeded(Small)
    model(tokens())
    return pair(model)
