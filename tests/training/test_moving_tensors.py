"""What a moving mask keeps of theta, and what a schedule that contradicts itself is told."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import selection as oracle

import landscape as ls
from landscape.errors import UserError

H = {"score": "id3", "options": {"eps": 0.5, "exp": 1.0}}


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_moving_keeps_theta_where_masks_agree_and_gives_the_rest_its_origin_back(data) -> None:
    layer = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(6, 5)})
    start = layer["q_proj"].weight.detach().clone()
    first, second = (
        torch.tensor(sorted(data.draw(st.sets(st.integers(0, 29)))), dtype=torch.int64)
        for _ in range(2)
    )
    mask = ls.Mask({"q_proj.weight": first}, {"q_proj.weight": (5, 6)}, 35)
    ls.attach(layer, mask)
    (theta,) = ls.trainable(layer).values()
    with torch.no_grad():
        theta.copy_(torch.arange(len(first)) + 1.0)
    theta.grad = theta.detach() * 10
    ls.subspace.move(layer, ls.Mask({"q_proj.weight": second}, mask.shapes, 35))
    wanted = {int(i): float(j + 1) for j, i in enumerate(first)}
    values = [wanted.get(int(i), 0.0) for i in second]
    assert ls.trainable(layer)["q_proj.weight"] is theta
    assert theta.tolist() == values
    assert theta.grad.tolist() == [10 * v for v in values]
    dense = start.reshape(-1).clone()
    dense[second] += torch.tensor(values)
    assert torch.equal(layer["q_proj"].weight.detach().reshape(-1), dense)
    layer["q_proj"](torch.randn(2, 6)).sum().backward()
    assert torch.equal(ls.detach(layer)["q_proj"].weight, start)


def test_dense_gradients_are_handed_over_once_and_theta_gets_its_part(case) -> None:
    model = case.model()
    twin = copy.deepcopy(model)
    ls.attach(model, ls.random_mask(model, density=0.1, targets=case.targets))
    seen: dict[str, torch.Tensor] = {}

    def receive(name: str, gradient: torch.Tensor) -> None:
        assert name not in seen
        seen[name] = gradient.clone()

    with ls.subspace.dense_gradients(model, receive):
        case.loss(model).backward()
    expected = oracle.gradients(twin, list(seen), case.loss(twin))
    slack = 1e-7 if case.name == "llama" else 1e-12
    for name, theta in ls.trainable(model).items():
        torch.testing.assert_close(seen[name], expected[name], rtol=1e-6, atol=slack)
        indices = ls.subspace.attached_mask(model).indices[name]
        assert torch.equal(theta.grad, seen[name].reshape(-1)[indices])
    before = {n: t.grad.clone() for n, t in ls.trainable(model).items()}
    model.zero_grad()
    case.loss(model).backward()
    for name, theta in ls.trainable(model).items():
        torch.testing.assert_close(theta.grad, before[name], rtol=1e-6, atol=slack)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "cosine"}, "kind to be one of"),
        ({"score": "fisher", "options": {}}, "use select_mask"),
        ({"score": "luck"}, "a score among"),
        ({"options": {}}, "eps and exp for the score id3, which has no default"),
        ({"scope": "layer"}, "scope to be one of tensor, global"),
        ({"every": 0}, "at least 1"),
        ({"steps": 0}, "at least 1"),
        ({"drop": 1.0}, "above 0 and below 1"),
        ({"increments": [1, 2]}, "say the budget"),
        ({"count": None, "increments": [1, -2]}, "at least 0"),
        ({"count": None, "kind": "static", "increments": [1, 2]}, "got kind 'static'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(change, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        ls.Schedule(**({"kind": "increment", **H, "count": 9} | change))
