"""Thresholds of stability against torch's own optimizers on a quadratic, just below and above."""

from __future__ import annotations

import math

import pytest
import torch
from oracles.curvature import dense, net, regression_data, squares
from torch import nn

import landscape as ls
from landscape.curvature.stability import family, reference_rate, step_divisor
from landscape.errors import UserError

MARGIN = 0.02

SGD = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.5},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.3, "nesterov": True, "weight_decay": 2.0},
    {"weight_decay": 3.0},
    {"momentum": 0.5, "weight_decay": 3.0, "dampening": 0.1},
    {"dampening": 0.5},
]


def grows(optimizer: torch.optim.Optimizer, p: nn.Parameter, curvature: float, hold=None) -> bool:
    """Whether x leaves the minimum of curvature x^2 / 2, or nears it; eps rules so near."""
    with torch.no_grad():
        p.fill_(1e-15)
    for _ in range(3000):
        if hold is not None:
            hold()
        p.grad = curvature * p.detach()
        optimizer.step()
        if not 1e-19 < abs(float(p.detach())) < 1e-11:
            break
    assert not 1e-16 < abs(float(p.detach())) < 1e-14
    return abs(float(p.detach())) > 1e-15


@pytest.mark.parametrize("settings", SGD, ids=str)
def test_sgd_is_stable_just_below_its_threshold_and_not_above(settings) -> None:
    verdicts = []
    for factor in (1 - MARGIN, 1 + MARGIN):
        p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = torch.optim.SGD([p], lr=0.1, **settings)
        verdicts.append(grows(optimizer, p, factor * ls.stability_threshold(optimizer)))
    assert verdicts == [False, True]


def test_momentum_raises_the_threshold_of_sgd_to_thirty_eight() -> None:
    """lr 0.1, momentum 0.9: curvature 37 converges, 39 diverges; 2 / rate is 20."""
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([p], lr=0.1, momentum=0.9)
    assert ls.stability_threshold(optimizer) == pytest.approx(38.0)
    assert not grows(optimizer, p, 37.0)
    assert grows(torch.optim.SGD([p], lr=0.1, momentum=0.9), p, 39.0)


ADAPTIVE = [
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"weight_decay": 20.0}),
    (torch.optim.AdamW, {"weight_decay": 5.0}),
    (torch.optim.AdamW, {"amsgrad": True}),
    (ls.AdamW, {}),
    (torch.optim.NAdam, {}),
    (torch.optim.NAdam, {"decoupled_weight_decay": True, "weight_decay": 4.0}),
    (torch.optim.RAdam, {}),
    (torch.optim.RAdam, {"weight_decay": 10.0}),
    (torch.optim.Adamax, {}),
]


