"""Every family and every kind of tensor: an attached model against the dense reference."""

from __future__ import annotations

import copy

import pytest
import torch
from families import FAMILIES, attached, case_of, spread, tokens
from oracles.subspace import DenseMasked
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.subspace import synchronise


@pytest.fixture(params=FAMILIES, ids=lambda case: case.name)
def family(request: pytest.FixtureRequest):
    return request.param


def test_every_tensor_of_every_family_can_be_masked_at_once(family) -> None:
    model = family.model()
    mask = ls.random_mask(model, density=0.1, targets="*", seed=2)
    reference = DenseMasked(copy.deepcopy(model), mask)
    ls.attach(model, mask)
    for _ in range(2):
        loss, expected = family.loss(model), family.loss(reference.model)
        # RMSNorm and T5's norm compute in float32 whatever the model's dtype
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-9)
        used = [n for n, w in reference.weights.items() if mask.indices[n].numel()]
        grads = torch.autograd.grad(
            expected, [reference.weights[n] for n in used], materialize_grads=True
        )
        thetas = ls.trainable(model)
        model.zero_grad()
        loss.backward()
        for name, grad in zip(used, grads, strict=True):
            wanted = grad.reshape(-1)[mask.indices[name]]
            got = thetas[name].grad
            got = torch.zeros_like(wanted) if got is None else got
            torch.testing.assert_close(got, wanted, rtol=2e-5, atol=1e-7, msg=name)
            with torch.no_grad():
                thetas[name] -= 0.1 * got
        reference.sgd({n: g * reference.masks[n] for n, g in zip(used, grads, strict=True)}, 0.1)


@pytest.mark.parametrize("targets", ["*", "*weight"])
def test_names_order_flags_and_bits_are_the_originals_after_use_and_detach(family, targets) -> None:
    model = family.model(torch.float32)
    before = [(n, p.detach().clone(), p.requires_grad) for n, p in model.named_parameters()]
    attributes = [set(m.__dict__) for m in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    ls.attach(model, ls.random_mask(model, density=0.1, targets=targets, seed=0))
    spread(model)
    family.loss(model).backward()
    ls.detach(model)
    after = list(model.named_parameters())
    assert [n for n, _ in after] == [n for n, _, _ in before]
    assert all(torch.equal(p, w) for (_, p), (_, w, _) in zip(after, before, strict=True))
    assert [p.requires_grad for _, p in after] == [flag for _, _, flag in before]
    assert [set(m.__dict__) for m in model.modules()] == attributes
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_agree_with_full_fine_tuning_of_the_same_model(
    family, dtype
) -> None:
    model, mask = attached(family, dtype, density=0.1)
    full = family.model(dtype)
    family.loss(model).backward()
    family.loss(full).backward()
    wanted = dict(full.named_parameters())
    flat, exact = [], []
    for name, theta in ls.trainable(model).items():
        assert theta.dtype == torch.float32
        if theta.numel() and wanted[name].grad is not None:
            flat.append(theta.grad)
            exact.append(wanted[name].grad.float().reshape(-1)[mask.indices[name]])
    got, want = torch.cat(flat), torch.cat(exact)
    # both round each product's result once: a few units of the half type, relative to the whole
    assert (got - want).norm() <= 8 * torch.finfo(dtype).eps * want.norm()
    assert want.norm() > 0


def test_grouped_query_attention_masks_the_narrow_value_matrix_in_its_own_shape() -> None:
    model = ls.tiny_model("llama")
    shapes = ls.random_mask(model, density=0.5, targets="*.[kv]_proj").shapes
    assert set(shapes.values()) == {(16, 32)}
    mask = ls.random_mask(model, density=1.0, targets="*.[kv]_proj")
    ls.attach(model, mask)
    case_of("llama").loss(model).backward()
    assert all(p.grad.norm() > 0 for p in ls.trainable(model).values())


@pytest.mark.parametrize("name", ["opt", "gpt2", "t5", "bart"])
def test_a_tied_tensor_has_one_theta_under_its_first_name_and_stays_tied(name) -> None:
    model, mask = attached(case_of(name), torch.float64, targets="lm_head")
    (tied,) = mask.indices
    assert tied != "lm_head.weight"
    spread(model)
    case_of(name).loss(model)
    merged = ls.merge(model)
    assert merged.get_output_embeddings().weight is merged.get_input_embeddings().weight
    assert sum("theta" in n for n, _ in merged.named_parameters()) == 0


def test_columns_beyond_the_range_of_int16_are_reached() -> None:
    layer = nn.ModuleDict({"wide": nn.Linear(40_000, 3, bias=False)}).double()
    indices = torch.tensor([32_767, 32_768, 39_999, 79_998])
    mask = ls.Mask({"wide.weight": indices}, {"wide.weight": (3, 40_000)}, 120_000)
    ls.attach(layer, mask)
    x = torch.randn(2, 40_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = layer["wide"](x)
    out.sum().backward()
    (theta,) = ls.trainable(layer).values()
    wanted = torch.stack([x[:, i % 40_000].sum() for i in indices.tolist()])
    torch.testing.assert_close(theta.grad, wanted)


def test_attention_that_reads_its_projections_weight_directly_trains_it_too() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True).double()
    full = copy.deepcopy(layer)
    mask = ls.random_mask(layer, density=1.0, targets="*")
    ls.attach(layer, mask)
    spread(layer)
    synchronise(layer)
    full.load_state_dict({k: v for k, v in layer.state_dict().items() if "theta_" not in k})
    x = torch.randn(2, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer(x).square().sum().backward()
    full(x).square().sum().backward()
    for name, theta in ls.trainable(layer).items():
        wanted = dict(full.named_parameters())[name].grad.reshape(-1)
        torch.testing.assert_close(theta.grad, wanted, msg=name)


def test_an_embedding_that_is_looked_up_twice_gets_both_gradients() -> None:
    table = nn.ModuleDict({"e": nn.Embedding(20, 4)}).double()
    full = copy.deepcopy(table)
    mask = ls.random_mask(table, density=0.5, targets="e", seed=1)
    ls.attach(table, mask)

    def loss(m: nn.Module) -> torch.Tensor:
        first, second = m["e"](tokens() % 20), m["e"](tokens(seed=5) % 20)
        return (first * second).sum()

    loss(table).backward()
    loss(full).backward()
    (theta,) = ls.trainable(table).values()
    torch.testing.assert_close(
        theta.grad, full["e"].weight.grad.reshape(-1)[mask.indices["e.weight"]]
    )


def test_weights_that_hold_no_values_yet_are_refused() -> None:
    with torch.device("meta"):
        model = nn.ModuleDict({"q_proj": nn.Linear(6, 5)})
    mask = ls.random_mask(model, density=0.5, targets="q_proj")
    with pytest.raises(UserError, match="meta"):
        ls.attach(model, mask)
    assert [n for n, _ in model.named_parameters()] == ["q_proj.weight", "q_proj.bias"]
