"""The line between two deltas: its ends are the two models, its masks' union is its space."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.curvature import net, regression_data, squares
from torch import nn

import landscape as ls
from landscape.errors import UserError

DATA = regression_data()[:2]


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 1, bias=False)).double()


def made(model: nn.Module, indices: list[int], values: list[float], name="0.weight") -> ls.Delta:
    shape = tuple(model.get_parameter(name).shape)
    total = sum(p.numel() for p in model.parameters())
    at = torch.tensor(sorted(indices))
    ls.attach(model, ls.Mask({name: at}, {name: shape}, total, {"kind": "given"}))
    with torch.no_grad():
        ls.trainable(model)[name].copy_(torch.tensor(values))
    change = ls.delta(model)
    ls.detach(model)
    return change


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, unique=True),
    st.lists(st.integers(0, 3), min_size=1, unique=True),
    st.lists(st.floats(-3, 3), min_size=8, max_size=8),
)
def test_the_curve_of_a_linear_regression_is_its_closed_form(first, second, values) -> None:
    model = linear()
    a = made(model, first, values[: len(first)])
    b = made(model, second, values[4 : 4 + len(second)])
    s, e = torch.zeros(4).double(), torch.zeros(4).double()
    s[sorted(first)], e[sorted(second)] = (d.values["0.weight"].double() for d in (a, b))
    length = float((e - s).norm())
    if length == 0:
        with pytest.raises(UserError, match="two ends at a finite distance"):
            ls.interpolate(model, [DATA], a, b, loss=squares)
        return
    curve = ls.interpolate(model, [DATA], a, b, points=7, loss=squares)
    x, y = DATA
    w = model[0].weight.detach()[0]
    losses = [
        float(0.5 * (x @ (w + (1 - t) * s + t * e) - y).square().mean())
        for t in torch.linspace(0, 1, 7, dtype=torch.float64)
    ]
    torch.testing.assert_close(
        curve.losses, torch.tensor(losses, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(curve.axes[0], torch.linspace(0, length, 7, dtype=torch.float64))
    assert curve.barrier == pytest.approx(0, abs=1e-9)  # a convex loss has none
    assert curve.centre == curve.losses[0]


def test_the_barrier_is_the_height_above_the_straight_line_between_the_ends() -> None:
    def double_well(m, batch):
        w = m(batch).squeeze()
        return (w**2 - 1) ** 2 + 0.5 * w, 1

    model = linear()
    with torch.no_grad():
        model[0].weight.zero_()
    a, b = made(model, [0], [-1.0]), made(model, [0], [1.0])
    unit = torch.eye(1, 4).double()
    curve = ls.interpolate(model, [unit], a, b, points=5, loss=double_well)
    assert curve.axes[0].tolist() == [0, 0.5, 1, 1.5, 2]
    assert curve.losses.tolist() == [-0.5, 0.5625 - 0.25, 1, 0.5625 + 0.25, 0.5]
    assert curve.barrier == 1.0
    bad = ls.interpolate(
        model, [unit], a, b, points=5,
        loss=lambda m, x: (m(x).sum() * (math.nan if m(x).sum() == 0 else 1), 1),
    )  # fmt: skip
    assert math.isnan(bad.barrier)
    assert [bool(v) for v in bad.losses.isnan()] == [False, False, True, False, False]
    directions = torch.eye(4, 2).double()
    plane = ls.surface_2d(model, [DATA], directions, span=1.0, points=3, loss=squares)
    with pytest.raises(UserError, match="expected a curve"):
        _ = plane.barrier


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_ends_are_the_two_models_to_the_last_bit_and_the_model_stays_what_it_was(
    tmp_path, attached, fails, dtype
) -> None:
    torch.manual_seed(0)
    model = ls.tiny_model("opt").to(dtype)
    base = {n: p.detach().clone() for n, p in model.named_parameters()}
    seen, files = [], []
    for seed in (1, 2):
        ls.attach(model, ls.random_mask(model, density=0.2, seed=seed))
        with torch.no_grad():
            for n, p in enumerate(ls.trainable(model).values()):
                p.copy_(
                    torch.randn(p.shape, generator=torch.Generator().manual_seed(10 * seed + n))
                )
        ls.subspace.synchronise(model)
        seen.append({n: model.get_parameter(n).detach().clone() for n in base})
        files.append(ls.save_delta(model, tmp_path / f"{seed}.safetensors"))
        ls.detach(model)
    if attached:
        ls.load_delta(model, files[0])
    model.train()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    calls = []

    def loss(m, batch):
        assert not m.training
        ls.subspace.synchronise(m)
        calls.append({n: m.get_parameter(n).detach().clone() for n in base})
        if fails and len(calls) == 3:
            raise KeyboardInterrupt
        return torch.tensor(1.0), 1

    arguments = (model, [None], files[0], ls.read_delta(model, files[1]))
    if fails:
        with pytest.raises(KeyboardInterrupt):
            ls.interpolate(*arguments, points=4, loss=loss)
    else:
        ls.interpolate(*arguments, points=4, loss=loss)
        for n in base:
            assert torch.equal(calls[0][n], seen[0][n])
            assert torch.equal(calls[-1][n], seen[1][n])
        assert any(not torch.equal(calls[1][n], seen[0][n]) for n in base)
    assert model.training
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(t, after[n]) for n, t in before.items())
    if attached:
        ls.detach(model)
    assert all(torch.equal(t, model.get_parameter(n)) for n, t in base.items())


def test_an_interrupted_line_goes_on_where_it_stopped(tmp_path) -> None:
    model, calls = linear(), []
    a, b = made(model, [0, 1], [1.0, 2.0]), made(model, [1, 3], [-1.0, 0.5])

    def counting(m, batch):
        calls.append(1)
        return squares(m, batch)

    counting.in_batch = False  # two forwards that check the sum

    def stop(done: int, total: int) -> None:
        assert total == 6
        if done == 3:
            raise KeyboardInterrupt

    options = {"points": 6, "loss": counting, "folder": tmp_path / "line"}
    with pytest.raises(KeyboardInterrupt):
        ls.interpolate(model, [DATA], a, b, **options, progress=stop)
    curve = ls.interpolate(model, [DATA], a, b, **options)
    assert len(calls) == 3 + (1 + 3)
    whole = ls.interpolate(model, [DATA], a, b, points=6, loss=squares)
    assert torch.equal(curve.losses, whole.losses)
    with pytest.raises(UserError, match="another configuration"):
        ls.interpolate(model, [DATA], a, 2.0 * b, **options)


def test_deltas_of_another_base_and_arguments_out_of_range_are_refused() -> None:
    model = linear()
    a, b = made(model, [0], [1.0]), made(model, [1], [1.0])
    with pytest.raises(UserError, match="at least 2, got 1"):
        ls.interpolate(model, [DATA], a, b, points=1, loss=squares)
    with pytest.raises(UserError, match="at least one batch"):
        ls.interpolate(model, [], a, b, loss=squares)
    with torch.no_grad():
        model[0].weight.add_(1)
    with pytest.raises(UserError, match="another base model"):
        ls.interpolate(model, [DATA], a, b, loss=squares)
    assert ls.trainable(model).keys() == {"0.weight"}
    assert len(list(net().parameters())) == 4


def normed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 1)).double()


def test_the_line_between_two_state_dicts_is_the_loss_of_the_mixed_weights() -> None:
    """Buffers too; the oracle loads each mixture into a model of its own."""
    first, second, model = normed(), normed(), normed()
    second(DATA[0] + 1)  # statistics, and how many batches they are of
    with torch.no_grad():
        for number, p in enumerate(second.parameters()):
            p.add_(0.1 * (number + 1))
    ends = (first.state_dict(), second.state_dict())
    before = {n: t.clone() for n, t in model.state_dict().items()}
    model.train()
    curve = ls.interpolate(model, [DATA], *ends, points=5, loss=squares)
    oracle = normed().eval()
    for t, value in zip((0, 0.25, 0.5, 0.75, 1), curve.losses, strict=True):
        mixed = {n: (1 - t) * a + t * ends[1][n] if a.is_floating_point() else a
                 for n, a in ends[0].items()}  # fmt: skip
        oracle.load_state_dict(mixed)
        assert float(value) == pytest.approx(
            float(squares(oracle, DATA)[0].detach()) / 11, rel=1e-12
        )
    a, b = (torch.nn.utils.parameters_to_vector(m.parameters()) for m in (first, second))
    assert float(curve.axes[0][-1]) == pytest.approx(float((b - a).norm().detach()))
    assert model.training
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_a_line_between_states_resumes_and_refuses_others(tmp_path) -> None:
    first, second = normed(), normed()
    with torch.no_grad():
        second[0].weight.add_(1)
    ends = [m.state_dict() for m in (first, second)]
    options = {"points": 3, "loss": squares, "folder": tmp_path / "line"}

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ls.interpolate(first, [DATA], *ends, **options, progress=stop)
    curve = ls.interpolate(first, [DATA], *ends, **options)
    whole = ls.interpolate(first, [DATA], *ends, points=3, loss=squares)
    assert torch.equal(curve.losses, whole.losses)
    third = ends[1] | {"0.bias": ends[1]["0.bias"] + 1e-6}
    with pytest.raises(UserError, match="another configuration"):
        ls.interpolate(first, [DATA], ends[0], third, **options)
    for bad, words in (
        ({n: t for n, t in ends[1].items() if n != "0.bias"}, r"differs in 0\.bias"),
        (ends[1] | {"0.bias": torch.ones(2)}, r"differs in 0\.bias"),
        (ends[0], "finite distance"),
        (made(linear(), [0], [1.0]), "one of each"),
    ):
        with pytest.raises(UserError, match=words):
            ls.interpolate(first, [DATA], ends[0], bad, points=3, loss=squares)
    masked = linear()
    ls.attach(masked, ls.random_mask(masked, density=0.5, targets="*weight"))
    with pytest.raises(UserError, match="without a mask"):
        ls.interpolate(masked, [DATA], masked.state_dict(), masked.state_dict(), loss=squares)
