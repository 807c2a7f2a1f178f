"""The loop's core: gradients of means over ragged batches, ends, wrappers, against dense sums."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from oracles.training import mean_loss
from samples import tiny_task
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.training import Loop, baselines, make_optimizer

TOKENIZER = ls.tiny_tokenizer()
TARGETS = ["*.[qv]_proj", "*.fc1"]


def rows(count: int = 7) -> tuple[ls.Example, ...]:
    return tiny_task(24).train[:count]


def masked(**options) -> nn.Module:
    model = ls.tiny_model("opt", vocab_size=len(TOKENIZER), init_std=0.2, **options).double()
    ls.attach(model, ls.random_mask(model, density=0.2, targets=TARGETS, seed=1))
    return model


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return make_optimizer("sgd", ls.trainable(model).values(), lr=lr)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in ls.trainable(model).items() if p.grad is not None}


@pytest.mark.parametrize("loss", ["classification", "language modelling"])
@pytest.mark.parametrize("sizes", [(7,), (4, 3), (1, 5, 1), (2, 2, 2, 1)])
def test_ragged_batches_give_the_gradient_of_the_mean_over_all_their_terms(loss, sizes) -> None:
    model = masked()
    examples = rows()
    mask = ls.subspace.attached_mask(model)
    dense = ls.detach(copy.deepcopy(model)).requires_grad_(True)
    wanted = mean_loss(dense, TOKENIZER, examples, loss)
    wanted.backward()
    batches, left = [], list(examples)
    for size in sizes:
        batches += ls.make_batches(left[:size], TOKENIZER, size, loss=loss)
        left = left[size:]
    terms = [int(b["target_mask"].sum()) if "target_mask" in b else 0 for b in batches]
    if loss == "language modelling" and len(sizes) > 1:
        assert len(set(terms)) > 1  # or a mean of means would do
    found = Loop(model, sgd(model)).gradient(batches)
    assert found == pytest.approx(float(wanted.detach()), rel=1e-12)
    held = dict(dense.named_parameters())
    for name, gradient in gradients(model).items():
        expected = held[name].grad.reshape(-1)[mask.indices[name]]
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_a_methods_penalty_counts_once_however_many_batches_make_a_step() -> None:
    pytest.importorskip("peft")
    found = []
    for size in (6, 4):
        model = ls.tiny_model("llama", vocab_size=len(TOKENIZER)).double()
        model = baselines.adalora(model, steps=8, rank=1, first_rank=3)
        batches = ls.make_batches(rows(6), TOKENIZER, size)
        Loop(model, sgd(model)).gradient(batches)
        found.append(gradients(model))
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-6, atol=1e-9)


class Quadratic(nn.Module):
    """lam theta^2 / 2, whose gradient descent is theta_t = (1 - lr lam)^t theta_0."""

    def __init__(self, start: float = 1.0) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([start], dtype=torch.float64))


def bowl(model: nn.Module, lam: float) -> tuple[torch.Tensor, int]:
    return lam * model.theta.square().sum() / 2, 1


def test_descent_beyond_the_edge_ends_at_the_ceiling_without_the_step_that_it_forbids() -> None:
    """lr lam = 3 doubles theta in every step, so that the loss is 4^t / 2 times lam."""
    model = Quadratic()
    loop = Loop(model, sgd(model, lr=1.0), bowl, ceiling=20)
    losses = [record["loss"] for record in loop.over([3.0] * 10)]
    assert losses == [1.5 * 4**t for t in range(4)]
    assert loop.diverged
    assert loop.taken == 4
    assert model.theta.item() == -8.0
    calm = Quadratic()
    steady = Loop(calm, sgd(calm, lr=1.0), bowl, ceiling=20)
    assert len(list(steady.over([0.5] * 10))) == 10
    assert not steady.diverged
    assert calm.theta.item() == pytest.approx(0.5**10)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_loop_and_leaves_the_parameters(bad) -> None:
    model = Quadratic()
    loop = Loop(model, sgd(model), bowl)
    records = list(loop.over([1.0, bad, 1.0]))
    assert len(records) == 2
    assert "gradient_norm" not in records[0]
    assert model.theta.item() == pytest.approx(0.9)


def test_a_gradient_that_is_not_finite_ends_the_loop_where_its_norm_is_asked_for() -> None:
    def cusp(model: nn.Module, _: object) -> tuple[torch.Tensor, int]:
        return model.theta.abs().sqrt().sum(), 1

    model = Quadratic(0.0)
    loop = Loop(model, sgd(model), cusp, max_gradient_norm=math.inf)
    (record,) = loop.over([None, None])
    assert record["loss"] == 0.0
    assert not math.isfinite(record["gradient_norm"])
    assert model.theta.item() == 0.0


def test_a_clipped_step_is_as_long_as_the_threshold() -> None:
    model = Quadratic(4.0)
    loop = Loop(model, sgd(model, lr=1.0), bowl, max_gradient_norm=0.25)
    assert loop.step([1.0])["gradient_norm"] == 4.0
    assert model.theta.item() == pytest.approx(3.75, abs=1e-6)


def test_several_batches_on_a_quadratic_weigh_their_terms() -> None:
    """Of 1, 2 and 3 terms with curvatures 6, 0 and 1: g = (6 + 0 + 1) / 6 theta."""

    def weighed(model: nn.Module, batch: tuple[float, int]) -> tuple[torch.Tensor, int]:
        return bowl(model, batch[0])[0], batch[1]

    model = Quadratic()
    loop = Loop(model, sgd(model, lr=1.0), weighed)
    assert loop.step([(6.0, 1), (0.0, 2), (1.0, 3)])["loss"] == pytest.approx(3.5 / 6)
    assert model.theta.item() == pytest.approx(1 - 7 / 6)


def test_autocast_computes_the_loss_in_bfloat16_and_steps_in_float32() -> None:
    model = ls.tiny_model("llama", vocab_size=len(TOKENIZER))
    ls.attach(model, ls.random_mask(model, density=0.3, targets="*_proj"))
    (batch,) = ls.make_batches(rows(), TOKENIZER, 8)
    with torch.autocast("cpu", torch.bfloat16):
        total, count = ls.task_loss(model, batch)
    wide, _ = ls.task_loss(model, batch)
    found = Loop(model, sgd(model), autocast=True).step([batch])
    assert found["loss"] == float(total.detach() / count) != float(wide.detach() / count)
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.zero_()
    with torch.autocast("cpu", torch.bfloat16):  # a user's own
        assert Loop(model, sgd(model)).step([batch])["loss"] == found["loss"]
    assert {p.dtype for p in ls.trainable(model).values()} == {torch.float32}


@pytest.mark.slow
def test_a_compiled_model_takes_the_steps_of_the_model_inside() -> None:
    """Traced, but run by torch's own operations: what is compared is the loop, not a compiler."""
    batches = ls.make_batches(rows(6), TOKENIZER, 3)
    thetas = []
    for compiled in (False, True):
        model = masked()
        seen: nn.Module = torch.compile(model, backend="eager") if compiled else model  # type: ignore[assignment]
        loop = Loop(seen, sgd(model), max_gradient_norm=1.0)
        losses = [record["loss"] for record in loop.over(batches)]
        thetas.append(torch.cat([p.detach() for p in ls.trainable(model).values()]))
    assert len(losses) == 2
    assert thetas[0].abs().max() > 1e-3
    torch.testing.assert_close(thetas[1], thetas[0], rtol=1e-9, atol=1e-12)


