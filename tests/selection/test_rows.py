"""Gradients of single examples out of one backward, against one backward an example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from conftest import CASES
from oracles import selection as oracle
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import landscape as ls
from landscape.models.targets import target_shapes
from landscape.selection import stream
from landscape.selection.scores import make_score

LINEAR = {
    "opt": ["*_proj", "*.fc?"], "llama": "*_proj", "gpt2": ["*.c_attn", "*.c_proj", "*.c_fc"],
    "bert": ["*.query", "*.value", "*.dense", "*classifier"],
    "vit": ["*_proj", "*.fc?", "classifier"],
}  # fmt: skip


def batch_of(name: str, count: int, seed: int = 3) -> dict[str, Tensor]:
    """Rows of unequal lengths, or images, each with a label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    if name == "vit":
        pixels = torch.randn(count, 3, 16, 16, generator=generator).double()
        return {"pixel_values": pixels, "labels": labels}
    ids = torch.randint(4, 60, (count, 7), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def loss(model: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, int]:
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    logits = model(**inputs).logits
    logits = logits[:, -1] if logits.dim() == 3 else logits
    total = nn.functional.cross_entropy(logits, batch["labels"], reduction="sum")
    return total, len(batch["labels"])


def statistics(model: nn.Module, targets: Any, batches: list[Any], power: int) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    shapes = target_shapes(model, targets)
    score = make_score("fisher", {"power": power})
    stream.stream_gradients(model, shapes, batches, loss, score, found.__setitem__, 1 << 24)
    assert set(found) == set(shapes)
    return found


def expected(model: nn.Module, names: list[str], batches: list[Any], power: int) -> oracle.Scores:
    singles = [
        {key: value[i : i + 1] for key, value in batch.items()}
        for batch in batches
        for i in range(len(batch["labels"]))
    ]
    probs = [
        lambda single=single: torch.stack([
            -loss(model, single | {"labels": torch.tensor([label])})[0] for label in (0, 1)
        ])
        for single in singles
    ]  # fmt: skip
    labels = [int(single["labels"]) for single in singles]
    return oracle.fisher(model, names, probs, labels, true=False, power=power)


def assert_same(found: Mapping[str, Tensor], wanted: oracle.Scores) -> None:
    for name, value in wanted.items():
        torch.testing.assert_close(
            found[name].double().reshape(-1), value, rtol=1e-5, atol=1e-6 * float(value.max())
        )


@pytest.fixture
def split_count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the batches that are taken one example at a time."""
    cut: list[int] = []

    def counted(batch: Any) -> Any:
        cut.append(len(batch["labels"]))
        return original(batch)

    original = stream.single_examples
    monkeypatch.setattr(stream, "single_examples", counted)
    return cut


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("counts", [(5,), (5, 3)], ids=["one batch", "two batches"])
@pytest.mark.parametrize("case", [c for c in CASES if c.name in LINEAR], ids=lambda c: c.name)
def test_one_backward_gives_every_example_of_a_batch(case, counts, power, split_count) -> None:
    model = case.model()
    targets = LINEAR[case.name]
    batches = [batch_of(case.name, count, seed) for seed, count in enumerate(counts)]
    if case.name == "vit":  # three channels: an axis that could be three examples
        batches = batches[:1]
    found = statistics(model, targets, batches, power)
    assert split_count == []
    assert_same(found, expected(model, list(found), batches, power))


def test_three_images_of_three_channels_are_taken_one_by_one(split_count) -> None:
    case = next(c for c in CASES if c.name == "vit")
    model, batches = case.model(), [batch_of("vit", 3)]
    found = statistics(model, LINEAR["vit"], batches, 2)
    assert split_count == [3]
    assert_same(found, expected(model, list(found), batches, 2))


@pytest.mark.parametrize("targets", ["*", ["*_proj", "*bias"]])
def test_tied_tensors_norms_and_biases_are_taken_one_by_one(targets, split_count) -> None:
    case = next(c for c in CASES if c.name == "opt")
    model, batches = case.model(), [batch_of("opt", 5)]
    found = statistics(model, targets, batches, 2)
    assert split_count == [5]
    assert_same(found, expected(model, list(found), batches, 2))


class Odd(nn.Module):
    """A classifier of rows (examples, tokens) that uses its layers in an odd way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.embed = nn.Embedding(60, 8)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        x = self.embed(input_ids)
        match self.way:
            case "twice":
                x = self.second(self.first(self.first(x).tanh()))
            case "tokens first":
                x = self.second(self.first(x.transpose(0, 1)).tanh()).transpose(0, 1)
            case "keywords":
                x = self.second(input=self.first(input=x).tanh())
            case "changed in place":
                x = self.second(self.first(x).mul_(0.5).tanh_())
            case "checkpointed":
                x.requires_grad_()
                x = self.second(checkpoint(self.first, x, use_reentrant=True).tanh())
            case "torch's attention":  # reads its out_proj's weight and never calls it
                x = self.second(self.first(x) + self.attention(x, x, x, need_weights=False)[0])
            case "unused":
                x = self.first(x)
            case "flattened":
                x = self.second(self.first(x).tanh().flatten(0, 1)).view_as(x)
            case "flattened, tokens first":
                x = self.second(self.first(x.transpose(0, 1).flatten(0, 1)))
                x = x.view(input_ids.shape[1], -1, 8).transpose(0, 1)
        return type("Output", (), {"logits": self.head(x.mean(1))})


@pytest.mark.parametrize(
    ("way", "whole"),
    [
        ("twice", False), ("tokens first", False), ("keywords", False), ("changed in place", True),
        ("checkpointed", False), ("unused", False),
        ("torch's attention", False), ("flattened", True),
        ("flattened, tokens first", False),
    ],
)  # fmt: skip
def test_odd_uses_of_a_layer_are_right(way, whole, split_count) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Odd(way).double().eval()
    batches = [batch_of("odd", 5)]
    targets = ["first", "second", "head"]
    if way == "torch's attention":
        targets.append("attention.out_proj")
    found = statistics(model, targets, batches, 2)
    assert split_count == ([] if whole else [5])
    if way == "checkpointed":
        model.way = "flattened"  # the same function, which autograd.grad can differentiate
    wanted = expected(model, [n for n in found if way != "unused" or "second" not in n], batches, 2)
    assert_same(found, wanted)
    if way == "unused":
        assert not found["second.weight"].any()


def test_a_selection_by_fisher_leaves_no_hook_behind() -> None:
    model = ls.tiny_model("opt")
    batch = batch_of("opt", 5)
    ls.select_mask(model, score="fisher", batches=[batch], loss=loss, count=20, targets="*_proj")
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
