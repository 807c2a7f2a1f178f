"""Attached models in the settings that users put them in: copied, cast, compiled, checkpointed."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from families import FAMILIES, add_dense, attached, case_of, spread, tokens
from torch import Tensor, nn

import landscape as ls
from landscape.errors import UserError


@pytest.fixture(params=FAMILIES, ids=lambda case: case.name)
def family(request: pytest.FixtureRequest):
    return request.param


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {n: t.grad.clone() for n, t in ls.trainable(model).items() if t.grad is not None}


def dense_gradients(plain: nn.Module, mask: ls.Mask) -> dict[str, Tensor]:
    weights = dict(plain.named_parameters())
    return {
        n: weights[n].grad.reshape(-1)[i]
        for n, i in mask.indices.items()
        if weights[n].grad is not None and i.numel()
    }


def same(left: dict[str, Tensor], right: dict[str, Tensor], rtol: float, atol: float) -> None:
    names = {n for n in left.keys() | right.keys() if n not in left or left[n].numel()}
    assert names
    for name in names:
        torch.testing.assert_close(left[name], right[name], rtol=rtol, atol=atol, msg=name)


@pytest.mark.parametrize("name", ["opt", "llama", "gpt2", "bert", "vit", "t5", "clip"])
def test_gradient_checkpointing_gives_the_gradients_of_the_plain_model(name) -> None:
    case = case_of(name)
    model, mask = attached(case, torch.float64, targets="*weight")
    plain = add_dense(case.model(), mask, spread(model))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    runs = []
    inner = next(
        m for n, m in model.named_modules() if n.endswith(("q_proj", "query", "c_attn", "q"))
    )
    inner.register_forward_hook(lambda *_: runs.append(1))
    model.train()
    case.loss(model).backward()
    assert len(runs) == 2  # the forward, and once more in backward
    plain.train()
    case.loss(plain).backward()
    same(gradients(model), dense_gradients(plain, mask), rtol=1e-5, atol=1e-8)


class Small(nn.Module):
    """One of each kind of site, in float64: an embedding, a norm, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(64, 16), nn.LayerNorm(16)
        self.inner, self.head = nn.Linear(16, 40), nn.Linear(40, 8)
        self.double()

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.inner(self.norm(self.table(ids)))))


def test_a_compiled_forward_gives_the_gradients_of_the_plain_model_and_sees_new_theta() -> None:
    model = Small()
    plain = copy.deepcopy(model)
    mask = ls.random_mask(model, density=0.02, targets="*", seed=4)
    ls.attach(model, mask)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    for moved in (False, True):
        if moved:
            add_dense(plain, mask, spread(model))
        model.zero_grad()
        plain.zero_grad()
        plain(tokens()).square().sum().backward()
        compiled(tokens()).square().sum().backward()
        same(gradients(model), dense_gradients(plain, mask), rtol=1e-8, atol=1e-10)


def test_copies_and_pickles_are_independent_and_detach_to_the_original(family) -> None:
    model, _ = attached(family, targets="*")
    plain = {k: v.clone() for k, v in family.model(torch.float32).state_dict().items()}
    spread(model)
    loss = family.loss(model).detach()
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    for twin in (copy.deepcopy(model), torch.load(stream, weights_only=False)):
        assert torch.equal(family.loss(twin).detach(), loss)
        family.loss(twin).backward()
        assert gradients(twin)
        assert not gradients(model)
        with torch.no_grad():
            for theta in ls.trainable(twin).values():
                theta.add_(1.0)
        assert not torch.equal(family.loss(twin).detach(), loss)
        assert torch.equal(family.loss(model).detach(), loss)
        ls.detach(twin)
        assert all(torch.equal(v, plain[k]) for k, v in twin.state_dict().items())
        assert torch.equal(family.loss(model).detach(), loss)


def test_a_state_dict_round_trips_onto_other_weights(family) -> None:
    """The state says W, theta and the values under it: the base it is loaded on is irrelevant."""
    model, mask = attached(family, targets="*")
    spread(model)
    loss = family.loss(model).detach()
    state = copy.deepcopy(model.state_dict())
    other = family.model(torch.float32)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.25)
    ls.attach(other, mask)
    assert not torch.equal(family.loss(other).detach(), loss)
    other.load_state_dict(state)
    assert torch.equal(family.loss(other).detach(), loss)
    plain = family.model(torch.float32).state_dict()
    assert all(torch.equal(v, plain[k]) for k, v in ls.detach(other).state_dict().items())


