"""What takes batches or a task, on every form of a head: right, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from headed import FORMS, HEADED, Headed
from oracles import heads as slow
from torch import nn

import landscape as ls
from landscape.errors import UserError

form = pytest.mark.parametrize("case", FORMS, ids=str)


def masked(case: Headed, count: int = 40) -> nn.Module:
    model = case.model()
    ls.attach(model, ls.random_mask(model, targets="auto", count=count, seed=0))
    return model


def batches(case: Headed, size: int = 3) -> list:
    task = case.task()
    return ls.make_batches(task.train, case.reader(), size, loss=task.loss)


@contextmanager
def moved(model: nn.Module, by: torch.Tensor) -> Iterator[None]:
    """Move what is trainable, and move it back."""
    parts = by.split([theta.numel() for theta in ls.trainable(model).values()])
    pairs = list(zip(ls.trainable(model).values(), parts, strict=True))
    before = [theta.detach().clone() for theta, _ in pairs]
    with torch.no_grad():
        for theta, part in pairs:
            theta.add_(part.view_as(theta))
        yield
        for (theta, _), value in zip(pairs, before, strict=True):
            theta.copy_(value)


@form
def test_the_hessian_is_that_of_differences_of_the_slow_loss(case: Headed) -> None:
    model, task, reader = masked(case, 3), case.task(), case.reader()
    operator = ls.HessianOperator(model, batches(case))
    generator = torch.Generator().manual_seed(0)

    def loss(by: torch.Tensor) -> float:
        with moved(model, by):
            return slow.mean_loss(model, reader, task.train)

    h, here = 1e-3, loss(torch.zeros(operator.size, dtype=torch.float64))
    for _ in range(2):
        u = torch.randn(operator.size, generator=generator, dtype=torch.float64)
        found = float(u @ (operator @ u))
        assert abs(found) > 1e-5
        wanted = (loss(h * u) + loss(-h * u) - 2 * here) / h**2
        # h^2 of fourth derivatives, and roundings of the loss over h^2
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-9)


@form
def test_gauss_newton_and_fisher_matrices_are_those_of_the_slow_terms(case: Headed) -> None:
    """By differences: G = sum_i J_i' H_i J_i / n of the logits, F = sum_i g_i g_i' / n."""
    model, task, reader = masked(case, 2), case.task(), case.reader()
    operators = [kind(model, batches(case)) for kind in (ls.GGNOperator, ls.FisherOperator)]
    unit, h = torch.eye(operators[0].size, dtype=torch.float64), 1e-5

    def rows(by: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits of all terms, one row each, and the terms."""
        with moved(model, by):
            logits = [slow.logits(model, reader, e) for e in task.train]
        terms = [t for e, z in zip(task.train, logits) for t in slow.terms(e, z)]
        return np.array([row for z in logits for row in z]), np.array(terms)

    sides = [(rows(h * u), rows(-h * u)) for u in unit]
    jacobians = np.stack([(a[0] - b[0]) / (2 * h) for a, b in sides], axis=1)  # (terms, k, c)
    gradients = np.stack([(a[1] - b[1]) / (2 * h) for a, b in sides], axis=1)
    here, _ = rows(0 * unit[0])
    inner = np.full((len(here), 1, 1), 2.0)
    if task.loss == "classification":
        p = np.exp(here) / np.exp(here).sum(1, keepdims=True)
        inner = np.einsum("nc,cd->ncd", p, np.eye(p.shape[1])) - np.einsum("nc,nd->ncd", p, p)
    gauss = np.einsum("nkc,ncd,nld->kl", jacobians, inner, jacobians) / len(here)
    fisher = gradients.T @ gradients / len(here)
    for operator, wanted in zip(operators, (gauss, fisher)):
        found = (operator @ unit).numpy()
        assert np.abs(found).max() > 1e-7
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(found).max())


class Stopped(Exception):
    """A run is stopped from outside."""


