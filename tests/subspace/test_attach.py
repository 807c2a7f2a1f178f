"""Attached models against dense references, step by step, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from oracles.subspace import DenseMasked, dense_hessian
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.kernels import (
    Coordinates,
    choose_kernel,
    masked_matmul,
    native,
    sampled_values,
    spmm_values,
)


@pytest.fixture(params=["gather", "sampled", "dense"])
def forced_kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the cost model choose one kernel everywhere."""
    monkeypatch.setattr("landscape.kernels.choice.choose_kernel", lambda *_: request.param)
    return request.param


@pytest.fixture
def math_attention():
    """Fused attention has no second derivative."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        yield


def masked(case, density: float = 0.05, dtype=torch.float64):
    model = case.model(dtype)
    mask = ls.random_mask(model, density=density, targets=case.targets, seed=4)
    return model, mask


@pytest.mark.parametrize("density", [0.003, 0.05, 0.6])
def test_masked_sgd_equals_the_dense_reference_step_by_step(case, density, forced_kernel) -> None:
    model, mask = masked(case, density)
    reference = DenseMasked(copy.deepcopy(model), mask)
    ls.attach(model, mask)
    optimizer = torch.optim.SGD(ls.trainable(model).values(), lr=0.3)
    for _ in range(4):
        loss, expected = case.loss(model), case.loss(reference.model)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-13)
        optimizer.zero_grad()
        loss.backward()
        grads = reference.gradients(expected)
        for name, theta in ls.trainable(model).items():
            wanted = grads[name].reshape(-1)[mask.indices[name]]
            torch.testing.assert_close(theta.grad, wanted, rtol=1e-9, atol=1e-13)
        optimizer.step()
        reference.sgd(grads, 0.3)


def test_masked_adamw_equals_the_dense_reference_step_by_step(case) -> None:
    model, mask = masked(case)
    reference = DenseMasked(copy.deepcopy(model), mask)
    ls.attach(model, mask)
    optimizer = torch.optim.AdamW(ls.trainable(model).values(), lr=0.02, weight_decay=0.1)
    for _ in range(5):
        loss, expected = case.loss(model), case.loss(reference.model)
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-11)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        reference.adamw(reference.gradients(expected), 0.02, 0.1)


def test_unselected_weights_are_bit_identical_after_training_and_detach_restores_all(case) -> None:
    model, mask = masked(case, dtype=torch.float32)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags = {k: p.requires_grad for k, p in model.named_parameters()}
    ls.attach(model, mask)
    optimizer = torch.optim.AdamW(ls.trainable(model).values(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        case.loss(model).backward()
        optimizer.step()
    case.loss(model)
    after = {k: v for k, v in model.state_dict().items() if "theta_" not in k}
    assert after.keys() == before.keys()
    for name, old in before.items():
        changed = torch.nonzero(after[name].reshape(-1) != old.reshape(-1)).reshape(-1)
        allowed = mask.indices.get(name, torch.empty(0, dtype=torch.int64))
        assert torch.isin(changed, allowed).all()
        assert (changed.numel() > 0) == (name in mask.indices and allowed.numel() > 0)
    ls.detach(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert {k: p.requires_grad for k, p in model.named_parameters()} == flags


def test_merged_model_is_plain_saves_and_computes_the_same(case, tmp_path) -> None:
    model, mask = masked(case, dtype=torch.float32)
    ls.attach(model, mask)
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.normal_(generator=torch.Generator().manual_seed(0))
    expected = case.loss(model)
    plain = ls.merge(model)
    assert not any("theta" in name for name in plain.state_dict())
    torch.testing.assert_close(case.loss(plain), expected, rtol=1e-6, atol=1e-6)
    plain.save_pretrained(tmp_path / "model")
    again = type(plain).from_pretrained(tmp_path / "model")
    torch.testing.assert_close(case.loss(again), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("forced_kernel", "math_attention")
def test_second_derivatives_equal_the_dense_hessian(case) -> None:
    model, mask = masked(case, density=0.01)
    reference = copy.deepcopy(model)
    ls.attach(model, mask)
    thetas = list(ls.trainable(model).values())
    small = dense_hessian(case.loss(model), thetas)
    weights = dict(reference.named_parameters())
    names = [n for n in mask.indices if mask.indices[n].numel()]
    grads = torch.autograd.grad(
        case.loss(reference), [weights[n] for n in names], create_graph=True
    )
    picked = torch.cat([g.reshape(-1)[mask.indices[n]] for n, g in zip(names, grads, strict=True)])
    rows = []
    for value in picked:
        row = torch.autograd.grad(value, [weights[n] for n in names], retain_graph=True)
        rows.append(
            torch.cat([r.reshape(-1)[mask.indices[n]] for n, r in zip(names, row, strict=True)])
        )
    # Llama's RMSNorm computes in float32 whatever the model's dtype
    tolerance = 1e-6 if case.name == "llama" else 1e-12
    torch.testing.assert_close(small, torch.stack(rows), rtol=1e-8, atol=tolerance)


@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("count", [1, 6, 17, 35])
def test_masked_matmul_passes_gradcheck_and_gradgradcheck(transpose, count, forced_kernel) -> None:
    generator = torch.Generator().manual_seed(0)
    indices = torch.randperm(35, generator=generator)[:count].sort().values
    at = Coordinates(indices, (5, 7))
    base = torch.randn(5, 7, dtype=torch.float64, generator=generator)
    x = torch.randn(4, 7 if transpose else 5, dtype=torch.float64, generator=generator)
    theta = torch.randn(count, dtype=torch.float64, generator=generator)

    def product(x: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        # the engine's contract: the weight already holds the base plus S(theta)
        weight = base.clone().view(-1).index_add(0, indices, theta.detach()).view(5, 7)
        return masked_matmul(x, theta, weight, None, at, transpose=transpose)

    inputs = (x.requires_grad_(), theta.requires_grad_())
    assert torch.autograd.gradcheck(product, inputs)
    assert torch.autograd.gradgradcheck(product, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kernel", ["gather", "sampled", "dense"])
def test_every_kernel_agrees_with_the_float64_dense_product(dtype, kernel) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(50, 30, generator=generator).to(dtype)
    b = torch.randn(50, 20, generator=generator).to(dtype)
    indices = torch.randperm(600, generator=generator)[:90].sort().values
    at = Coordinates(indices, (30, 20))
    exact = (a.double().t() @ b.double()).reshape(-1)[indices]
    tolerance = 30 * 50**0.5 * (torch.finfo(dtype).eps if kernel == "dense" else 1.2e-7)
    got = sampled_values(a, b, at, kernel)
    assert (got.double() - exact).abs().max() <= tolerance
    values = torch.randn(90, generator=generator)
    dense = torch.zeros(600, dtype=torch.float64)
    dense[indices] = values.to(dtype).double()
    wanted = b.double() @ dense.view(30, 20).t()
    got = spmm_values(values, b, at, True)
    assert (got.double() - wanted).abs().max() <= 40 * torch.finfo(dtype).eps


def test_tied_embedding_and_head_share_one_theta_and_get_both_gradients() -> None:
    case_loss = __import__("conftest").CASES[1].loss
    model = ls.tiny_model("llama", tie_word_embeddings=True).double()
    mask = ls.random_mask(model, density=0.02, targets="lm_head", seed=0)
    reference = DenseMasked(copy.deepcopy(model), mask)
    ls.attach(model, mask)
    (theta,) = ls.trainable(model).values()
    for _ in range(2):
        loss = case_loss(model)
        (grad,) = torch.autograd.grad(loss, [theta])
        wanted = reference.gradients(case_loss(reference.model))
        (name,) = mask.indices
        torch.testing.assert_close(grad, wanted[name].reshape(-1)[mask.indices[name]])
        with torch.no_grad():
            theta -= 0.5 * grad
        reference.sgd(wanted, 0.5)


def test_biases_norms_and_embeddings_can_be_masked_together() -> None:
    case = __import__("conftest").CASES[0]
    model = case.model()
    targets = ["*.bias", "*layer_norm*weight", "*.embed_tokens", "*.[qv]_proj"]
    mask = ls.random_mask(model, density=0.1, targets=targets)
    reference = DenseMasked(copy.deepcopy(model), mask)
    ls.attach(model, mask)
    optimizer = torch.optim.SGD(ls.trainable(model).values(), lr=0.2)
    for _ in range(3):
        loss, expected = case.loss(model), case.loss(reference.model)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-13)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        reference.sgd(reference.gradients(expected), 0.2)
    ls.detach(model)


def test_a_bfloat16_model_moves_under_updates_below_one_ulp() -> None:
    layer = nn.ModuleDict({"q_proj": nn.Linear(16, 16, bias=False)}).bfloat16()
    with torch.no_grad():
        layer["q_proj"].weight.fill_(1.0)
    mask = ls.random_mask(layer, density=0.5, targets="q_proj")
    ls.attach(layer, mask)
    (theta,) = ls.trainable(layer).values()
    assert theta.dtype == torch.float32
    x = torch.ones(1, 16, dtype=torch.bfloat16)
    ulp = torch.finfo(torch.bfloat16).eps
    for _ in range(64):
        with torch.no_grad():
            theta += ulp / 40
    moved = layer["q_proj"](x)
    assert torch.any(moved != 16.0)
    in_place = torch.tensor(1.0, dtype=torch.bfloat16)
    for _ in range(64):
        in_place += ulp / 40
    assert in_place == 1.0  # the trap: adding to the bfloat16 weight itself rounds it all away


def test_small_updates_of_a_bfloat16_base_are_kept_whole_and_undone_bit_for_bit(tmp_path) -> None:
    """Adding to the weights and taking away again loses updates and changes bits; not here."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.ModuleDict({"q_proj": nn.Linear(64, 32, bias=False)}).bfloat16()
    with torch.no_grad():
        layer["q_proj"].weight.normal_(generator=generator)
    start = layer["q_proj"].weight.detach().clone()
    small = 1e-3 * torch.randn(start.numel(), generator=generator)
    rounded = (start.float().flatten() + small).bfloat16()
    assert int((rounded == start.flatten()).sum()) > 100  # the trap: these updates are lost
    undone = (rounded.float() - small).bfloat16()
    assert int((undone != start.flatten()).sum()) > 0  # and these bits are changed
    ls.attach(layer, ls.random_mask(layer, density=1.0, targets="q_proj"))
    (theta,) = ls.trainable(layer).values()
    with torch.no_grad():
        theta.copy_(small)
    ls.subspace.synchronise(layer)
    assert torch.equal(layer["q_proj"].weight.flatten(), rounded)
    path = ls.save_delta(layer, tmp_path / "delta.safetensors")
    ls.detach(layer)
    assert torch.equal(layer["q_proj"].weight, start)
    ls.load_delta(layer, path)
    assert torch.equal(ls.trainable(layer)["q_proj.weight"], small)
    ls.detach(layer)
    assert torch.equal(layer["q_proj"].weight, start)


