"""Whoever reads a masked weight, and by whatever door, finds W_0 + S(theta) and its gradient."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from families import add_dense, attached, case_of, small, tokens
from torch import Tensor, nn
from torch.func import functional_call

import landscape as ls


def weights(plain: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in plain.named_parameters()}


def by_pickle(model: nn.Module) -> nn.Module:
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


LOOKS = {
    "an attribute": lambda m, n: m.get_submodule(n.rpartition(".")[0]).weight,
    "a state dict": lambda m, n: m.state_dict()[n],
    "a part's state dict": lambda m, n: m.get_submodule(n.split(".")[0]).state_dict()["weight"],
    "named parameters": lambda m, n: dict(m.named_parameters())[n],
    "a parameter by name": lambda m, n: m.get_parameter(n),
    "a copy": lambda m, n: dict(copy.deepcopy(m).named_parameters())[n],
    "a copy of a part": lambda m, n: copy.deepcopy(m.get_submodule(n.split(".")[0])).weight,
    "a pickle": lambda m, n: pickle.loads(pickle.dumps(m)).get_parameter(n),
    "torch.save": lambda m, n: by_pickle(m).state_dict()[n],
    "a shallow copy": lambda m, n: copy.copy(m).state_dict()[n],
}


@pytest.mark.parametrize("change", ["in place", "through .data", "another storage", "an optimizer"])
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("near", [True, False], ids=["CPU", "device"])
def test_every_look_at_a_weight_shows_theta_as_it_is_now(look, change, near, monkeypatch) -> None:
    monkeypatch.setattr("landscape.subspace.sites._is_on_cpu", lambda _: near)
    model, plain, mask = small()
    before = {n: t.detach().clone() for n, t in ls.trainable(model).items()}
    for name in ("table.weight", "norm.weight", "inner.weight", "head.weight"):
        torch.testing.assert_close(LOOKS[look](model, name).detach(), weights(plain)[name])
    thetas = ls.trainable(model)
    if change == "an optimizer":
        optimizer = torch.optim.SGD(thetas.values(), lr=0.1)
        model(tokens()).square().sum().backward()
        optimizer.step()
    for theta in thetas.values():
        with torch.no_grad():
            if change == "in place":
                theta.add_(0.25)
            elif change == "through .data":
                theta.data.add_(0.25)
            elif change == "another storage":
                theta.data = theta.data + 0.25
    add_dense(plain, mask, {n: t.detach() - before[n] for n, t in thetas.items()})
    for name in ("table.weight", "norm.weight", "inner.weight", "head.weight"):
        torch.testing.assert_close(LOOKS[look](model, name).detach(), weights(plain)[name])


CHANGES = {
    "in place": lambda theta: theta.add_(0.25),
    "through .data": lambda theta: theta.data.add_(0.25),
    "through numpy": lambda theta: np.add(theta.numpy(), 0.25, out=theta.numpy()),
    "another storage": lambda theta: setattr(theta, "data", theta.data + 0.25),
    "not contiguous": lambda theta: setattr(
        theta, "data", torch.stack([theta.data + 0.25, theta.data], 1)[:, 0]
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("near", [True, False], ids=["CPU", "device"])
def test_a_forward_without_gradients_computes_with_theta_as_it_is_now(
    change, near, monkeypatch
) -> None:
    """It compares theta with what was written last, and asks nothing else of an unchanged one."""
    monkeypatch.setattr("landscape.subspace.sites._is_on_cpu", lambda _: near)
    model, plain, mask = small()
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(model(tokens()), plain(tokens()))
            for theta in ls.trainable(model).values():
                CHANGES[change](theta.requires_grad_(False))
            by_hand = {n: torch.full_like(t, 0.25) for n, t in ls.trainable(model).items()}
            add_dense(plain, mask, by_hand)
            torch.testing.assert_close(model(tokens()), plain(tokens()))


def test_a_forward_without_gradients_computes_with_the_theta_that_it_is_given() -> None:
    model, plain, mask = small()
    moved = {f"{n.rpartition('.')[0]}.theta_weight" if n.endswith("weight") else
             f"{n.rpartition('.')[0]}.theta_bias": t.detach() + 0.5
             for n, t in ls.trainable(model).items()}  # fmt: skip
    with torch.no_grad():
        here = model(tokens())
        other = add_dense(copy.deepcopy(plain), mask, {
            n: torch.full_like(t, 0.5) for n, t in ls.trainable(model).items()
        })  # fmt: skip
        torch.testing.assert_close(functional_call(model, moved, (tokens(),)), other(tokens()))
        assert torch.equal(model(tokens()), here)


def test_a_forward_without_gradients_refuses_a_weight_that_was_overwritten() -> None:
    model, _, _ = small()
    with torch.no_grad():
        model(tokens())
        dict.__getitem__(model.inner._parameters, "weight").zero_()
        with pytest.raises(ls.errors.UserError, match="written or put there since"):
            model(tokens())


def test_a_saved_model_computes_what_the_attached_one_does_after_steps(tmp_path) -> None:
    case = case_of("opt")
    model, mask = attached(case)
    optimizer = torch.optim.AdamW(ls.trainable(model).values(), lr=0.1, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        case.loss(model).backward()
        optimizer.step()
    values = {n: t.detach() for n, t in ls.trainable(model).items()}
    plain = add_dense(case.model(torch.float32), mask, values)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    wanted = plain(input_ids=tokens()).logits
    assert torch.equal(again(input_ids=tokens()).logits, wanted)
    assert torch.equal(again.model.decoder.layers[0].self_attn.q_proj.weight,
                       plain.model.decoder.layers[0].self_attn.q_proj.weight)  # fmt: skip
    torch.testing.assert_close(model(input_ids=tokens()).logits, wanted)


@pytest.mark.parametrize("near", [True, False], ids=["CPU", "device"])
def test_a_graph_stays_whole_while_theta_stays_and_is_refused_once_it_moved(
    near, monkeypatch
) -> None:
    monkeypatch.setattr("landscape.subspace.sites._is_on_cpu", lambda _: near)
    model, _, _ = small()
    first, second = model(tokens()).sum(), model(tokens()).sum()
    model.state_dict()
    (first + second).backward()
    stale = model(tokens()).sum()
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.mul_(2.0)
    model(tokens())
    with pytest.raises(RuntimeError, match=r"modified (by an )?inplace"):
        stale.backward()


def test_theta_that_is_not_a_number_is_computed_with_as_it_is() -> None:
    model, _, _ = small()
    with torch.no_grad():
        ls.trainable(model)["inner.weight"][0] = torch.nan
    for _ in range(2):  # NaN differs from itself, and is what was written all the same
        first, second = model(tokens()).sum(), model(tokens()).sum()
        (first + second).backward()
        assert first.isnan()
