"""Slices of the loss: true displacements, the model in the middle, nothing altered."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.curvature import dense, net, regression_data, small_model, squares
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.tasks.batches import make_batches

DATA = regression_data()[:2]


def quadratic() -> nn.Module:
    """A linear regression, whose loss is a quadratic everywhere."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 1, bias=False)).double()


def loss_of(model: nn.Module) -> float:
    total, count = squares(model, DATA)
    return float(total.detach()) / count


def test_the_surface_of_a_quadratic_is_its_prediction_everywhere() -> None:
    model = quadratic()
    top = ls.lanczos(ls.HessianOperator(model, [DATA], loss=squares), k=2, tol=1e-10)
    surface = ls.surface_2d(
        model, [DATA], top.eigenvectors, span=3.0, points=7, loss=squares, predict=True
    )
    torch.testing.assert_close(surface.losses, surface.prediction, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(surface.curvature, torch.diag(top.eigenvalues), rtol=1e-7, atol=1e-9)
    x, y = DATA
    for i, a in enumerate(surface.axes[0]):
        for j, b in enumerate(surface.axes[1]):
            w = model[0].weight.detach()[0] + a * top.eigenvectors[:, 0]
            w = w + b * top.eigenvectors[:, 1]
            expected = float(0.5 * (x @ w - y).square().mean())
            assert float(surface.losses[i, j]) == pytest.approx(expected, rel=1e-9)


def test_the_prediction_of_a_network_is_its_taylor_polynomial() -> None:
    model = net()
    H = ls.HessianOperator(model, [DATA], loss=squares)
    direction = torch.randn(37, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u = direction / direction.norm()
    surface = ls.surface_1d(
        model, [DATA], direction, span=1e-2, points=5, loss=squares, predict=True
    )
    a = surface.axes[0]
    taylor = H.loss() + a * (H.gradient() @ u) + 0.5 * a**2 * (u @ dense(H) @ u)
    torch.testing.assert_close(surface.prediction, taylor, rtol=1e-12, atol=0)
    # the remainder is of third order: 1e-6 times a third derivative of order 10
    torch.testing.assert_close(surface.losses, taylor, rtol=0, atol=2e-5)
    assert not torch.allclose(surface.losses, surface.losses.new_tensor(H.loss()), atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_the_axes_are_true_displacements_whatever_the_directions_norm_and_angle(scale) -> None:
    model = net()
    start = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    seen = []

    def watching(m, batch):
        now = torch.cat([p.detach().reshape(-1) for p in m.parameters()])
        seen.append(float((now - start).norm()))
        return squares(m, batch)

    watching.in_batch = False  # two forwards that check the sum
    g = torch.Generator().manual_seed(0)
    first, other = torch.randn(2, 37, generator=g, dtype=torch.float64)
    surface = ls.surface_2d(
        model, [DATA], [scale * first, first + 0.1 * other], span=2.0, points=3, loss=watching
    )
    r = math.sqrt(8.0)
    assert surface.axes[0].tolist() == [-2.0, 0.0, 2.0]
    assert seen == pytest.approx([0, r, 2, r, 2, 2, r, 2, r], abs=1e-9)  # the centre first


def test_the_centre_is_the_models_own_loss_to_the_last_bit() -> None:
    model = net()
    surface = ls.surface_2d(
        model, [DATA], ls.random_directions(model), span=1.0, points=5, loss=squares
    )
    assert float(surface.losses[2, 2]) == surface.centre == loss_of(model)


def test_cells_that_are_not_finite_stay_what_they_are() -> None:
    """Another tool replaces them, and adds noise to the maximum."""
    model = quadratic()

    def breaking(m, batch):
        w = m[0].weight
        total, count = squares(m, batch)
        far = float((w - start).norm())
        return (total * math.nan if far > 1.5 else total / 0 if far > 0.5 else total), count

    start = model[0].weight.detach().clone()
    surface = ls.surface_1d(model, [DATA], torch.ones(4), span=2.0, points=5, loss=breaking)
    assert [str(float(v)) for v in surface.losses[[0, 1, 3, 4]]] == ["nan", "inf", "inf", "nan"]
    assert math.isfinite(surface.losses[2])
    assert "4 cells not finite" in repr(surface)


def masked_model(dtype=torch.float32) -> nn.Module:
    model = small_model("opt", dtype, scale=4.0)
    ls.attach(model, ls.random_mask(model, density=0.3, seed=2))
    with torch.no_grad():
        for n, p in enumerate(ls.trainable(model).values()):
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(n)))
    return model


def examples() -> list[dict]:
    rows = [
        ls.Example(prompt=t, candidates=(" terrible", " great"), label=i % 2)
        for i, t in enumerate(["a", "a film about war", "so it goes", "no"])
    ]
    return make_batches(rows, ls.tiny_tokenizer(), 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fails", [False, True])
def test_weights_and_mode_are_restored_bit_for_bit_also_after_an_exception(dtype, fails) -> None:
    model, batches = masked_model(dtype), examples()
    ls.task_loss(model, batches[0])  # writes theta into the weights
    model.train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    calls = []

    def loss(m, batch):
        assert not m.training
        calls.append(1)
        if fails and len(calls) == 9:
            raise KeyboardInterrupt
        return ls.task_loss(m, batch)

    directions = ls.random_directions(model)
    if fails:
        with pytest.raises(KeyboardInterrupt):
            ls.surface_2d(model, batches, directions, span=1.0, points=3, loss=loss)
    else:
        surface = ls.surface_2d(model, batches, directions, span=1.0, points=3, loss=loss)
        assert len(set(surface.losses.flatten().tolist())) == 9
    assert model.training
    after = model.state_dict()
    assert all(torch.equal(t, after[name]) for name, t in before.items())


def test_the_end_of_the_displacement_is_the_start_of_training() -> None:
    model, batches = masked_model(torch.float64), examples()
    way = ls.displacement(model)
    length = float(way.norm())
    assert ls.distance(model).l2 == pytest.approx(length)
    surface = ls.surface_1d(model, batches, way, span=length, points=3)
    ls.detach(model)
    sums = [ls.task_loss(model, batch) for batch in batches]
    initial = sum(float(s.detach()) for s, _ in sums) / sum(n for _, n in sums)
    assert float(surface.losses[0]) == pytest.approx(initial, rel=1e-9)
    assert abs(float(surface.losses[0]) - surface.centre) > 1e-6


@pytest.mark.parametrize("masked", [False, True])
def test_a_surface_inside_autocast_is_the_one_outside(masked) -> None:
    """Torch keeps the narrow copies of weights: every cell was the first one, 1.6237 x 5."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    data = tuple(t.float() for t in DATA)
    if masked:
        ls.attach(model, ls.random_mask(model, density=0.5, targets="*weight"))
    k = sum(p.numel() for p in ls.trainable(model).values())
    direction = torch.randn(k, generator=torch.Generator().manual_seed(0))
    start = {n: p.detach().clone() for n, p in model.state_dict().items()}
    end = {n: p + 0.1 if p.is_floating_point() else p for n, p in start.items()}

    def measured() -> list[float]:
        surface = ls.surface_1d(model, [data], direction, span=1.0, points=5, loss=squares)
        line = [] if masked else ls.interpolate(
            model, [data], start, end, points=5, loss=squares
        ).losses.tolist()  # fmt: skip
        return surface.losses.tolist() + line

    outside = measured()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        squares(model, data)  # fills the cache
        inside = measured()
        before = squares(model, data)[0]
    assert inside == outside
    assert len(set(inside)) > 4
    assert before.isfinite()


def test_random_directions_have_the_norms_of_the_filters_and_are_orthogonal() -> None:
    model = net()
    directions = ls.random_directions(model, 3, seed=0)
    first = directions[:, 0].split([24, 6, 6, 1])
    for piece, p in zip(first, model.parameters(), strict=True):
        rows = p.detach().reshape(p.shape[0], -1) if p.ndim > 1 else p.detach()[None]
        torch.testing.assert_close(
            piece.view_as(rows).norm(dim=1), rows.norm(dim=1), rtol=1e-12, atol=0
        )
    products = directions.t() @ directions
    assert float((products - torch.diag(products.diag())).abs().max()) < 1e-12
    assert not torch.equal(directions, ls.random_directions(model, 3, seed=1))
    assert torch.equal(directions, ls.random_directions(model, 3, seed=0))
    assert abs(float(directions.mean() / directions.std())) < 0.5  # not all of one sign


def test_in_a_mask_a_filter_is_the_masked_part_of_a_row_of_the_weight() -> None:
    model = masked_model(torch.float64)
    mask_rows, norms, place = {}, [], 0
    d = ls.random_directions(model, 1, seed=0)[:, 0]
    name = next(iter(ls.trainable(model)))
    ls.task_loss(model, examples()[0])
    weight = model.get_parameter(name).detach()
    at = model.get_submodule(name.rpartition(".")[0])._buffers["theta_weight_indices"]
    for j, index in enumerate(at.tolist()):
        mask_rows.setdefault(index // weight.shape[1], []).append(j)
    for row, members in mask_rows.items():
        columns = at[members] - row * weight.shape[1]
        norms.append((float(d[members].norm()), float(weight[row, columns].norm())))
        place += len(members)
    assert place == at.numel()
    for found, expected in norms:
        assert found == pytest.approx(expected, rel=1e-6)  # theta was added in float64


def test_cosines_of_the_update_are_the_hand_computed_ones() -> None:
    model = masked_model(torch.float64)
    way = ls.displacement(model)
    across = torch.zeros_like(way)
    across[0], across[1] = way[1], -way[0]
    vectors = torch.stack([way, -3 * way, across, way / way.norm() + across / across.norm()], 1)
    expected = torch.tensor([1.0, -1.0, 0.0, 0.5**0.5], dtype=torch.float64)
    torch.testing.assert_close(ls.cosines(model, vectors), expected, rtol=1e-12, atol=1e-12)
    basis = torch.eye(len(way), dtype=torch.float64)
    assert float(ls.cosines(model, basis).square().sum()) == pytest.approx(1.0)
    with pytest.raises(UserError, match=r"expected vectors of shape"):
        ls.cosines(model, torch.ones(3, 1))
    assert ls.distance(model).linf == float(way.abs().max())


def test_the_update_of_a_model_without_a_mask_needs_its_initial_values() -> None:
    model = net()
    initial = {n: p.detach().clone() for n, p in ls.trainable(model).items()}
    with torch.no_grad():
        model[0].weight[0, 0] += 2
    assert ls.displacement(model, initial)[0] == 2
    assert float(ls.cosines(model, torch.eye(37).double(), initial)[0]) == 1
    with pytest.raises(UserError, match="initial="):
        ls.displacement(model)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.booleans())
def test_the_distance_on_and_off_a_mask_is_that_of_the_dense_change(seed, density, masked) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = net()
    names = ["0.weight", "2.weight"]

    def draw(share: float) -> ls.Mask:
        chosen = {n: torch.rand(model.get_parameter(n).shape, generator=generator) < share
                  for n in names}  # fmt: skip
        indices = {n: c.flatten().nonzero()[:, 0] for n, c in chosen.items()}
        shapes = {n: tuple(c.shape) for n, c in chosen.items()}
        return ls.Mask(indices, shapes, 37, {"kind": "given"})

    initial = {n: p.detach().clone() for n, p in model.named_parameters()}
    asked = draw(density)
    if masked:
        ls.attach(model, draw(0.5))
    with torch.no_grad():
        for p in ls.trainable(model).values():
            p.add_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    found = ls.distance(model, None if masked else initial, mask=asked)
    if masked:
        ls.subspace.synchronise(model)
    change = {n: (model.get_parameter(n).detach() - w).flatten() for n, w in initial.items()}
    on = sum(float(change[n][i].square().sum()) for n, i in asked.indices.items())
    all_of_it = sum(float(c.square().sum()) for c in change.values())
    assert found.on_mask == pytest.approx(on**0.5, rel=1e-9, abs=1e-12)
    assert found.off_mask == pytest.approx(max(all_of_it - on, 0) ** 0.5, rel=1e-6, abs=1e-6)
    assert found.l2**2 == pytest.approx(found.on_mask**2 + found.off_mask**2)
    plain = ls.distance(model, None if masked else initial)
    assert (plain.on_mask, plain.off_mask) == (None, None)


def test_a_mask_of_another_model_has_no_distance() -> None:
    model = net()
    initial = {n: p.detach().clone() for n, p in model.named_parameters()}
    other = ls.Mask({"0.weight": torch.arange(3)}, {"0.weight": (9, 9)}, 90, {"kind": "given"})
    with pytest.raises(UserError, match=r"expected 0.weight of shape \(9, 9\)"):
        ls.distance(model, initial, mask=other)


def test_results_give_their_first_directions_and_each_axis_its_span() -> None:
    model = net()
    top = ls.lanczos(H_of(model), k=3, tol=1e-6)
    options = {"points": 3, "loss": squares}
    found = ls.surface_2d(model, [DATA], top, span=(0.5, 2.0), **options)
    columns = ls.surface_2d(model, [DATA], top.eigenvectors[:, :2], span=[0.5, 2.0], **options)
    assert [axis.tolist() for axis in found.axes] == [[-0.5, 0, 0.5], [-2, 0, 2]]
    assert torch.equal(found.losses, columns.losses)
    line = ls.surface_1d(model, [DATA], top, span=0.5, **options)
    torch.testing.assert_close(line.losses, found.losses[:, 1])
    pca = ls.PrincipalDirections(top.eigenvectors, torch.ones(3))
    assert torch.equal(ls.surface_2d(model, [DATA], pca, span=(0.5, 2), **options).losses,
                       found.losses)  # fmt: skip
    for bad in ((1.0,), (1.0, 0.0), (1.0, 1.0, 1.0)):
        with pytest.raises(UserError, match="a positive span, or 2 of them"):
            ls.surface_2d(model, [DATA], top, span=bad, **options)
    with pytest.raises(UserError, match="expected 2 directions"):
        ls.surface_2d(model, [DATA], ls.lanczos(H_of(model), k=1, tol=1e-2), span=1.0, **options)


def H_of(model: nn.Module) -> ls.HessianOperator:
    return ls.HessianOperator(model, [DATA], loss=squares)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"points": 4}, "odd number of points, at least 3, got 4"),
        ({"points": 1}, "odd number of points"),
        ({"span": 0.0}, "a positive span, or 2 of them, got 0"),
        ({"span": math.inf}, "a positive span, or 2 of them, got inf"),
        ({"directions": torch.ones(37, 2)}, "not parallel"),
        ({"directions": torch.zeros(37, 2)}, "not zero"),
        ({"directions": torch.full((37, 2), math.nan)}, "finite"),
        (
            {"directions": torch.ones(36, 2)},
            r"directions of 37 trainable parameters, got shape \(36, 2\)",
        ),
        ({"batches": []}, "at least one batch"),
    ],
)
def test_arguments_out_of_range_are_refused(change, words) -> None:
    model = net()
    given = {"batches": [DATA], "directions": ls.random_directions(model), "span": 1.0}
    with pytest.raises(UserError, match=words):
        ls.surface_2d(model, loss=squares, **(given | change))


def test_more_directions_than_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="between 1 and 4 directions, got 5"):
        ls.random_directions(quadratic(), 5)