@pytest.mark.parametrize("age", [2, 7, 100_000])
@pytest.mark.parametrize("beta1", [0.5, 0.9])
@pytest.mark.parametrize(
    ("kind", "settings"), ADAPTIVE, ids=lambda s: str(getattr(s, "__name__", s))
)
def test_adams_family_is_stable_just_below_its_threshold_and_not_above(
    kind, settings, beta1, age
) -> None:
    """At a fixed age; eps is far above the gradients, so that what divides a step stays fixed."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    p = model.weight
    with torch.no_grad():
        p.zero_()  # no gradient of the weight decay
    verdicts = []
    for factor in (1 - MARGIN, 1 + MARGIN):
        options = {"lr": 0.05, "betas": (beta1, 0.999), "eps": 1.0} | settings
        optimizer = kind([p], **options)
        p.grad = torch.zeros_like(p)
        optimizer.step()
        state = optimizer.state[p]
        product = math.prod(
            beta1 * (1 - 0.5 * 0.96 ** (t * 4e-3)) for t in range(1, min(age, 3000))
        )

        def hold(state=state, product=product) -> None:
            """Let the next step be the one of this age, whatever came before."""
            state["step"].fill_(age - 1)
            if "mu_product" in state:
                state["mu_product"].fill_(product)

        hold()
        p.grad = torch.zeros_like(p)
        optimizer.step()
        unit = ls.HessianOperator(
            model, torch.ones(1, 1, dtype=torch.float64),
            loss=lambda m, x: (0.5 * m(x).square().sum(), len(x)),
        )  # fmt: skip
        decay = 0.0 if "W" in kind.__name__ or "decoupled_weight_decay" in settings else 1.0
        decay *= settings.get("weight_decay", 0.0)
        per_unit = float(ls.preconditioned(unit, optimizer) @ torch.ones(1)) / (1 + decay)
        curvature = factor * ls.stability_threshold(optimizer) / per_unit
        assert curvature > 2 * decay
        verdicts.append(grows(optimizer, p, curvature - decay, hold))
    assert verdicts == [False, True]


@pytest.mark.parametrize(
    "kind", [torch.optim.Adam, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax]
)
def test_the_probe_measures_every_adaptive_optimizer_of_torch_it_accepts(kind) -> None:
    """Adamax raised in the middle of training."""
    x, y, _ = regression_data()
    model = net()
    optimizer = kind(model.parameters(), lr=1e-3, weight_decay=0.5)
    probe = ls.SharpnessProbe((x, y), loss=squares, every=1, tol=1e-6, max_matvecs=200)
    probe.start(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        (squares(model, (x, y))[0] / len(x)).backward()
        optimizer.step()
        probe(model, {})
    H = ls.HessianOperator(model, (x, y), loss=squares)
    S = ls.preconditioned(H, optimizer).scale()
    shifted = dense(H) + 0.5 * torch.eye(37, dtype=torch.float64)
    top = torch.linalg.eigvalsh(S[:, None] * shifted * S)[-1]
    row = probe.rows[-1]
    assert row["preconditioned_sharpness"] == pytest.approx(float(top), rel=1e-6)
    assert row["preconditioned_threshold"] == ls.stability_threshold(optimizer)
    assert row["sharpness_threshold"] == pytest.approx(2 / 1e-3)


def test_the_probe_of_sgd_reports_the_threshold_of_its_momentum() -> None:
    x, y, _ = regression_data()
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    probe = ls.SharpnessProbe((x, y), loss=squares, every=1)
    probe.start(optimizer)
    assert probe.measure(model)["sharpness_threshold"] == pytest.approx(38.0)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (torch.optim.RMSprop, {}, "got RMSprop"),
        (torch.optim.Adagrad, {}, "got Adagrad"),
        (torch.optim.Adafactor, {}, "got Adafactor"),
        (torch.optim.LBFGS, {}, "got LBFGS"),
        (torch.optim.SGD, {"lr": 0.1, "maximize": True}, "descends"),
    ],
)
def test_other_optimizers_are_refused_before_training_begins(kind, settings, words) -> None:
    probe = ls.SharpnessProbe([None])
    with pytest.raises(UserError, match=words):
        probe.start(kind([nn.Parameter(torch.zeros(1))], **settings))


def test_groups_that_have_no_single_threshold_are_refused_and_those_that_have_are_not() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    with pytest.raises(UserError, match="one lr"):
        family(torch.optim.SGD([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.2}]))
    with pytest.raises(UserError, match="one betas"):
        family(torch.optim.Adam([{"params": [a]}, {"params": [b], "betas": (0.5, 0.9)}]))
    groups = [{"params": [a], "lr": 0.0}, {"params": [b], "weight_decay": 0.5}]
    adam = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.0)
    assert family(adam) == "adam"
    assert reference_rate(adam) == 0.01  # the first that is not zero
    assert ls.stability_threshold(adam) == pytest.approx(1.9 * (2 - 0.005) / (0.1 * 0.01))
    assert ls.stability_threshold(torch.optim.SGD([a], lr=0.0)) == math.inf


def test_an_optimizer_inside_a_trainers_wrapper_is_found() -> None:
    class Wrapped(torch.optim.Optimizer):
        def __init__(self, optimizer) -> None:
            self.optimizer = optimizer
            self.state, self.param_groups = optimizer.state, optimizer.param_groups

    p = nn.Parameter(torch.zeros(1))
    inner = torch.optim.SGD([p], lr=0.1, momentum=0.9)
    assert ls.stability_threshold(Wrapped(inner)) == pytest.approx(38.0)


@pytest.mark.parametrize("ages", ["own", "shared"])
def test_a_step_of_our_adamw_is_the_mean_gradient_over_its_divisor_whatever_the_ages(ages) -> None:
    p = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer, gradient = ls.AdamW([p], lr=0.1, ages=ages), torch.tensor([1.0, 2.0, 3.0, 4.0])
    optimizer.follow(p, torch.tensor([-1, -1]), torch.tensor([0, 1]))
    for _ in range(30):
        p.grad = gradient.double()
        optimizer.step()
    optimizer.follow(p, torch.tensor([0, 1, -1, -1]))  # two that are new, at age 0
    before, p.grad = p.detach().clone(), gradient.double()
    optimizer.step()
    state = optimizer.state[p]
    divisor = step_divisor(optimizer, optimizer.param_groups[0], state)
    torch.testing.assert_close(p.detach() - before, -0.1 * state["exp_avg"] / divisor)
