"""Parameters that are trained whole beside a mask: where they show, what becomes of them."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from conftest import CASES

import landscape as ls
from landscape.errors import UserError
from landscape.identity import base_digests
from landscape.subspace import dense_starts, theta_state, thetas

HEADED = [case for case in CASES if case.name in ("bert", "vit")]


def attached(case, dense="classifier", dtype=torch.float64) -> torch.nn.Module:
    model = case.model(dtype)
    mask = ls.random_mask(model, density=0.05, targets=case.targets, seed=3)
    ls.attach(model, mask, dense=dense)
    return model


def train(model: torch.nn.Module, case, steps: int = 3) -> None:
    """Take a few steps of gradient descent on theta and the head."""
    for _ in range(steps):
        values = ls.trainable(model).values()
        grads = torch.autograd.grad(case.loss(model), list(values))
        with torch.no_grad():
            for p, g in zip(values, grads, strict=True):
                p.sub_(0.5 * g)


@pytest.mark.parametrize("case", HEADED, ids=lambda case: case.name)
def test_a_head_beside_a_mask_is_trainable_itself_and_starts_where_it_is(case) -> None:
    model = attached(case)
    own = ls.trainable(model)
    head = dict(model.classifier.named_parameters(prefix="classifier"))
    assert own.keys() == thetas(model).keys() | head.keys()
    assert list(own)[-2:] == ["classifier.weight", "classifier.bias"]
    assert all(own[name] is p for name, p in head.items())
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        *head, *(n for n, _ in model.named_parameters() if ".theta_" in n)
    }  # fmt: skip


@pytest.mark.parametrize("case", HEADED, ids=lambda case: case.name)
def test_gradients_beside_a_mask_are_those_of_the_plain_model(case) -> None:
    model, plain = attached(case), case.model()
    mask = ls.subspace.attached_mask(model)
    own = ls.trainable(model)
    found = dict(zip(own, torch.autograd.grad(case.loss(model), list(own.values())), strict=True))
    weights = {n: p for n, p in plain.named_parameters() if n in own}
    dense = torch.autograd.grad(case.loss(plain), list(weights.values()))
    for (name, _), gradient in zip(weights.items(), dense, strict=True):
        at = mask.indices.get(name)
        wanted = gradient if at is None else gradient.reshape(-1)[at]
        torch.testing.assert_close(found[name], wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", HEADED, ids=lambda case: case.name)
def test_detaching_gives_the_head_back_bit_for_bit_and_merging_keeps_what_it_became(case) -> None:
    before = case.model().state_dict()
    model = attached(case)
    train(model, case)
    trained = {n: p.detach().clone() for n, p in model.classifier.named_parameters()}
    logits_loss = case.loss(model).detach()
    merged = ls.merge(copy.deepcopy(model))
    assert torch.equal(case.loss(merged), logits_loss)
    assert all(torch.equal(p, trained[n]) for n, p in merged.classifier.named_parameters())
    ls.detach(model)
    assert not any(torch.equal(before[f"classifier.{n}"], t) for n, t in trained.items())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert not dense_starts(model)


@pytest.mark.parametrize("case", HEADED, ids=lambda case: case.name)
def test_a_trained_head_counts_for_nothing_in_the_hashes_of_the_base(case) -> None:
    before = base_digests(case.model())
    model = attached(case)
    assert base_digests(model) == before
    train(model, case)
    assert base_digests(model) == before
    ls.merge(model)
    differing = {name for name, digest in base_digests(model).items() if digest != before[name]}
    assert {"classifier.weight", "classifier.bias"} < differing


def test_copies_and_pickles_remember_where_the_head_began() -> None:
    case = HEADED[0]
    start = case.model().classifier.weight.detach().clone()
    model = attached(case)
    train(model, case)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(dense_starts(other)["classifier.weight"], start)
        assert ls.trainable(other)["classifier.weight"] is other.classifier.weight
        assert torch.equal(ls.detach(other).classifier.weight, start)


def test_the_start_of_a_head_follows_a_cast_of_the_model() -> None:
    model = attached(HEADED[0], dtype=torch.float32)
    start = model.classifier.weight.detach().clone()
    model.double()
    assert dense_starts(model)["classifier.weight"].dtype == torch.float64
    assert torch.equal(dense_starts(model)["classifier.weight"], start.double())
    assert torch.equal(ls.detach(model).classifier.weight, start.double())


def test_the_state_that_is_trained_holds_the_head_and_loads_onto_the_same_mask() -> None:
    case = HEADED[0]
    model = attached(case)
    train(model, case)
    state = theta_state(model)
    assert torch.equal(state["classifier.bias"], model.classifier.bias)
    other = attached(case)
    other.load_state_dict(state, strict=False)
    assert torch.equal(case.loss(other), case.loss(model))


def test_an_attachment_says_how_many_dense_parameters_are_beside_its_mask() -> None:
    model = HEADED[0].model()
    mask = ls.random_mask(model, count=40, targets=HEADED[0].targets, sampling="exact")
    said = str(ls.attach(model, mask, dense="classifier"))
    size = model.classifier.weight.numel() + model.classifier.bias.numel()
    assert said.startswith("40 of ")
    assert f"; beside it {size} dense parameters in classifier.weight, classifier.bias" in said


def test_a_tied_tensor_is_dense_once_and_under_its_first_name() -> None:
    model = ls.tiny_model("opt")
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight
    ls.attach(model, ls.random_mask(model, density=0.1), dense="lm_head")
    assert list(dense_starts(model)) == ["model.decoder.embed_tokens.weight"]


@pytest.mark.parametrize(
    ("dense", "sentence"),
    [
        ("head", "got head, which matches none; its modules are .*classifier"),
        ("*.query", "got .*query.weight in both; leave it out of the mask's targets"),
        (3, "expected dense"),
    ],
)
def test_dense_patterns_that_fit_nothing_or_the_mask_leave_the_model_plain(dense, sentence) -> None:
    case = HEADED[0]
    model = case.model()
    mask = ls.random_mask(model, density=0.1, targets=case.targets)
    with pytest.raises(UserError, match=sentence):
        ls.attach(model, mask, dense=dense)
    assert not ls.subspace.is_attached(model)
    assert all(p.requires_grad for p in model.parameters())


def test_a_head_without_values_cannot_be_dense() -> None:
    case = HEADED[0]
    model = case.model()
    mask = ls.random_mask(model, density=0.1, targets=case.targets)
    model.classifier.to("meta")
    with pytest.raises(UserError, match=r"got classifier\.weight of .* on meta"):
        ls.attach(model, mask, dense="classifier")


def test_a_head_that_was_replaced_or_frozen_since_is_refused_by_name() -> None:
    case = HEADED[0]
    model = attached(case)
    model.classifier.bias.requires_grad_(False)
    with pytest.raises(UserError, match=r"trainable classifier\.bias .*got a frozen one"):
        ls.trainable(model)
    model.classifier = torch.nn.Linear(model.classifier.in_features, 5)
    with pytest.raises(UserError, match=r"classifier\.weight of shape .*got shape \(5"):
        ls.trainable(model)


@pytest.mark.parametrize("case", HEADED, ids=lambda case: case.name)
def test_the_hessian_beside_a_mask_is_a_principal_submatrix_of_the_dense_one(case) -> None:
    model, plain = attached(case), case.model()
    mask = ls.subspace.attached_mask(model)
    batches = [None]

    def loss(model: torch.nn.Module, _: None) -> tuple[torch.Tensor, int]:
        return case.loss(model), 1

    names = list(ls.trainable(model))
    weights = [dict(plain.named_parameters())[n] for n in names]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        gradient = torch.autograd.grad(case.loss(plain), weights, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in gradient])
    offsets = [0, *torch.tensor([w.numel() for w in weights]).cumsum(0).tolist()]
    at = torch.cat([
        offset + (mask.indices[n] if n in mask.indices else torch.arange(w.numel()))
        for n, w, offset in zip(names, weights, offsets[:-1], strict=True)
    ])  # fmt: skip
    operator = ls.HessianOperator(model, batches, loss=loss)
    assert operator.size == len(at)
    for row in (0, len(at) // 2, len(at) - 1):
        second = torch.autograd.grad(flat[at[row]], weights, retain_graph=True, allow_unused=True)
        dense = torch.cat([
            torch.zeros(w.numel(), dtype=w.dtype) if s is None else s.reshape(-1)
            for s, w in zip(second, weights, strict=True)
        ])  # fmt: skip
        unit = torch.zeros(operator.size, dtype=operator.dtype)
        unit[row] = 1
        torch.testing.assert_close(operator @ unit, dense[at], rtol=1e-7, atol=1e-10)


def test_curvlinops_sees_the_hessian_of_a_head_beside_a_mask_as_we_do() -> None:
    pytest.importorskip("curvlinops")
    from landscape.curvature.peers import curvlinops

    case = HEADED[0]
    model = attached(case)
    train(model, case, steps=1)

    def loss(model: torch.nn.Module, _: None) -> tuple[torch.Tensor, int]:
        return case.loss(model), 1

    ours = ls.HessianOperator(model, [None], loss=loss)
    theirs = curvlinops(model, [None], loss=loss)
    v = torch.randn(ours.size, generator=torch.Generator().manual_seed(0), dtype=ours.dtype)
    torch.testing.assert_close(theirs @ v, ours @ v, rtol=1e-6, atol=1e-9)


def test_the_line_between_two_deltas_moves_mask_and_head_together() -> None:
    """At half the way weights are the mean of both ends, the head's too."""
    case = HEADED[0]
    model = attached(case)
    ends = []
    for steps in (1, 3):
        train(model, case, steps)
        ends.append(ls.delta(model))
    middle = ls.apply_delta(model, 0.5 * ends[0] + 0.5 * ends[1])
    expected = float(case.loss(model).detach())
    assert middle.dense.keys() == {"classifier.weight", "classifier.bias"}

    def loss(model: torch.nn.Module, _: None) -> tuple[torch.Tensor, int]:
        return case.loss(model), 1

    line = ls.interpolate(model, [None], *ends, points=3, loss=loss)
    assert float(line.losses[1]) == pytest.approx(expected, rel=1e-9)
    first, last = (torch.cat([d.parameter(n) for n in ls.trainable(model)]) for d in ends)
    length = float((last - first).norm())
    assert float(line.axes[0][-1] - line.axes[0][0]) == pytest.approx(length, rel=1e-9)


