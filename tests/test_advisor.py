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
from scipy import stats
from torch import Tensor, nn

import landscape as ls
from landscape.advisor import CALIBRATION, RateEvidence, matching_step, measure_rates, recommend
from landscape.cli import main
from landscape.errors import UserError


def squares(scale: float = 1.0):
    """Half the squared error of a regression: the loss is quadratic, Hessian = Gauss-Newton."""

    def split(model: nn.Module, part: tuple[Tensor, Tensor]):
        x, y = part
        return model(x).squeeze(-1), lambda z: (scale * 0.5 * (z - y).square(), len(z))

    return split


def regression(
    features: int = 6, batches: int = 4, size: int = 8, seed: int = 0, noise: float = 0,
    start: float = 0.5,
):  # fmt: skip
    """A linear model and batches of it in float64, each in two parts."""
    draw = torch.Generator().manual_seed(seed)
    model = nn.Linear(features, 1, bias=False).double()
    target = torch.ones(features, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(start * torch.linspace(-1, 1, features, dtype=torch.float64)[None])
    found = []
    for _ in range(batches):
        x = torch.randn(size, features, generator=draw, dtype=torch.float64)
        y = x @ target + noise * torch.randn(size, generator=draw, dtype=torch.float64)
        found.append([(x[: size // 2], y[: size // 2]), (x[size // 2 :], y[size // 2 :])])
    return model, found


def whole(batch: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([x for x, _ in batch]), torch.cat([y for _, y in batch])


def dense(batch: list[tuple[Tensor, Tensor]], w: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient at w and the Hessian of a batch's mean loss, by their closed forms."""
    x, y = whole(batch)
    return x.t() @ (x @ w - y) / len(y), x.t() @ x / len(y)


def variance(parts: list[Tensor]) -> float:
    """The pooled variance within parts."""
    squares = sum(float((z - z.mean()).square().sum()) for z in parts)
    return squares / sum(len(z) - 1 for z in parts)


def test_a_step_at_the_reference_moves_examples_apart_by_what_they_differ() -> None:
    model, batches = regression(noise=1.0)
    w = model.weight.detach()[0].clone()
    found = measure_rates(model, batches, split=squares())
    signs = [dense(batch, w)[0].sign() for batch in batches]
    for batch, sign, change in zip(batches, signs, found.changes, strict=True):
        assert change == pytest.approx(variance([x @ sign for x, _ in batch]), rel=1e-9)
    outputs = [x @ w for batch in batches for x, _ in batch]
    assert found.spread == pytest.approx(variance(outputs), rel=1e-9)
    rate = matching_step(found)
    moved = [
        variance([x @ (w - rate * sign) - x @ w for x, _ in batch])
        for batch, sign in zip(batches, signs, strict=True)
    ]
    assert fmean(moved) == pytest.approx(found.spread, rel=1e-9)
    assert (found.count, found.examples, found.products) == (6, 32, 1)


def test_what_all_examples_share_does_not_count() -> None:
    model, batches = regression(noise=1.0)
    plain = measure_rates(model, batches, split=squares())
    shifted = nn.Linear(7, 1, bias=False).double()
    with torch.no_grad():
        shifted.weight.copy_(torch.cat([model.weight, torch.zeros(1, 1)], dim=1))
    constant = [
        [(torch.cat([x, 100 * torch.ones(len(x), 1)], dim=1), y) for x, y in batch]
        for batch in batches
    ]
    found = measure_rates(shifted, constant, split=squares())
    assert found.changes == pytest.approx(plain.changes, rel=1e-9)
    assert found.spread == pytest.approx(plain.spread, rel=1e-9)


def test_parts_of_unequal_length_are_pooled_and_a_single_example_adds_nothing() -> None:
    model, ((first, second), *others) = regression(batches=3, size=12)
    pooled = [first, (second[0][:1], second[1][:1])]
    found = measure_rates(model, [pooled, *others], split=squares())
    sign = dense(pooled, model.weight.detach()[0])[0].sign()
    assert found.changes[0] == pytest.approx(variance([first[0] @ sign]), rel=1e-9)


def choices(values: float):
    """Cross-entropy over three candidates, of which the odd examples have only two."""

    def split(model: nn.Module, part: tuple[Tensor, Tensor]):
        x, labels = part
        absent = torch.zeros(len(x), 3, dtype=torch.bool)
        absent[1::2, 2] = True
        z = torch.where(absent, values + 0 * model(x), model(x))

        def loss(z: Tensor):
            scores = z.masked_fill(absent, -torch.inf)
            return nn.functional.cross_entropy(scores, labels, reduction="none"), len(labels)

        return z, loss

    return split


def test_candidates_are_compared_with_each_other_and_absent_ones_ignored() -> None:
    draw = torch.Generator().manual_seed(4)
    model = nn.Linear(5, 3, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, 5, generator=draw))
    batches = [
        [(torch.randn(4, 5, generator=draw).double(), torch.tensor([0, 1, 2, 0]))] for _ in range(3)
    ]
    found, other = (measure_rates(model, batches, split=choices(v)) for v in (0.0, 1e3))
    assert found == other
    spread = 0.0
    for ((x, _),) in batches:
        z = x @ model.weight.detach().t()
        first_two = z[:, :2] - z[:, :2].mean(0)
        third = z[::2, 2] - z[::2, 2].mean()
        wide = torch.cat([first_two[::2], third[:, None]], dim=1)
        # the variance over the candidates of each example, uniform over those that it has
        spread += float(
            wide.var(1, correction=0).sum() + first_two[1::2].var(1, correction=0).sum()
        )
    assert found.spread == pytest.approx(spread / 3 / 3, rel=1e-9)


class Curved(nn.Module):
    """A network whose Hessian is not its Gauss-Newton matrix."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.inner = nn.Parameter(torch.randn(3, 2, generator=draw, dtype=torch.float64))
        self.outer = nn.Parameter(torch.randn(3, generator=draw, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.inner.t()) @ self.outer


def test_a_networks_figures_agree_with_its_dense_jacobian_and_hessian() -> None:
    model, (_, batches) = Curved(), regression(features=2, batches=3)
    found = measure_rates(model, batches, split=squares())
    threshold = measure_rates(model, batches, optimizer="sgd", split=squares())
    start = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def outputs(flat: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(x @ flat[:6].view(3, 2).t()) @ flat[6:]

    def loss(flat: Tensor, batch) -> Tensor:
        x, y = whole(batch)
        return 0.5 * (outputs(flat, x) - y).square().mean()

    derivative = torch.autograd.functional.jacobian
    for batch, change in zip(batches, found.changes, strict=True):
        sign = derivative(lambda t, b=batch: loss(t, b), start).sign()
        moved = [derivative(lambda t, x=x: outputs(t, x), start) @ sign for x, _ in batch]
        assert change == pytest.approx(variance(moved), rel=1e-7)
    hessians = [
        torch.autograd.functional.hessian(lambda t, b=b: loss(t, b), start) for b in batches
    ]
    top = float(torch.linalg.eigvalsh(sum(hessians) / 3)[-1])
    assert threshold.eigenvalue == pytest.approx(top, rel=1e-2)
    assert fmean(threshold.eigenvalue_parts) == pytest.approx(threshold.eigenvalue, rel=1e-6)


def test_gradient_descent_converges_just_below_the_measured_threshold_and_not_above() -> None:
    model, batches = regression(batches=3, size=16, start=0.0)
    found = recommend(measure_rates(model, batches, optimizer="sgd", split=squares()))
    forms = [dense(batch, torch.zeros(6, dtype=torch.float64)) for batch in batches]
    g, H = (sum(form) / 3 for form in zip(*forms, strict=True))
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
    other, _ = regression(seed=seed, batches=3, start=0.5 / scale)  # the same function
    stretched = [[(scale * x, y) for x, y in batch] for batch in batches]
    for optimizer, power in (("adamw", -1), ("sgd", -2)):
        plain, changed = (
            recommend(measure_rates(m, given, optimizer=optimizer, split=squares()))
            for m, given in ((model, batches), (other, stretched))
        )
        assert changed.good == pytest.approx(plain.good * scale**power, rel=1e-6)


def test_rotating_the_order_of_the_batches_changes_nothing() -> None:
    model, batches = regression(batches=5, noise=0.5)
    plain, rotated = (
        recommend(measure_rates(model, given, split=squares()))
        for given in (batches, batches[2:] + batches[:2])
    )
    assert rotated.good == pytest.approx(plain.good, rel=1e-9)
    assert rotated.sampling_error == pytest.approx(plain.sampling_error, rel=1e-6)


def test_the_sampling_error_is_the_spread_of_the_change_over_independent_draws() -> None:
    found = [
        measure_rates(*regression(batches=8, seed=s, noise=1.0), split=squares()) for s in range(80)
    ]
    spread = stdev(0.5 * math.log10(fmean(e.changes)) for e in found)
    # 80 draws know their spread to 8 %
    assert 0.7 * spread < fmean(recommend(e).sampling_error for e in found) < 1.4 * spread


EVIDENCE = RateEvidence(
    optimizer="adamw", count=10, examples=24, spread=9.0, changes=[4.0] * 3, products=1
)


def changed(**values: object) -> RateEvidence:
    return dataclasses.replace(EVIDENCE, **values)  # type: ignore[arg-type]


def test_doubts_are_said() -> None:
    assert recommend(EVIDENCE).reference == 1.5
    assert recommend(EVIDENCE).notes == ()
    doubtful = recommend(changed(changes=[0.1, 0.1, 40.0]))
    assert "raise examples" in doubtful.notes[0]
    assert "note: " in str(doubtful)


def test_more_change_means_a_smaller_rate_and_more_spread_a_wider_interval() -> None:
    certain = recommend(EVIDENCE)
    assert recommend(changed(changes=[16.0] * 3)).good == pytest.approx(certain.good / 2)
    assert recommend(changed(spread=36.0)).good == pytest.approx(certain.good * 2)
    noisy = recommend(changed(changes=[1.0, 4.0, 7.0]))
    assert noisy.good == pytest.approx(certain.good)
    assert noisy.sampling_error > certain.sampling_error == pytest.approx(0, abs=1e-12)
    assert noisy.interval[1] / noisy.interval[0] > certain.interval[1] / certain.interval[0]


@pytest.mark.parametrize("changes", [[4.0] * 3, [1.0, 4.0, 7.0]])
def test_the_intervals_hold_95_percent_of_a_normal_logarithm(changes) -> None:
    found = recommend(changed(changes=changes))
    spread = CALIBRATION["adamw"].spread
    # the root of a mean of three has half its relative error; a decade is ln 10
    error = 0.5 * stdev(changes) / math.sqrt(3) / fmean(changes) / math.log(10)
    assert found.sampling_error == pytest.approx(error, abs=1e-12)
    decades = stats.norm.ppf(0.975) * math.sqrt(error**2 + spread**2)
    for middle, (low, high) in (
        (found.good, found.interval),
        (found.largest_stable, found.stable_interval),
    ):
        assert math.log10(high / middle) == pytest.approx(decades, rel=1e-4)
        assert math.log10(middle / low) == pytest.approx(decades, rel=1e-4)
    assert found.good == pytest.approx(1.5 * CALIBRATION["adamw"].good)
    assert found.largest_stable == pytest.approx(1.5 * CALIBRATION["adamw"].stable)


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
    [({"batch_size": 1}, "batch size of at least 2, got 1"), ({"examples": 16}, "three batches"),
     ({"batch_size": 13}, "num_train"), ({"optimizer": "lion"}, "adamw or sgd")],
)  # fmt: skip
def test_a_mistake_is_answered_by_one_sentence(tiny, options, said) -> None:
    with pytest.raises(UserError, match=said):
        ls.suggest_lr(*load(tiny), **({"examples": 24} | options))


def test_what_has_no_rate_is_refused() -> None:
    model, batches = regression(batches=3)
    with pytest.raises(UserError, match="at least three batches"):
        measure_rates(model, batches[:2], split=squares())
    with pytest.raises(UserError, match="change along the gradient's signs"):
        recommend(changed(changes=[0.0] * 3))
    same, _ = regression(batches=3, start=0.0)
    with pytest.raises(UserError, match="gradient"):
        measure_rates(same, [[(x, 0 * y) for x, y in b] for b in batches], split=squares())
    with pytest.raises(UserError, match="the same for all"):
        recommend(measure_rates(same, batches, split=squares()))
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
    printed = capsys.readouterr()
    assert code == 0
    result = json.loads(printed.out)
    assert result["optimizer"] == "adamw"
    assert result["good"] > 0
    assert "Infinity" not in printed.out
    assert "largest stable rate" in printed.err
