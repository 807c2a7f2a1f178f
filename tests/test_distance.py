"""Distances to the initialisation, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import landscape as ls
from landscape.distances import changes, cosines, distance
from landscape.errors import UserError


def layers() -> nn.ModuleDict:
    """Weights 3, 4, 0, 12 and 1, 2, 2, 4."""
    model = nn.ModuleDict({n: nn.Linear(2, 2, bias=False) for n in "ab"})
    with torch.no_grad():
        model["a"].weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 12.0]]))
        model["b"].weight.copy_(torch.tensor([[1.0, 2.0], [2.0, 4.0]]))
    return model


def masked() -> nn.ModuleDict:
    """A change of 3, -4 where the weights are 4, 12, and of 12 where the weight is 1."""
    model = layers()
    indices = {"a.weight": torch.tensor([1, 3]), "b.weight": torch.tensor([0])}
    ls.attach(model, ls.Mask(indices, dict.fromkeys(indices, (2, 2)), 8))
    with torch.no_grad():
        ls.trainable(model)["a.weight"].copy_(torch.tensor([3.0, -4.0]))
        ls.trainable(model)["b.weight"].copy_(torch.tensor([12.0]))
    return model


def test_a_masked_models_distance_is_that_of_its_theta() -> None:
    found = distance(masked())
    assert found.l2 == 13.0  # 3, 4, 12
    assert found.linf == 12.0
    assert found.per_tensor == {"a.weight": 5.0, "b.weight": 12.0}
    # relative to the pretrained values at the mask alone: 4, 12, 1
    assert found.relative == pytest.approx(13 / math.sqrt(4**2 + 12**2 + 1))
    assert found.on_mask is None
    assert found.off_mask is None


def test_a_plain_models_distance_is_to_the_values_given() -> None:
    model = layers()
    initial = {n: p.detach().clone() for n, p in ls.trainable(model).items()}
    with torch.no_grad():
        model["a"].weight[0, 0] -= 7.0
        model["b"].weight[1, 1] += 24.0
    found = distance(model, initial)
    assert (found.l2, found.linf) == (25.0, 24.0)
    assert found.per_tensor == {"a.weight": 7.0, "b.weight": 24.0}
    start = math.sqrt(9 + 16 + 144 + 1 + 4 + 4 + 16)
    assert found.relative == pytest.approx(25 / start)
    moved = changes(model, initial)
    assert moved["a.weight"].tolist() == [[-7.0, 0.0], [0.0, 0.0]]
    assert moved["a.weight"].dtype == torch.float64


@pytest.mark.parametrize("plain", [True, False])
def test_the_change_inside_a_mask_is_told_from_that_outside(plain) -> None:
    """The other mask holds the weight that moved by 4, one that did not move, and no b."""
    other = ls.Mask({"a.weight": torch.tensor([0, 3])}, {"a.weight": (2, 2)}, 8)
    if plain:
        model = layers()
        initial = {n: p.detach().clone() for n, p in ls.trainable(model).items()}
        with torch.no_grad():
            model["a"].weight.view(-1)[[1, 3]] += torch.tensor([3.0, -4.0])
            model["b"].weight[0, 0] += 12.0
        found = distance(model, initial, mask=other)
    else:
        found = distance(masked(), mask=other)
    assert found.on_mask == 4.0
    assert found.off_mask == pytest.approx(math.sqrt(9 + 144), rel=1e-12)
    assert found.l2 == 13.0
    nothing = ls.Mask({}, {}, 8)
    assert distance(masked(), mask=nothing).off_mask == 13.0


def test_parameters_beside_a_mask_count_from_where_they_were_when_it_was_attached() -> None:
    model = layers()
    ls.attach(model, ls.Mask({"a.weight": torch.tensor([1])}, {"a.weight": (2, 2)}, 8), dense="b")
    with torch.no_grad():
        ls.trainable(model)["a.weight"].fill_(3.0)
        model["b"].weight[0] += torch.tensor([4.0, -12.0])
    found = distance(model, {"b.weight": torch.zeros(2, 2)})  # what is given does not count
    assert (found.l2, found.linf) == (13.0, 12.0)
    assert found.per_tensor == {"a.weight": 3.0, "b.weight": pytest.approx(math.sqrt(160))}
    # 4 on the mask, and all of b: 1, 2, 2, 4
    assert found.relative == pytest.approx(13 / math.sqrt(16 + 25))
    on = distance(model, mask=ls.Mask({"b.weight": torch.tensor([0, 3])}, {"b.weight": (2, 2)}, 8))
    assert (on.on_mask, on.off_mask) == (4.0, pytest.approx(math.sqrt(9 + 144)))
    assert cosines(model, torch.eye(5)).tolist() == pytest.approx([3 / 13, 4 / 13, -12 / 13, 0, 0])


def test_weights_that_start_at_zero_have_no_relative_distance() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 1, bias=False)})
    initial = {"a.weight": torch.zeros(1, 2)}
    with torch.no_grad():
        model["a"].weight.copy_(torch.tensor([[3.0, 4.0]]))
    found = distance(model, initial)
    assert (found.l2, found.relative) == (5.0, 0.0)


def test_sums_of_squares_are_wider_than_the_weights() -> None:
    """1e-30 squared is no float32, and 1e30 squared neither."""
    for scale in (1e-30, 1e30):
        model = nn.ModuleDict({"a": nn.Linear(2, 1, bias=False)})
        with torch.no_grad():
            model["a"].weight.copy_(torch.tensor([[3.0, 4.0]]) * scale)
        found = distance(model, {"a.weight": torch.zeros(1, 2)})
        assert found.l2 == pytest.approx(5 * scale, rel=1e-6)
        assert found.linf == pytest.approx(4 * scale, rel=1e-6)


class Product(nn.Module):
    """Adds up down' to a weight, as peft's layers do: 3 by 2 is 6."""

    active_adapters = ("default",)

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.tensor([[3.0]]))
        self.down = nn.Parameter(torch.tensor([[2.0]]))

    def get_delta_weight(self, adapter: str) -> torch.Tensor:
        return self.up @ self.down


def test_the_effective_distance_is_that_of_the_products() -> None:
    """From 6 to 3, and from 6 to 10."""
    model = nn.ModuleDict({"a": Product(), "b": Product(), "c": nn.Linear(1, 1, bias=False)})
    initial = {n: p.detach().clone() for n, p in ls.trainable(model).items()}
    assert distance(model, initial).effective == 0.0
    with torch.no_grad():
        model["a"].up.fill_(1.5)
        model["b"].up.fill_(2.0)
        model["b"].down.fill_(5.0)
        model["c"].weight.add_(1.0)
    assert distance(model, initial).effective == 5.0
    assert model["a"].up.item() == 1.5
    assert distance(layers(), dict(layers().named_parameters())).effective is None


def test_cosines_with_an_orthonormal_basis_are_the_updates_direction() -> None:
    model = masked()  # the update is 3, -4, 12, of length 13
    found = cosines(model, torch.eye(3))
    assert found.tolist() == pytest.approx([3 / 13, -4 / 13, 12 / 13])
    assert float(found.square().sum()) == pytest.approx(1.0)
    assert float(cosines(model, torch.tensor([[0.0], [3.0], [1.0]]) * 7)) == pytest.approx(0.0)
    assert bool(cosines(model, torch.zeros(3, 1)).isnan())
    for wrong in (torch.eye(4), torch.ones(3)):
        with pytest.raises(UserError, match=r"shape \(3, m\)"):
            cosines(model, wrong)


def test_what_cannot_be_measured_is_refused() -> None:
    model = layers()
    initial = {n: p.detach().clone() for n, p in ls.trainable(model).items()}
    with pytest.raises(UserError, match="got neither"):
        distance(model)
    with pytest.raises(UserError, match=r"without a\.weight and 0 more; add"):
        distance(model, {"b.weight": initial["b.weight"]})
    wrong = ls.Mask({"a.weight": torch.tensor([0])}, {"a.weight": (4, 1)}, 8)
    with pytest.raises(UserError, match=r"shape \(4, 1\), as the mask has it, got \(2, 2\)"):
        distance(model, initial, mask=wrong)


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (), (4,)])
def test_initial_values_of_another_shape_are_refused_not_broadcast(shape) -> None:
    model = layers()
    initial = {n: p.detach().clone() for n, p in model.named_parameters()}
    initial["b.weight"] = torch.zeros(shape)
    for measure in (distance, changes):
        with pytest.raises(UserError, match=r"b\.weight of shape \(2, 2\)"):
            measure(model, initial)
