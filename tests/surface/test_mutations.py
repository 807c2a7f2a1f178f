"""Break what a surface promises, one thing at a time, and see the check notice."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import pytest
import torch
from oracles.curvature import regression_data
from torch import Tensor, nn

import landscape as ls
from landscape.surface import scan

X, Y = regression_data()[:2]


def loss(model: nn.Module, batch: Tensor) -> tuple[Tensor, int]:
    """Squared errors, NaN where the first weight has grown by more than one."""
    w = model[0].weight
    total = 0.5 * (model(X)[:, 0] - Y).square().sum()
    return total * (math.nan if w[0, 0] > batch + 1 else 1), len(X)


def check() -> None:
    """Compare a surface with the closed form of a linear regression, cell by cell."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Dropout(0.5)).double()
    before = model[0].weight.detach().clone()
    directions = torch.randn(4, 2, dtype=torch.float64)
    surface = ls.surface_2d(
        model, [before[0, 0]], directions, span=[3.0, 2.0], points=7, loss=loss, predict=False
    )
    first = directions[:, 0] / directions[:, 0].norm()
    second = directions[:, 1] - (directions[:, 1] @ first) * first
    second = second / second.norm()
    expected = torch.empty(7, 7, dtype=torch.float64)
    for i, a in enumerate(torch.linspace(-3, 3, 7, dtype=torch.float64)):
        for j, b in enumerate(torch.linspace(-2, 2, 7, dtype=torch.float64)):
            w = before[0] + a * first + b * second
            value = 0.5 * (X @ w - Y).square().mean()
            expected[i, j] = math.nan if w[0] > before[0, 0] + 1 else value
    assert 0 < int(expected.isnan().sum()) < 40
    torch.testing.assert_close(surface.losses, expected, rtol=1e-10, atol=0, equal_nan=True)
    torch.testing.assert_close(torch.tensor(surface.centre).double(), expected[3, 3])
    assert torch.equal(model[0].weight, before)
    assert model.training


def wrong_scale(monkeypatch) -> None:
    honest = scan.orthonormal
    monkeypatch.setattr(scan, "orthonormal", lambda *a: [1.01 * u for u in honest(*a)])


def not_orthogonal(monkeypatch) -> None:
    def only_unit(directions: Tensor, size: int) -> list[Tensor]:
        return [u / u.norm() for u in directions.unbind(1)]

    monkeypatch.setattr(scan, "orthonormal", only_unit)


def wrong_centre(monkeypatch) -> None:
    honest = scan.flat
    monkeypatch.setattr(scan, "flat", lambda tensors: honest(tensors) + 1e-3)


def unrestored(monkeypatch) -> None:
    @contextlib.contextmanager
    def forgetting(model, parameters):
        def move(values: Tensor) -> None:
            with torch.no_grad():
                parameters[0].copy_(values.view_as(parameters[0]))

        model.eval()
        yield move
        model.train()

    monkeypatch.setattr(scan, "moving", forgetting)


def swallowed_nan(monkeypatch) -> None:
    filled = scan.fill
    monkeypatch.setattr(scan, "fill", lambda *a: filled(*a).nan_to_num(9.0))


def swapped_axes(monkeypatch) -> None:
    filled = scan.fill
    monkeypatch.setattr(scan, "fill", lambda *a: filled(*a).t())


def noisy_mode(monkeypatch) -> None:
    monkeypatch.setattr(nn.Module, "eval", lambda self: self)


MUTATIONS: list[Callable] = [
    wrong_scale, not_orthogonal, wrong_centre, unrestored, swallowed_nan, swapped_axes, noisy_mode
]  # fmt: skip


def test_an_honest_surface_passes() -> None:
    check()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
def test_a_broken_one_is_caught(mutation, monkeypatch) -> None:
    mutation(monkeypatch)
    with pytest.raises(AssertionError):
        check()