def test_density_one_is_full_fine_tuning_of_the_targets(case) -> None:
    model = case.model()
    full = copy.deepcopy(model)
    mask = ls.random_mask(model, density=1.0, targets=case.targets)
    ls.attach(model, mask)
    case.loss(model).backward()
    case.loss(full).backward()
    for name, theta in ls.trainable(model).items():
        wanted = dict(full.named_parameters())[name].grad.reshape(-1)
        torch.testing.assert_close(theta.grad, wanted, rtol=1e-9, atol=1e-13)


def test_theta_is_all_that_is_trainable_and_has_k_float32_numbers(case) -> None:
    model, mask = masked(case, dtype=torch.bfloat16)
    ls.attach(model, mask)
    parameters = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in parameters) == mask.count
    assert all(p.dtype == torch.float32 and p.dim() == 1 for p in parameters)


def test_nothing_of_the_weights_size_is_kept_for_backward() -> None:
    layer = nn.ModuleDict({"q_proj": nn.Linear(300, 200)})
    ls.attach(layer, ls.random_mask(layer, density=0.001, targets="q_proj"))
    weight = layer["q_proj"].weight
    kept = []
    pack = lambda t: kept.append((t.data_ptr(), t.numel())) or t  # noqa: E731
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        layer["q_proj"](torch.randn(8, 300))
    fresh = [numel for pointer, numel in kept if pointer != weight.data_ptr()]
    assert max(fresh) <= 8 * 300