def test_random_directions_scale_a_head_by_its_own_filters() -> None:
    """A filter of a direction is as long as the weights of the filter, row by row."""
    model = attached(HEADED[0])
    directions = ls.random_directions(model, count=1, seed=0)
    rows, columns = model.classifier.weight.shape
    head = directions[-(rows * columns + rows) :, 0]
    wanted = model.classifier.weight.detach().norm(dim=1)
    found = head[: rows * columns].view(rows, columns).norm(dim=1)
    # rounded by one normalisation of the whole direction
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)


def test_a_trajectory_knows_a_head_beside_a_moving_mask() -> None:
    case = HEADED[0]
    model = case.model()
    schedule = ls.Schedule("increment", count=20, targets=case.targets, dense="classifier")
    moving = ls.MovingMask(schedule, model, total_steps=4)
    moving.attach()
    optimizer = ls.AdamW(ls.trainable(model).values(), lr=0.05)
    trajectory = ls.Trajectory(every=1)
    trajectory.start(optimizer)

    def whole() -> dict[str, torch.Tensor]:
        held = model.named_parameters()
        return {n: p.detach().clone() for n, p in held if ".theta_" not in n}

    weights, length = [whole()], 0.0
    for step in range(4):
        optimizer.zero_grad()
        with moving.step(step, optimizer):
            case.loss(model).backward()
        optimizer.step()
        trajectory(model, {"step": step + 1})
        weights.append(whole())
    assert trajectory.steps == [0, 1, 2, 3, 4]
    for before, after in itertools.pairwise(weights):
        length += float(sum((after[n] - before[n]).square().sum() for n in after).sqrt())
    assert trajectory.length == pytest.approx(length, rel=1e-9)
    found = trajectory.pca(model, count=2)
    assert found.directions.shape == (sum(p.numel() for p in ls.trainable(model).values()), 2)
