"""Surfaces that were interrupted or damaged go on where they stopped, or are refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from oracles.curvature import net, regression_data, squares
from torch import nn

import landscape as ls
from landscape.errors import UserError

DATA = regression_data()[:2]


def test_an_interrupted_surface_goes_on_where_it_stopped(tmp_path) -> None:
    model, calls = net(), []

    def counting(m, batch):
        calls.append(1)
        total, count = squares(m, batch)
        far = float((m[0].weight - weight).norm()) > 0.6
        return (total * math.nan if far else total), count

    counting.in_batch = False  # two forwards that check the sum
    weight = model[0].weight.detach().clone()

    def stop(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    directions = ls.random_directions(model, seed=1)
    settings = {"span": 1.0, "points": 5, "loss": counting}
    whole = ls.surface_2d(model, [DATA], directions, **settings)
    assert len(calls) == 25  # the centre comes first
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        ls.surface_2d(model, [DATA], directions, **settings, folder=tmp_path / "s", progress=stop)
    again = ls.surface_2d(model, [DATA], directions, **settings, folder=tmp_path / "s")
    assert len(calls) == (1 + 7) + (1 + 17)  # the centre each time
    assert torch.equal(whole.losses.nan_to_num(-1), again.losses.nan_to_num(-1))
    assert again.losses.isnan().any()
    for changed in ({"span": 2.0}, {"points": 7}):
        with pytest.raises(UserError, match="another configuration"):
            ls.surface_2d(model, [DATA], directions, **(settings | changed), folder=tmp_path / "s")
    other = ls.random_directions(model, seed=2)
    with pytest.raises(UserError, match="another configuration"):
        ls.surface_2d(model, [DATA], other, **settings, folder=tmp_path / "s")
    with torch.no_grad():
        model[2].bias += 1
    with pytest.raises(UserError, match="another configuration"):
        ls.surface_2d(model, [DATA], directions, **settings, folder=tmp_path / "s")


@dataclass
class Pair:
    """A batch as users write one."""

    x: Any
    y: Any


@pytest.mark.parametrize("batch", [Pair, lambda x, y: {"all": (x.numpy(), y.numpy())}])
def test_a_folder_of_other_data_is_refused_whatever_a_batch_is_made_of(batch, tmp_path) -> None:
    def loss(m: nn.Module, given: Any) -> Any:
        x, y = (given.x, given.y) if isinstance(given, Pair) else given["all"]
        return squares(m, (torch.as_tensor(x), torch.as_tensor(y)))

    model, (x, y) = net(), DATA
    directions, folder = ls.random_directions(model, seed=1), tmp_path / "s"
    settings = {"span": 1.0, "points": 3, "loss": loss, "folder": folder}
    found = ls.surface_2d(model, [batch(x, y)], directions, **settings)
    same = ls.surface_2d(model, [batch(x.clone(), y.clone())], directions, **settings)
    assert torch.equal(found.losses, same.losses)
    with torch.no_grad():  # residuals of the other sign: the same loss at the centre
        other = 2 * model(x).reshape(y.shape) - y
    with pytest.raises(UserError, match="another configuration"):
        ls.surface_2d(model, [batch(x, other)], directions, **settings)


@pytest.mark.parametrize(
    ("name", "content"),
    [("cells.json", b"["), ("cells.json", b"[]"), ("cells.json", b'{"0 0": 1.0}'),
     ("cells.json", b'{"0 0": "one"}'), ("cells.json", b'{"0 0": []}'), ("cells.json", None),
     ("frame.safetensors", b""), ("frame.safetensors", b"nothing"), ("frame.safetensors", None),
     ("config.json", b"{}"), ("config.json", None)],
)  # fmt: skip
def test_a_damaged_file_of_a_surface_is_refused_in_a_sentence(tmp_path, name, content) -> None:
    model = net()
    arguments = model, [DATA], ls.random_directions(model, seed=1)
    settings = {"span": 1.0, "points": 3, "loss": squares, "folder": tmp_path}
    ls.surface_2d(*arguments, **settings)
    whole = (tmp_path / name).read_bytes()
    flipped = bytearray(whole[:-1] if whole.endswith(b"\n") else whole)
    flipped[-2] ^= 64
    (tmp_path / name).write_bytes(flipped if content is None else content)
    with pytest.raises(UserError, match=r"cells\.json|frame\.safetensors|config\.json|another"):
        ls.surface_2d(*arguments, **settings)


def test_a_surface_goes_on_where_sums_come_out_in_other_last_bits(tmp_path) -> None:
    """As with another number of threads: the folder's own directions, axes and centre are used."""
    model, calls = net(), []

    def scaled(by: float):
        def loss(m, batch):
            calls.append(1)
            total, count = squares(m, batch)
            return total * by, count

        loss.in_batch = False
        return loss

    def stop(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    directions = ls.random_directions(model, seed=1)
    noise = 1e-6 * torch.randn(directions.shape, generator=torch.Generator().manual_seed(0))
    options = {"points": 5, "folder": tmp_path / "s"}
    whole = ls.surface_2d(model, [DATA], directions, span=1.0, points=5, loss=scaled(1.0))
    with pytest.raises(KeyboardInterrupt):
        ls.surface_2d(
            model, [DATA], directions, span=1.0, loss=scaled(1.0), progress=stop, **options
        )
    calls.clear()
    again = ls.surface_2d(
        model, [DATA], directions + noise, span=1.0 + 1e-7, loss=scaled(1 + 1e-9), **options
    )
    assert len(calls) == 1 + 14  # the centre, and all cells that are left but its own
    assert again.centre == whole.centre
    assert all(torch.equal(a, b) for a, b in zip(again.axes, whole.axes, strict=True))
    assert torch.equal(again.losses.flatten()[:10], whole.losses.flatten()[:10])
    torch.testing.assert_close(again.losses, whole.losses, rtol=2e-9, atol=0)  # one exact plane
    finished = ls.surface_2d(model, [DATA], directions, span=1.0, loss=scaled(1.0), **options)
    assert torch.equal(finished.losses, again.losses)
    shuffled = tuple(t.flip(0) for t in DATA)  # of the same mean loss
    for changed in (
        {"batches": [shuffled]}, {"loss": scaled(1.01)}, {"directions": directions.flip(1)},
        {"span": 1.01},
    ):  # fmt: skip
        given = {"batches": [DATA], "directions": directions, "span": 1.0, "loss": scaled(1.0)}
        with pytest.raises(UserError, match="another configuration"):
            ls.surface_2d(model, **(given | changed), **options)


def test_a_surface_resumes_with_another_number_of_threads(tmp_path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(400, 300)
    x = torch.randn(64, 400)
    directions, threads = ls.random_directions(model, seed=1), torch.get_num_threads()

    def loss(m, x):
        return m(x).square().sum(), len(x)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    options = {"span": 1.0, "points": 3, "loss": loss, "folder": tmp_path / "s"}
    try:
        torch.set_num_threads(1)
        with pytest.raises(KeyboardInterrupt):
            ls.surface_2d(model, [x], directions, progress=stop, **options)
        torch.set_num_threads(2)
        surface = ls.surface_2d(model, [x], directions, **options)
    finally:
        torch.set_num_threads(threads)
    assert surface.losses.isfinite().all()
