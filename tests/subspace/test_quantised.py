"""Masks on layers that compute with a packed weight and show no floating-point one."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from families import case_of, spread, tokens
from oracles.subspace import dense_hessian
from samples import tiny_task
from torch import Tensor, nn

import landscape as ls
from landscape.errors import UserError
from landscape.models.tensors import num_parameters, tensors
from landscape.subspace import dense_gradients, move
from landscape.training.moving import MovingMask


class Packed(nn.Module):
    """An int8 layer in the manner of bitsandbytes: a packed parameter of another shape."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        w = linear.weight.detach()
        scale = w.abs().max() / 127
        codes = (w / scale).round().to(torch.int8).view(-1, 1)
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = copy.deepcopy(linear.bias)

    def matrix(self) -> Tensor:
        return self.weight.view(self.out_features, self.in_features).to(self.scale) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.matrix().to(x.dtype), self.bias)


class Hidden(Packed):
    """A layer in the manner of GPTQ: no ``weight`` at all."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self.register_buffer("qweight", self.weight.data)
        del self.weight

    def matrix(self) -> Tensor:
        return self.qweight.view(self.out_features, self.in_features).to(self.scale) * self.scale


@pytest.fixture(params=[Packed, Hidden])
def kind(request: pytest.FixtureRequest) -> type[Packed]:
    return request.param


def quantised(kind: type[Packed], dtype=torch.float64, name: str = "opt"):
    """Return a model with quantised projections, and the plain model it computes like."""
    model = case_of(name).model(dtype)
    plain = copy.deepcopy(model)
    for path, module in list(model.named_modules()):
        if path.endswith(("q_proj", "v_proj")):
            packed = kind(module)
            model.set_submodule(path, packed)
            with torch.no_grad():
                plain.get_submodule(path).weight.copy_(packed.matrix())
    return model, plain


def test_the_packed_model_and_the_plain_one_compute_the_same(kind) -> None:
    model, plain = quantised(kind)
    torch.testing.assert_close(case_of("opt").loss(model), case_of("opt").loss(plain))


@pytest.mark.parametrize("density", [0.01, 0.2, 1.0])
def test_values_and_gradients_are_those_of_the_plain_model_with_the_same_weights(
    kind, density
) -> None:
    case = case_of("opt")
    model, plain = quantised(kind)
    mask = ls.random_mask(model, density=density, targets="*.[qv]_proj", seed=1)
    assert set(mask.shapes.values()) == {(32, 32)}
    ls.attach(model, mask)
    ls.attach(plain, mask)
    for name, value in spread(model).items():
        with torch.no_grad():
            ls.trainable(plain)[name].copy_(value)
    loss, expected = case.loss(model), case.loss(plain)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)  # theta is float32 here
    loss.backward()
    expected.backward()
    for name, theta in ls.trainable(model).items():
        assert theta.dtype == torch.float32
        wanted = ls.trainable(plain)[name].grad.float()
        torch.testing.assert_close(theta.grad, wanted, rtol=1e-4, atol=1e-7)


def test_second_derivatives_are_those_of_the_plain_model(kind) -> None:
    case = case_of("opt")
    model, plain = quantised(kind)
    mask = ls.random_mask(model, count=24, targets="*.[qv]_proj", sampling="exact")
    hessians = []
    for m in (model, plain):
        ls.attach(m, mask)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            hessians.append(dense_hessian(case.loss(m), list(ls.trainable(m).values())).double())
    assert hessians[1].abs().max() > 0
    # theta, and so each entry, is float32 on the packed base
    error = (hessians[0] - hessians[1]).abs().max()
    assert error <= 1e-5 * hessians[1].abs().max()


def test_detach_gives_the_packed_model_back_bit_for_bit(kind) -> None:
    case = case_of("opt")
    model, _ = quantised(kind, torch.float32)
    before = copy.deepcopy(model.state_dict())
    loss = case.loss(model).detach()
    ls.attach(model, ls.random_mask(model, density=0.2, targets=["*.[qv]_proj", "*.bias"]))
    spread(model)
    assert not torch.equal(case.loss(model).detach(), loss)
    ls.detach(model)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert torch.equal(case.loss(model).detach(), loss)


def test_merging_into_packed_weights_is_refused_and_changes_nothing(kind) -> None:
    model, _ = quantised(kind, torch.float32)
    ls.attach(model, ls.random_mask(model, density=0.2))
    spread(model)
    loss = case_of("opt").loss(model).detach()
    with pytest.raises(UserError, match=r"quantised.*delta"):
        ls.merge(model)
    assert torch.equal(case_of("opt").loss(model).detach(), loss)


def test_the_budget_counts_the_weights_computed_with_not_the_numbers_they_are_packed_in(
    kind,
) -> None:
    model, plain = quantised(kind)
    assert num_parameters(model) == num_parameters(plain)
    assert ls.random_mask(model, ratio=1e-3).count == ls.random_mask(plain, ratio=1e-3).count


def test_dense_gradients_reach_the_packed_weights_and_theta_gets_its_part(kind) -> None:
    case = case_of("opt")
    model, plain = quantised(kind)
    mask = ls.random_mask(model, density=0.3, seed=2)
    ls.attach(model, mask)
    got: dict[str, Tensor] = {}
    with dense_gradients(model, lambda name, g: got.update({name: g.clone()})):
        case.loss(model).backward()
    case.loss(plain).backward()
    weights = dict(plain.named_parameters())
    assert mask.count > 0
    for name, indices in mask.indices.items():
        torch.testing.assert_close(got[name].double(), weights[name].grad, rtol=1e-5, atol=1e-8)
        theta = ls.trainable(model)[name]
        torch.testing.assert_close(theta.grad, got[name].view(-1)[indices].to(theta.dtype))


def test_the_mask_can_move_on_a_packed_base(kind) -> None:
    model, plain = quantised(kind, torch.float32)
    first, second = (ls.random_mask(model, density=0.3, seed=s) for s in (0, 1))
    ls.attach(model, first)
    spread(model)
    move(model, second)
    ls.attach(plain, second)
    with torch.no_grad():
        for name, theta in ls.trainable(plain).items():
            theta.copy_(ls.trainable(model)[name])
    loss = case_of("opt").loss(model)
    torch.testing.assert_close(loss, case_of("opt").loss(plain), rtol=1e-5, atol=1e-6)
    assert any(theta.any() for theta in ls.trainable(model).values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_activations_meet_a_float32_theta(kind, dtype) -> None:
    case = case_of("opt")
    model, plain = quantised(kind, dtype)
    mask = ls.random_mask(model, density=0.2)
    ls.attach(model, mask)
    case.loss(model).backward()
    case.loss(plain).backward()
    weights = dict(plain.named_parameters())
    got = torch.cat([t.grad for t in ls.trainable(model).values()])
    want = torch.cat([weights[n].grad.float().view(-1)[i] for n, i in mask.indices.items()])
    assert (got - want).norm() <= 8 * torch.finfo(dtype).eps * want.norm()


def test_a_lora_wrapper_is_not_taken_for_a_quantised_layer() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"])
    wrapped = peft.get_peft_model(ls.tiny_model("opt"), config)
    total = sum(p.numel() for p in wrapped.parameters())
    assert num_parameters(wrapped) == total
    assert ls.random_mask(wrapped, density=0.1, targets="*lora_A*").size == 2 * 2 * 32


@pytest.mark.parametrize("rule", ["increment", "repeat"])
def test_a_scheduled_run_on_a_packed_base_resumes_bit_for_bit(kind, tmp_path, rule) -> None:
    tokenizer, task = ls.tiny_tokenizer(), tiny_task(16)
    schedule = ls.Schedule(rule, score="snip", count=50, targets=["*.[qv]_proj", "*.fc1"])
    options = {"lr": 1e-2, "epochs": 2, "batch_size": 8, "checkpoint_every": 1, "test": False}

    class Killed(Exception):
        pass

    def kill(_: nn.Module, record: dict[str, float]) -> None:
        if record["step"] == 2:
            raise Killed

    def run(folder: str, probes=()):
        model = ls.tiny_model("opt", vocab_size=len(tokenizer))
        for path, module in list(model.named_modules()):
            if path.endswith(("q_proj", "v_proj")):
                model.set_submodule(path, kind(module))
        done = ls.finetune(model, tokenizer, task, schedule=schedule, folder=tmp_path / folder,
                           probes=probes, **options)  # fmt: skip
        return done, ls.delta(model)

    whole, expected = run("whole")
    with pytest.raises(Killed):
        run("cut", [kill])
    resumed, found = run("cut")
    assert resumed.history == whole.history
    for name, values in expected.values.items():
        assert torch.equal(found.values[name], values)
        assert torch.equal(found.mask.indices[name], expected.mask.indices[name])


def trained_delta(kind: type, folder: Path, sampling: str = "bernoulli"):
    model, plain = quantised(kind, torch.float32)
    mask = ls.random_mask(model, density=0.2, targets=["*.[qv]_proj", "*.fc1"], sampling=sampling)
    if sampling == "exact":
        mask = dataclasses.replace(mask, rule={"kind": "given"})
    ls.attach(model, mask)
    values = {n: v.clone() for n, v in spread(model).items()}
    return model, plain, values, ls.save_delta(model, folder / f"{sampling}.safetensors")


@pytest.mark.parametrize("sampling", ["bernoulli", "exact"])
def test_a_delta_of_a_packed_base_round_trips_switches_and_adds_up(
    kind, tmp_path, sampling
) -> None:
    case = case_of("opt")
    model, _, values, path = trained_delta(kind, tmp_path, sampling)
    loss, first = case.loss(model).detach(), ls.delta(model)
    ls.detach(model)
    plain_loss = case.loss(model).detach()
    for _ in range(2):  # onto the bare model, then in the place of itself
        ls.load_delta(model, path)
        assert all(torch.equal(t, values[n]) for n, t in ls.trainable(model).items())
        assert torch.equal(case.loss(model).detach(), loss)
    second = ls.random_mask(model, density=0.1, seed=7)
    ls.detach(model)
    ls.attach(model, second)
    spread(model)
    other, other_loss = ls.delta(model), case.loss(model).detach()
    for change, wanted in ((first, loss), (other, other_loss), (first, loss)):
        ls.apply_delta(model, change)
        assert torch.equal(case.loss(model).detach(), wanted)
    ls.apply_delta(model, first + other)
    assert ls.subspace.attached_mask(model).count > first.mask.count
    ls.apply_delta(model, (first + other) - other)
    torch.testing.assert_close(case.loss(model).detach(), loss, rtol=1e-5, atol=1e-6)
    ls.detach(model)
    assert torch.equal(case.loss(model).detach(), plain_loss)


def test_a_delta_of_another_packed_base_is_refused_and_changes_nothing(kind, tmp_path) -> None:
    model, plain, _, path = trained_delta(kind, tmp_path)
    change = ls.delta(model)
    ls.detach(model)
    other = copy.deepcopy(model)
    packed = other.model.decoder.layers[1].self_attn.v_proj
    storage = packed.weight if kind is Packed else packed.qweight
    storage.data.copy_(storage.data.roll(1, 0))
    before = copy.deepcopy(other.state_dict())
    for load in (lambda m: ls.load_delta(m, path), lambda m: ls.apply_delta(m, change)):
        for stranger in (other, plain):  # another base, and the one it was quantised from
            with pytest.raises(UserError, match="another base model"):
                load(stranger)
            assert not ls.subspace.is_attached(stranger)
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())


def test_the_values_a_forward_shows_are_those_it_computes_with(kind) -> None:
    model, plain = quantised(kind)
    weights = dict(plain.named_parameters(remove_duplicate=False))
    for tensor in tensors(model):
        # W e_j + b - b in float64
        torch.testing.assert_close(tensor.values(), weights[tensor.name], rtol=0, atol=1e-14)


@pytest.mark.parametrize("score", ["magnitude", "snip", "id3", "gradient", "fisher", "wanda"])
def test_selections_on_a_packed_base_are_those_on_the_plain_model(kind, score) -> None:
    case = case_of("opt")
    model, plain = quantised(kind)
    options = {"id3": {"eps": 0.5, "exp": 1.0}}.get(score, {})
    ids = tokens()
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0]}
    masks = [
        ls.select_mask(
            m, score=score, count=60, scope="global", batches=[batch], targets="*.[qv]_proj",
            loss=lambda net, b: (net(input_ids=b["input_ids"]).logits.square().sum(), 1), **options,
        )
        for m in (model, plain)
    ]  # fmt: skip
    assert case.loss(model).isfinite()
    shared = sum(
        len(set(masks[0].indices[n].tolist()) & set(masks[1].indices[n].tolist()))
        for n in masks[0].indices
    )
    assert masks[0].count == 60
    # the packed gradient is float32, which can swap neighbours; the int8 grid ties magnitudes
    assert shared >= (58 if score != "magnitude" else 40)


@pytest.mark.parametrize("rule", ["static", "increment", "repeat", "drop_regrow"])
def test_a_moving_mask_on_a_packed_base_moves_as_on_the_plain_model(kind, rule) -> None:
    case = case_of("opt")
    found = []
    for model in quantised(kind):
        schedule = ls.Schedule(
            rule, score="id3", options={"eps": 0.5, "exp": 1.0}, count=40, steps=3,
            targets=["*.[qv]_proj", "*.fc1"], **({"every": 2} if rule == "drop_regrow" else {}),
        )  # fmt: skip
        moving = MovingMask(schedule, model, 4)
        moving.attach()
        optimizer = ls.AdamW(ls.trainable(model).values(), lr=0.01)
        losses = []
        for step in range(4):
            with moving.step(step, optimizer):
                optimizer.zero_grad()
                loss = case.loss(model)
                loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            if rule != "increment":
                assert optimizer.count == 40
        found.append((losses, {n: set(i.tolist()) for n, i in moving.indices().items()}))
        ls.detach(model)
    (losses, indices), (expected, wanted) = found
    # theta, and the gradients that rank, are float32 on the packed base
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[-1] < losses[0]
    total = sum(len(chosen) for chosen in wanted.values())
    assert sum(len(indices[n] & wanted[n]) for n in wanted) >= 0.95 * total