@form
def test_a_run_lowers_the_loss_and_resumes_bit_for_bit(case: Headed, tmp_path: Path) -> None:
    task, reader = case.task(), case.reader()

    def run(model: nn.Module, folder: str, stop: int | None = None) -> ls.Run:
        def probe(_: nn.Module, record: dict) -> None:
            if record["step"] == stop:
                raise Stopped

        return ls.finetune(
            model, reader, task, lr=3e-2, epochs=3, batch_size=2, seed=3, probes=[probe],
            folder=tmp_path / folder, checkpoint_every=1,
        )  # fmt: skip

    whole, stopped = masked(case, 200), masked(case, 200)
    before = slow.mean_loss(whole, reader, task.train)
    ended = run(whole, "whole")
    assert slow.mean_loss(whole, reader, task.train) < before
    test = slow.mean_loss(whole, reader, task.test)
    assert ended.metrics["test"]["loss"] == pytest.approx(test, rel=1e-6)
    with pytest.raises(Stopped):
        run(stopped, "stopped", stop=5)
    again = run(stopped, "stopped")
    assert [r["loss"] for r in again.history] == [r["loss"] for r in ended.history]
    assert again.metrics["test"] == ended.metrics["test"]
    for name, theta in ls.trainable(whole).items():
        assert torch.equal(ls.trainable(stopped)[name], theta)
    assert ended.distance["l2"] == pytest.approx(
        math.sqrt(sum(float(t.detach().square().sum()) for t in ls.trainable(whole).values()))
    )


@form
@pytest.mark.parametrize("score", ["gradient", "snip", "fisher", "wanda", "id3", "magnitude"])
def test_every_score_selects_weights(case: Headed, score: str) -> None:
    model = case.model(torch.float32)
    needed = {} if score == "magnitude" else {"batches": batches(case)}
    options = {"exp": 1.0, "eps": 1.0} if score == "id3" else {}
    mask = ls.select_mask(model, score=score, count=30, targets="auto", **needed, **options)
    assert mask.count == 30


@form
def test_the_fisher_score_is_the_mean_of_squared_gradients_of_single_examples(
    case: Headed,
) -> None:
    """By one backward an example; a sentence's gradient is that of the sum over its words."""
    model = case.model()
    name = next(n for n, p in model.named_parameters() if "classifier" in n or "score" in n)
    parameter = model.get_parameter(name if name.endswith("weight") else f"{name}.weight")
    sums = torch.zeros_like(parameter)
    for example in case.task().train:
        (batch,) = ls.make_batches([example], case.reader(), 1, loss=case.task().loss)
        total, _ = ls.losses.default_loss(model, batch)
        sums += torch.autograd.grad(total, parameter)[0].square()
    best = set(sums.view(-1).topk(5).indices.tolist())
    mask = ls.select_mask(model, score="fisher", count=5, targets=name, batches=batches(case))
    assert set(mask.indices[name].tolist()) == best


def test_the_true_fisher_of_numbers_or_tags_is_refused() -> None:
    for case, said in ((Headed("numbers", "roberta"), "numbers"), (Headed("tags", "bert"), "")):
        with pytest.raises(UserError, match=f"finite set of labels .*{said}.*empirical"):
            ls.select_mask(
                case.model(torch.float32), score="fisher", count=5, batches=batches(case),
                information="true", targets="auto",
            )  # fmt: skip


FITTED = [case for case in HEADED if case.form != "pairs"]


@pytest.mark.parametrize("case", FITTED, ids=str)
def test_a_fitted_head_is_at_the_minimum_of_the_penalised_slow_loss(case: Headed) -> None:
    """Every step away from it, along any of its weights, has a larger loss."""
    model, reader, task = case.model(), case.reader(), case.task()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    ls.fit_head(model, batches(case), penalty=0.05)
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert len({n.rpartition(".")[0] for n in changed}) == 1
    weight = next(model.get_parameter(n) for n in changed if n.endswith("weight"))

    def loss() -> float:
        penalty = 0.025 * float(weight.detach().square().sum())
        return slow.mean_loss(model, reader, task.train) + penalty

    least = loss()
    with torch.no_grad():
        for p in (model.get_parameter(n) for n in changed):
            flat = p.view(-1)
            for i in {0, flat.numel() // 2, flat.numel() - 1}:
                for step in (1e-2, -1e-2):
                    flat[i] += step
                    assert loss() > least
                    flat[i] -= step


@form
def test_a_learning_rate_is_suggested(case: Headed) -> None:
    model = masked(case, 60).float()
    found = ls.suggest_lr(model, case.reader(), case.task(24), examples=12, batch_size=4)
    assert math.isfinite(found.good)
    assert found.good > 0


@form
def test_a_line_of_the_loss_passes_through_the_slow_losses(case: Headed) -> None:
    model = masked(case, 20)
    direction = ls.random_directions(model, 1, seed=0)
    surface = ls.surface_1d(model, batches(case), direction, span=0.5, points=3)
    task, reader = case.task(), case.reader()
    unit = direction[:, 0] / direction.norm()
    wanted = []
    for at in (-0.5, 0.0, 0.5):
        with moved(model, at * unit):
            wanted.append(slow.mean_loss(model, reader, task.train))
    np.testing.assert_allclose(surface.losses, wanted, rtol=1e-6)