def test_the_state_of_another_mask_is_refused() -> None:
    case = case_of("opt")
    model = case.model(torch.float32)
    first, second = (
        ls.random_mask(model, count=64, targets="*.[qv]_proj", seed=s, sampling="exact")
        for s in (0, 1)
    )
    ls.attach(model, first)
    state = copy.deepcopy(model.state_dict())
    ls.detach(model)
    ls.attach(model, second)
    with pytest.raises(UserError, match="another mask"):
        model.load_state_dict(state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_casting_to_a_wide_type_keeps_the_model_what_it_was(family, dtype) -> None:
    model, mask = attached(family, torch.float32, targets="*")
    values = spread(model)
    model.to(dtype)
    plain = add_dense(family.model(torch.float32).to(dtype), mask, values)
    wanted, got = family.loss(plain), family.loss(model)
    assert all(t.dtype == dtype for t in ls.trainable(model).values())
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


def test_casting_a_bfloat16_base_to_float32_lets_theta_in_whole() -> None:
    case = case_of("llama")
    model, mask = attached(case, torch.bfloat16)
    values = spread(model)
    plain = add_dense(case.model(torch.bfloat16).float(), mask, values)
    torch.testing.assert_close(case.loss(model.float()), case.loss(plain), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_casting_an_attached_model_to_a_half_type_rounds_the_base_and_not_theta(
    family, dtype
) -> None:
    model, mask = attached(family, torch.float32, targets="*")
    values = spread(model)
    model.to(dtype)
    plain = add_dense(family.model(torch.float32).to(dtype), mask, values)
    assert all(torch.equal(t, values[n]) for n, t in ls.trainable(model).items())
    assert torch.equal(family.loss(model).detach(), family.loss(plain).detach())
    model.float()
    assert all(torch.equal(t, values[n]) for n, t in ls.trainable(model).items())
    plain = family.model(torch.float32).to(dtype).float().state_dict()
    assert all(torch.equal(v, plain[k]) for k, v in ls.detach(model).state_dict().items())


@pytest.mark.parametrize("name", ["opt", "gpt2", "vit"])
def test_under_autocast_gradients_agree_with_those_of_the_plain_model_under_autocast(name) -> None:
    case = case_of(name)
    for density in (0.001, 0.02, 1.0):
        model, mask = attached(case, torch.float32, density=density, targets="*weight")
        plain = case.model(torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            loss, expected = case.loss(model), case.loss(plain)
        loss.backward()
        expected.backward()
        got, want = gradients(model), dense_gradients(plain, mask)
        left = torch.cat([got[n] for n in want])
        right = torch.cat(list(want.values()))
        # one rounding to bfloat16 of either side's products, relative to the whole
        assert (left - right).norm() <= 4 * torch.finfo(torch.bfloat16).eps * right.norm()


@pytest.mark.parametrize("name", ["opt", "llama", "gpt2", "t5"])
def test_generation_under_inference_mode_is_that_of_the_merged_model(name) -> None:
    case = case_of(name)
    model, _ = attached(case, density=0.3, targets="*")
    spread(model, 0.3)
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    first = model.generate(tokens(), **settings)
    assert torch.equal(model.generate(tokens(), **settings), first)
    case.loss(model).backward()  # no inference tensor stayed behind
    assert torch.equal(ls.merge(model).generate(tokens(), **settings), first)


def test_two_forwards_before_one_backward_add_their_gradients(family) -> None:
    model, mask = attached(family, torch.float64, targets="*")
    plain = add_dense(family.model(), mask, spread(model))
    (family.loss(model) + 2 * family.loss(model)).backward()
    (3 * family.loss(plain)).backward()
    same(gradients(model), dense_gradients(plain, mask), rtol=1e-5, atol=1e-8)


def test_an_error_inside_a_forward_leaves_the_parameters_in_place() -> None:
    model, _ = attached(case_of("opt"), targets="*")
    names = [n for n, _ in model.named_parameters()]
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[10**6]]))
    assert [n for n, _ in model.named_parameters()] == names
    case_of("opt").loss(model).backward()
