"""Shared cases: tiny models of every architecture, with inputs and a scalar loss."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import shapes

shapes.install()

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from forks import forks  # noqa: F401  a fixture
from slow import pytest_terminal_summary  # noqa: F401  a hook
from torch import Tensor, nn

from landscape.models import tiny_model

if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several processes would fight for the cores
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
    torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Let toy tasks be judged on what they were trained on without a warning each."""
    config.addinivalue_line(
        "filterwarnings", "ignore:expected splits of (toy|tiny) without common examples"
    )


@dataclass(frozen=True)
class Case:
    """One architecture: its model, the pattern of the masked tensors, and a loss."""

    name: str
    targets: str
    loss: Callable[[nn.Module], Tensor]

    def model(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        return tiny_model(self.name).to(dtype)


def _tokens() -> Tensor:
    return torch.randint(3, 60, (3, 7), generator=torch.Generator().manual_seed(1))


def language_loss(model: nn.Module) -> Tensor:
    logits = model(input_ids=_tokens()).logits
    return torch.logsumexp(logits, -1).mean() - logits[..., 5].mean()


def class_loss(model: nn.Module) -> Tensor:
    logits = model(input_ids=_tokens()).logits
    return torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1]))


def image_loss(model: nn.Module) -> Tensor:
    size, channels = getattr(model.config, "image_size", 16), model.config.num_channels
    generator = torch.Generator().manual_seed(2)
    dtype = next(model.parameters()).dtype
    pixels = torch.randn(3, channels, size, size, generator=generator).to(dtype)
    logits = model(pixel_values=pixels).logits
    return torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1]))


CASES = [
    Case("opt", "*.[qv]_proj", language_loss),
    Case("llama", "*.[qv]_proj", language_loss),
    Case("gpt2", "*.c_attn", language_loss),
    Case("bert", "*.attention.self.query", class_loss),
    Case("vit", "*attention*weight", image_loss),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param