def test_a_graph_of_another_point_is_refused_by_autograd() -> None:
    layer = nn.ModuleDict({"q_proj": nn.Linear(30, 20)})
    ls.attach(layer, ls.random_mask(layer, density=0.1, targets="q_proj"))
    (theta,) = ls.trainable(layer).values()
    x = torch.randn(4, 30, requires_grad=True)
    stale = layer["q_proj"](x).square().sum()
    with torch.no_grad():
        theta += 1.0
    layer["q_proj"](x)
    with pytest.raises(RuntimeError, match=r"modified (by an )?inplace"):
        stale.backward()


def test_an_attached_model_can_be_copied_and_the_copies_are_independent() -> None:
    layer = nn.ModuleDict({"q_proj": nn.Linear(6, 5)})
    ls.attach(layer, ls.random_mask(layer, density=0.5, targets="q_proj"))
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        next(iter(ls.trainable(twin).values())).add_(1.0)
    x = torch.randn(2, 6)
    assert not torch.equal(layer["q_proj"](x), twin["q_proj"](x))
    assert torch.equal(ls.detach(layer)["q_proj"](x), ls.detach(twin)["q_proj"](x))


def test_mistakes_are_refused_and_leave_the_model_untouched() -> None:
    layer = nn.ModuleDict({"q_proj": nn.Linear(6, 5)})
    other = nn.ModuleDict({"q_proj": nn.Linear(7, 5)})
    mask = ls.random_mask(layer, density=0.5, targets="q_proj")
    before = set(layer.state_dict())
    with pytest.raises(UserError, match="shape"):
        ls.attach(other, mask)
    with pytest.raises(UserError, match="lacks"):
        ls.attach(nn.ModuleDict({"k_proj": nn.Linear(6, 5)}), mask)
    with pytest.raises(UserError, match="attach first"):
        ls.detach(layer)
    ls.attach(layer, mask)
    with pytest.raises(UserError, match="detach or merge"):
        ls.attach(layer, mask)
    ls.detach(layer)
    assert set(layer.state_dict()) == before
    assert all(p.requires_grad for p in layer.parameters())


@pytest.mark.parametrize("compiler", [True, False])
def test_the_cost_model_prefers_each_kernel_where_it_was_measured_fastest(
    monkeypatch, compiler
) -> None:
    monkeypatch.setattr(native, "is_usable", lambda *_: compiler)

    def chosen(k: int, dtype: torch.dtype = torch.float32) -> str:
        indices = torch.randperm(768 * 768, generator=torch.Generator().manual_seed(0))[:k]
        return choose_kernel(Coordinates(indices.sort().values, (768, 768)), 512, dtype)

    assert chosen(58) == ("native" if compiler else "gather")
    assert chosen(5_898) == ("native" if compiler else "sampled")
    assert chosen(294_912) == "dense"
    assert chosen(294_912, torch.bfloat16) == "dense"
