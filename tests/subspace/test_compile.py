"""Attached models under ``torch.compile``: as few graphs as the plain model, and right ones."""

from __future__ import annotations

import copy

import pytest
import torch
from families import spread, tokens
from torch import nn

import landscape as ls


def compiled(model: nn.Module) -> tuple[nn.Module, list[object]]:
    """Return a compiled model, and a list that grows by one whenever a graph is made."""
    made: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        made.append(graph)
        return graph.forward

    torch._dynamo.reset()
    return torch.compile(model, backend=backend), made


def steps(model: nn.Module, parameters: list[nn.Parameter]) -> list[float]:
    """Train three steps, measuring without gradients in between, as a loop does."""
    optimizer, losses = torch.optim.SGD(parameters, lr=0.1), []
    for _ in range(3):
        model(input_ids=tokens()).logits.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            losses.append(model(input_ids=tokens()).logits.square().mean().item())
    return losses


@pytest.mark.parametrize(
    "name", ["gpt2", *(pytest.param(n, marks=pytest.mark.slow) for n in ("opt", "llama", "bert"))]
)
def test_a_compiled_model_trains_in_as_many_graphs_as_the_plain_one_and_one_more(name) -> None:
    model = ls.tiny_model(name, seed=0)
    plain = copy.deepcopy(model)
    whole, made = compiled(model)
    steps(whole, list(model.parameters()))
    assert len(made) >= 2  # with gradients and without
    ls.attach(plain, ls.random_mask(plain, density=0.1, targets="*", seed=0))
    spread(plain)
    eager = copy.deepcopy(plain)
    attached, graphs = compiled(plain)
    found = steps(attached, list(ls.trainable(plain).values()))
    assert len(graphs) <= len(made) + 1
    assert found == pytest.approx(steps(eager, list(ls.trainable(eager).values())), rel=1e-4)
    assert found[0] != pytest.approx(found[-1], rel=1e-4)
    merged = ls.merge(copy.deepcopy(plain))
    with torch.no_grad():
        torch.testing.assert_close(attached(input_ids=tokens()).logits,
                                   merged(input_ids=tokens()).logits)  # fmt: skip
