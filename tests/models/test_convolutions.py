"""Masks of convolutions: gradients, curvature and training against dense autograd in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import add_dense, spread
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.identity import base_digests
from landscape.training.mode import training_mode

POINTWISE = ["*.layer.0.convolution", "*.layer.2.convolution", "*.shortcut.convolution"]
SPATIAL = "*.layer.1.convolution"


def resnet(dtype: torch.dtype = torch.float64) -> Any:
    """A tiny ResNet whose batch norms hold statistics that were not just made."""
    model = ls.tiny_model("resnet")
    generator = torch.Generator().manual_seed(5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model.to(dtype)


def batch(count: int = 5, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    pixels = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return {"pixel_values": pixels.to(dtype), "labels": torch.arange(count) % 3}


@pytest.mark.parametrize("targets", [POINTWISE, SPATIAL, "*.convolution"])
def test_gradients_are_the_dense_ones_at_the_mask_wherever_theta_is(targets) -> None:
    model, plain = resnet(), resnet()
    mask = ls.random_mask(model, density=0.2, targets=targets, seed=3)
    assert all(len(shape) == 4 for shape in mask.shapes.values())
    ls.attach(model, mask)
    add_dense(plain, mask, spread(model))
    plain.requires_grad_(True)(**batch()).loss.backward()
    dense = dict(plain.named_parameters())
    out = model(**batch())
    out.loss.backward()
    torch.testing.assert_close(out.logits, plain(**batch()).logits, rtol=1e-12, atol=1e-12)
    for name, theta in ls.trainable(model).items():
        wanted = dense[name].grad.reshape(-1)[mask.indices[name]]
        torch.testing.assert_close(theta.grad, wanted, rtol=1e-9, atol=1e-12)


def test_the_hessian_inside_masks_of_two_convolutions_is_that_part_of_the_dense_one() -> None:
    model, plain = resnet(), resnet()
    targets = ["*.stages.1.layers.0.layer.1.convolution", "*.stages.1.layers.0.layer.2.convolution"]
    mask = ls.random_mask(model, count=14, targets=targets, seed=2)
    weights = [dict(plain.named_parameters())[name] for name in mask.indices]
    grads = torch.autograd.grad(plain(**batch()).loss, weights, create_graph=True)
    chosen = list(mask.indices.values())
    flat = torch.cat([g.reshape(-1)[i] for g, i in zip(grads, chosen, strict=True)])
    rows = [torch.autograd.grad(g, weights, retain_graph=True) for g in flat]
    expected = torch.stack([
        torch.cat([t.reshape(-1)[i] for t, i in zip(row, chosen, strict=True)]) for row in rows
    ])  # fmt: skip
    ls.attach(model, mask)
    found = ls.exact_matrix(ls.HessianOperator(model, [batch()]))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_selected_masks_of_convolutions_have_the_largest_scores_of_all_flat_weights() -> None:
    model = resnet()
    weight = dict(model.named_parameters())["resnet.encoder.stages.0.layers.0.layer.1."
                                            "convolution.weight"]  # fmt: skip
    mask = ls.select_mask(model, score="magnitude", count=10, targets="*.0.layers.0.layer.1.conv*n")
    (chosen,) = mask.indices.values()
    assert set(chosen.tolist()) == set(weight.abs().reshape(-1).topk(10).indices.tolist())
    gradients = ls.select_mask(
        model, score="gradient", count=10, targets=SPATIAL, batches=[batch()], scope="global"
    )  # fmt: skip
    model.requires_grad_(True)(**batch()).loss.backward()
    named = dict(model.named_parameters())
    flat = torch.cat([named[n].grad.abs().reshape(-1) for n in gradients.shapes])
    least = flat.topk(10).values[-1]
    for name, indices in gradients.indices.items():
        assert bool((named[name].grad.reshape(-1)[indices].abs() >= least).all())
    assert gradients.count == 10


def test_training_leaves_the_statistics_of_batch_norms_and_every_mode_as_they_were() -> None:
    model = resnet(torch.float32)
    model.resnet.embedder.train()
    before = [module.training for module in model.modules()]
    digests = base_digests(model)
    ls.attach(model, ls.random_mask(model, density=0.2, targets=POINTWISE, seed=0))
    optimizer = ls.AdamW(ls.trainable(model).values(), lr=1e-2)
    data, losses = batch(dtype=torch.float32), []
    for step in range(12):
        with training_mode(model, step):
            assert model.training
            loss = model(**data).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05
    assert [module.training for module in model.modules()] == before
    assert base_digests(model) == digests
    ls.detach(model)
    assert base_digests(model) == digests


def test_a_delta_of_convolutions_comes_back(tmp_path) -> None:
    model, data = resnet(torch.float32), batch(dtype=torch.float32)
    ls.attach(model, ls.random_mask(model, density=0.1, targets="*.convolution", seed=1))
    spread(model)
    with torch.no_grad():
        expected = model(**data).logits
    ls.save_delta(model, tmp_path / "d.safetensors")
    again = resnet(torch.float32)
    ls.load_delta(again, tmp_path / "d.safetensors")
    with torch.no_grad():
        assert torch.equal(again(**data).logits, expected)
        assert torch.equal(ls.merge(again)(**data).logits, expected)


def test_a_head_is_fitted_on_images() -> None:
    model = resnet(torch.float32)
    data = batch(24, torch.float32)
    before = model(**data).loss.item()
    ls.fit_head(model, [data])
    assert model(**data).loss.item() < before - 0.1


def test_a_network_without_attention_asks_for_targets_by_name() -> None:
    with pytest.raises(UserError, match=r"whose query and value layers are not known; .*"
                                        r"\*\.convolution"):  # fmt: skip
        ls.random_mask(resnet(), density=0.1, targets="auto")
