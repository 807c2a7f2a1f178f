"""Suggested rates against closed forms: quadratics, their thresholds, invariances, noise."""

from __future__ import annotations

import dataclasses
import json
import math
from statistics import fmean, stdev

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import glue_folder, model_folder
from torch import Tensor, nn

import landscape as ls
from landscape.advisor import RateEvidence, measure_rates, one_step_optimum, recommend
from landscape.cli import main
from landscape.errors import UserError


def squares(scale: float = 1.0):
    """Half the squared error of a regression: the loss is quadratic, Hessian = Gauss-Newton."""

    def split(model: nn.Module, part: tuple[Tensor, Tensor]):
        x, y = part
        return model(x).squeeze(-1), lambda z: (scale * 0.5 * (z - y).square(), len(z))

    return split


def regression(features: int = 6, batches: int = 4, size: int = 8, seed: int = 0, noise: float = 0):
    """A linear model and batches of it in float64, each cut into two parts."""
    draw = torch.Generator().manual_seed(seed)
    model = nn.Linear(features, 1, bias=False).double()
    target = torch.ones(features, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.zeros(1, features))
    found = []
    for _ in range(batches):
        x = torch.randn(size, features, generator=draw, dtype=torch.float64)
        y = x @ target + noise * torch.randn(size, generator=draw, dtype=torch.float64)
        found.append([(x[: size // 2], y[: size // 2]), (x[size // 2 :], y[size // 2 :])])
    return model, found


def whole(batch: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([x for x, _ in batch]), torch.cat([y for _, y in batch])


def dense(batch: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The gradient at zero and the Hessian of a batch's mean loss, by their closed forms."""
    x, y = whole(batch)
    return -x.t() @ y / len(y), x.t() @ x / len(y)


def test_on_a_quadratic_no_other_rate_lowers_the_loss_more_in_one_signed_step() -> None:
    model, batches = regression(batches=1)
    found = measure_rates(model, batches * 3, optimizer="adamw", split=squares())
    best = one_step_optimum(found)
    x, y = whole(batches[0])
    sign = dense(batches[0])[0].sign()

    def loss(rate: float) -> float:
        return float((0.5 * (x @ (-rate * sign) - y).square()).mean())

    assert loss(best) < min(loss(0.99 * best), loss(1.01 * best), loss(0.0))
    g, H = dense(batches[0])
    assert best == pytest.approx(float(g.abs().sum() / (sign @ H @ sign)), rel=1e-9)
    assert recommend(found).sampling_error == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_slopes_and_curvatures_are_those_of_dense_matrices_batch_by_batch(optimizer) -> None:
    model, batches = regression(batches=4, noise=1.0)
    found = measure_rates(model, batches, optimizer=optimizer, split=squares())
    forms = [dense(batch) for batch in batches]
    mean = torch.stack([g for g, _ in forms]).mean(0)
    towards = torch.sign if optimizer == "adamw" else torch.clone
    for b, (g, _) in enumerate(forms):
        d = towards(g)
        assert found.slopes[b] == pytest.approx([float(d @ h) for h, _ in forms], rel=1e-9)
        after = forms[(b + 1) % 4][1]
        assert found.hessian[b] == pytest.approx(float(d @ after @ d), rel=1e-9)
        assert found.gauss_newton[b] == pytest.approx(found.hessian[b], rel=1e-9)
    d = towards(mean)
    assert found.mean_slope == pytest.approx(float(d @ mean), rel=1e-9)
    assert found.mean_hessian == pytest.approx([float(d @ H @ d) for _, H in forms], rel=1e-9)
    assert (found.count, found.examples) == (6, 32)


class Curved(nn.Module):
    """A network whose Hessian is not its Gauss-Newton matrix."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.inner = nn.Parameter(torch.randn(3, 2, generator=draw, dtype=torch.float64))
        self.outer = nn.Parameter(torch.randn(3, generator=draw, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.inner.t()) @ self.outer


def test_a_networks_curvatures_agree_with_the_dense_hessian_and_jacobian() -> None:
    model, (_, batches) = Curved(), regression(features=2, batches=3)
    found = measure_rates(model, batches, optimizer="sgd", split=squares())
    start = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def outputs(flat: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(x @ flat[:6].view(3, 2).t()) @ flat[6:]

    def loss(flat: Tensor, batch) -> Tensor:
        x, y = whole(batch)
        return 0.5 * (outputs(flat, x) - y).square().mean()

    derivative = torch.autograd.functional.jacobian
    gradients = [derivative(lambda t, b=b: loss(t, b), start) for b in batches]
    hessians = [
        torch.autograd.functional.hessian(lambda t, b=b: loss(t, b), start) for b in batches
    ]
    for b, g in enumerate(gradients):
        after = (b + 1) % 3
        J = derivative(lambda t, c=after: outputs(t, whole(batches[c])[0]), start)
        assert found.hessian[b] == pytest.approx(float(g @ hessians[after] @ g), rel=1e-7)
        assert found.gauss_newton[b] == pytest.approx(float((J @ g).square().mean()), rel=1e-7)
    top = float(torch.linalg.eigvalsh(sum(hessians) / 3)[-1])
    assert found.eigenvalue == pytest.approx(top, rel=1e-2)
    assert fmean(found.eigenvalue_parts) == pytest.approx(found.eigenvalue, rel=1e-6)


def test_gradient_descent_converges_just_below_the_measured_threshold_and_not_above() -> None:
    model, batches = regression(batches=3, size=16)
    found = recommend(measure_rates(model, batches, optimizer="sgd", split=squares()))
    g, H = (sum(form) / 3 for form in zip(*map(dense, batches), strict=True))
    assert found.reference == pytest.approx(2 / float(torch.linalg.eigvalsh(H)[-1]), rel=5e-3)
    for factor, converges in ((0.98, True), (1.02, False)):
        w = torch.zeros(6, dtype=torch.float64)
        for _ in range(2000):
            w = w - factor * found.reference * (g + H @ w)
        assert (float((g + H @ w).norm()) < 1e-6) is converges


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_adamws_rate_ignores_the_scale_of_the_loss_and_sgds_is_its_inverse(scale, seed) -> None:
    model, batches = regression(seed=seed, batches=3)
    for optimizer, power in (("adamw", 0), ("sgd", -1)):
        plain, scaled = (
            recommend(measure_rates(model, batches, optimizer=optimizer, split=squares(factor)))
            for factor in (1.0, scale)
        )
        assert scaled.good == pytest.approx(plain.good * scale**power, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-2, 1e2), seed=st.integers(0, 1000))
def test_rates_follow_a_change_of_the_weights_units(scale, seed) -> None:
    model, batches = regression(seed=seed, batches=3)
    stretched = [[(scale * x, y) for x, y in batch] for batch in batches]
    for optimizer, power in (("adamw", -1), ("sgd", -2)):
        plain, other = (
            recommend(measure_rates(model, given, optimizer=optimizer, split=squares()))
            for given in (batches, stretched)
        )
        assert other.good == pytest.approx(plain.good * scale**power, rel=1e-6)


def test_rotating_the_order_of_the_batches_changes_nothing() -> None:
    model, batches = regression(batches=5, noise=0.5)
    plain, turned = (
        recommend(measure_rates(model, given, split=squares()))
        for given in (batches, batches[2:] + batches[:2])
    )
    assert turned.good == pytest.approx(plain.good, rel=1e-9)
    assert turned.sampling_error == pytest.approx(plain.sampling_error, rel=1e-6)


def test_the_sampling_error_is_the_curvatures_spread_over_independent_draws() -> None:
    found = [
        measure_rates(*regression(batches=8, seed=s, noise=1.0), split=squares()) for s in range(60)
    ]
    spread = stdev(math.log10(fmean(e.mean_gauss_newton)) for e in found)
    # 60 draws know their spread to 10 %; the direction differs between draws as well
    assert 0.7 * spread < fmean(recommend(e).sampling_error for e in found) < 1.4 * spread


EVIDENCE = RateEvidence(
    optimizer="adamw", count=10, examples=24,
    slopes=[[5.0, 2.0, 2.0], [2.0, 5.0, 2.0], [2.0, 2.0, 5.0]],
    hessian=[4.0] * 3, gauss_newton=[4.0] * 3, mean_slope=3.0, mean_hessian=[4.0] * 3,
    mean_gauss_newton=[4.0] * 3, eigenvalue=None, residual=None, eigenvalue_parts=[], products=4,
)  # fmt: skip


def changed(**values: object) -> RateEvidence:
    return dataclasses.replace(EVIDENCE, **values)  # type: ignore[arg-type]


def test_doubts_are_said() -> None:
    assert recommend(EVIDENCE).notes == ()
    negative = recommend(changed(mean_hessian=[-1.0] * 3))
    assert negative.good == recommend(EVIDENCE).good
    assert "-1 by the Hessian, 4 by Gauss" in negative.notes[0]
    assert "40 by the Hessian" in recommend(changed(mean_hessian=[40.0] * 3)).notes[0]
    assert "note: " in str(negative)


def test_more_curvature_means_a_smaller_rate_and_more_spread_a_wider_interval() -> None:
    certain = recommend(EVIDENCE)
    steep = changed(mean_hessian=[8.0] * 3, mean_gauss_newton=[8.0] * 3)
    assert recommend(steep).good == pytest.approx(certain.good / 2)
    noisy = recommend(changed(mean_gauss_newton=[1.0, 4.0, 7.0]))
    assert noisy.good == pytest.approx(certain.good)
    assert noisy.sampling_error > certain.sampling_error == pytest.approx(0, abs=1e-12)
    assert noisy.interval[1] / noisy.interval[0] > certain.interval[1] / certain.interval[0]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("advisor")
    return model_folder(folder / "opt"), glue_folder(folder / "SST-2", train=40)


def load(tiny):
    model, tokenizer = ls.load_model(tiny[0])
    task = ls.load_task("sst2", source=tiny[1], num_train=24, num_dev=4, num_test=4)
    ls.attach(model, ls.random_mask(model, density=0.1, seed=0))
    return model, tokenizer, task


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_suggestion_leaves_the_model_bit_for_bit_as_it_was(tiny, optimizer) -> None:
    model, tokenizer, task = load(tiny)
    model.train()
    for parameter in ls.trainable(model).values():
        parameter.grad = torch.ones_like(parameter)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    found = ls.suggest_lr(model, tokenizer, task, optimizer=optimizer, examples=24, batch_size=8)
    assert 0 <= found.interval[0] < found.good < found.interval[1]
    assert found.good < found.largest_stable
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(bool((p.grad == 1).all()) for p in ls.trainable(model).values())
    assert model.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert "good rate" in str(found)
    assert "largest stable" in str(found)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"batch_size": 0}, "batch size"), ({"examples": 16}, "three batches"),
     ({"batch_size": 13}, "num_train"), ({"optimizer": "lion"}, "adamw or sgd")],
)  # fmt: skip
def test_a_mistake_is_answered_by_one_sentence(tiny, options, said) -> None:
    with pytest.raises(UserError, match=said):
        ls.suggest_lr(*load(tiny), **({"examples": 24} | options))


def test_what_has_no_rate_is_refused() -> None:
    model, batches = regression(batches=3)
    with pytest.raises(UserError, match="at least three batches"):
        measure_rates(model, batches[:2], split=squares())
    with pytest.raises(UserError, match="gradient"):
        measure_rates(model, [[(x, 0 * y) for x, y in b] for b in batches], split=squares())
    with pytest.raises(UserError, match="curvature"):
        recommend(changed(mean_gauss_newton=[0.0] * 3))
    with pytest.raises(UserError, match="positive largest"):
        recommend(changed(optimizer="sgd", eigenvalue=-1.0, residual=0.1))
    model.requires_grad_(False)
    with pytest.raises(UserError, match="trainable"):
        measure_rates(model, batches, split=squares())


def test_the_command_prints_lines_and_json_without_infinity(tiny, capsys) -> None:
    code = main([
        "suggest-lr", "--model", str(tiny[0]), "--task", "sst2", "--source", str(tiny[1]),
        "--density", "0.1", "--num-train", "24", "--num-dev", "4", "--num-test", "4",
        "--examples", "24", "--json",
    ])  # fmt: skip
    printed = capsys.readouterr().out
    assert code == 0
    result = json.loads(printed.strip().split("\n")[-1])
    assert result["optimizer"] == "adamw"
    assert result["good"] > 0
    assert "Infinity" not in printed
    assert "largest stable rate" in printed