def test_a_loss_past_the_mask_is_refused_under_a_wrapper_too() -> None:
    model = masked()
    stored = dict(model.named_parameters())["model.decoder.layers.0.self_attn.q_proj.weight"]

    def leaking(model: nn.Module, batch) -> tuple[torch.Tensor, float]:
        total, count = ls.task_loss(model, batch)
        return total + stored.square().sum(), count

    batches = ls.make_batches(rows(3), TOKENIZER, 3)
    for seen in (model, torch.compile(model, backend="eager")):
        with pytest.raises(UserError, match="reads the stored tensor"):
            Loop(seen, sgd(model), leaking).step(batches)


def test_a_loop_goes_on_from_its_state_as_if_it_had_not_stopped() -> None:
    task = replace(tiny_task(24), train=rows(6))
    batches = ls.make_batches(task.train, TOKENIZER, 2)
    model = masked()
    loop = Loop(model, make_optimizer("adamw", ls.trainable(model).values(), lr=0.02))
    loop.step(batches[:1])
    state = loop.state_dict()
    point = {n: p.detach().clone() for n, p in ls.trainable(model).items()}
    ends = []
    for _ in range(2):  # a state is a copy, and is copied
        loop.load_state_dict(state)
        with torch.no_grad():
            for name, parameter in ls.trainable(model).items():
                parameter.copy_(point[name])
        assert [record["step"] for record in loop.over(batches[1:])] == [2, 3]
        ends.append(torch.cat([p.detach() for p in ls.trainable(model).values()]).clone())
    assert torch.equal(*ends)


def test_a_model_without_anything_to_train_has_no_loop() -> None:
    model = Quadratic().requires_grad_(False)
    with pytest.raises(UserError, match="attach a mask first"):
        Loop(model, torch.optim.SGD(model.parameters(), lr=0.1), bowl)
