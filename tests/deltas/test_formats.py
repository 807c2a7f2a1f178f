"""Delta files: whose base they are of, what they hold, and what is not saved or loaded."""

from __future__ import annotations

import copy
import dataclasses
import json
import math

import pytest
import torch
from safetensors.torch import save_file

import landscape as ls
from landscape.errors import UserError
from landscape.subspace import is_attached
from landscape.tensorfile import read_tensors, write_tensors


def trained(architecture: str = "llama", *, kind: str = "random", heads=(), **options):
    """A model with a mask and random values, as training would leave it."""
    model = ls.tiny_model(architecture, **options)
    targets = "*.query" if architecture == "bert" else "*.[qv]_proj"
    mask = ls.random_mask(model, density=0.1, targets=targets, seed=3)
    mask = ls.with_heads(mask, model, heads) if heads else mask
    ls.attach(model, mask if kind == "random" else dataclasses.replace(mask, rule={"kind": kind}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.normal_(generator=generator)
    return model


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 40).view(1, -1)).logits


def shift_others(model: torch.nn.Module) -> None:
    """Add 1 to every tensor without a mask."""
    masked = ls.random_mask(model, count=2, sampling="exact").shapes
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name not in masked:
                p.add_(1.0)


@pytest.mark.parametrize("kind", ["random", "given"])
def test_a_base_that_differs_outside_the_mask_alone_is_refused_and_left_alone(
    tmp_path, kind
) -> None:
    path = ls.save_delta(trained(kind=kind), tmp_path / "delta.safetensors")
    other = ls.tiny_model("llama")
    shift_others(other)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(UserError, match=r"got another base model: lm_head\.weight"):
        ls.load_delta(other, path)
    assert not is_attached(other)
    assert all(torch.equal(t, before[n]) for n, t in other.state_dict().items())
    ls.load_delta(other, path, force=True)
    assert is_attached(other)


def test_one_changed_number_of_a_base_is_noticed_and_its_tensor_named(tmp_path) -> None:
    path = ls.save_delta(trained(), tmp_path / "delta.safetensors")
    other = ls.tiny_model("llama")
    with torch.no_grad():
        other.model.layers[1].mlp.gate_proj.weight[3, 5].add_(1e-6)
    with pytest.raises(UserError, match=r": model\.layers\.1\.mlp\.gate_proj\.weight differ;"):
        ls.load_delta(other, path)
    with pytest.raises(UserError, match="another base model"):
        ls.read_delta(other, path)


def test_a_base_that_a_delta_was_merged_into_is_another_base(tmp_path) -> None:
    model = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    ls.load_delta(model, path)
    ls.merge(model)
    with pytest.raises(UserError, match="another base model"):
        ls.load_delta(model, path)


def test_a_fitted_head_that_the_file_lacks_is_refused_by_name_and_kept_with_heads(tmp_path) -> None:
    def fitted() -> torch.nn.Module:
        model = ls.tiny_model("bert")
        with torch.no_grad():
            model.classifier.weight.copy_(torch.linspace(-1, 1, 64).view(2, 32))
        return model

    model = fitted()
    ls.attach(model, ls.random_mask(model, density=0.1, targets="*.query"))
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    expected = logits(model)
    with pytest.raises(UserError, match=r": classifier\.weight differ.*`with_heads`"):
        ls.load_delta(ls.tiny_model("bert"), path)
    again = fitted()
    ls.load_delta(again, path)
    assert torch.equal(logits(again), expected)
    ls.detach(model)
    mask = ls.random_mask(model, density=0.1, targets="*.query")
    ls.attach(model, ls.with_heads(mask, model, ["classifier.*"]))
    kept = ls.save_delta(model, tmp_path / "kept.safetensors")
    fresh = ls.tiny_model("bert")
    ls.load_delta(fresh, kept)
    torch.testing.assert_close(logits(fresh), expected, rtol=0, atol=1e-6)


def test_another_precision_of_a_base_is_taken_by_force_alone(tmp_path) -> None:
    model = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    narrow = ls.tiny_model("llama").to(torch.bfloat16)
    with pytest.raises(UserError, match="it was in float32, this one is in bfloat16"):
        ls.load_delta(narrow, path)
    ls.load_delta(narrow, path, force=True)
    for name, theta in ls.trainable(narrow).items():
        assert torch.equal(theta, ls.trainable(model)[name])
    # a delta that was taken by force belongs to the base that took it
    again = ls.save_delta(narrow, tmp_path / "narrow.safetensors")
    ls.load_delta(ls.tiny_model("llama").to(torch.bfloat16), again)


def test_a_mask_whose_indices_were_changed_under_its_rule_is_saved_as_it_is(tmp_path) -> None:
    model = ls.tiny_model("llama")
    mask = ls.random_mask(model, density=0.1)
    other = ls.random_mask(model, density=0.1, seed=8)
    ls.attach(model, dataclasses.replace(mask, indices=other.indices))
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    loaded = ls.load_delta(ls.tiny_model("llama"), path).mask
    assert all(torch.equal(loaded.indices[n], i) for n, i in other.indices.items())
    assert loaded.rule["kind"] == "given"


def test_a_rule_that_draws_other_weights_here_is_refused(tmp_path, monkeypatch) -> None:
    from landscape import masks

    model = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    honest = masks.bernoulli

    def other(rng, n, probability):
        drawn = honest(rng, n, probability)
        return (drawn + 1) % n if drawn[-1] == n - 1 else drawn + 1

    monkeypatch.setattr(masks, "bernoulli", other)
    with pytest.raises(UserError, match="draws other weights here"):
        ls.load_delta(ls.tiny_model("llama"), path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_neither_saved_nor_applied_nor_loaded(
    tmp_path, value
) -> None:
    model = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    file = read_tensors(path, "a delta file")
    name = next(iter(ls.trainable(model)))
    file.tensors[name][2] = value
    damaged = write_tensors(tmp_path / "damaged.safetensors", file.tensors, file.header)
    with pytest.raises(
        UserError, match=f"finite values in a delta, got NaN or infinity for {name}"
    ):
        ls.load_delta(model, damaged)
    change = ls.delta(model)
    with pytest.raises(UserError, match="finite factor"):
        value * change
    change.values[name][2] = value
    with pytest.raises(UserError, match="finite values"):
        ls.apply_delta(model, change)
    with torch.no_grad():
        ls.trainable(model)[name][2] = value
    with pytest.raises(UserError, match="finite values"):
        ls.save_delta(model, tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


def test_a_factor_that_overflows_is_not_saved(tmp_path) -> None:
    model = trained()
    with pytest.raises(UserError, match="finite values"):
        ls.apply_delta(model, 1e39 * ls.delta(model))


@pytest.mark.parametrize(
    "origin",
    [torch.full((64,), math.nan), torch.ones(64, dtype=torch.bool),
     torch.zeros(64).to(torch.cfloat), torch.zeros(64, dtype=torch.int64), torch.zeros(2, 32)],
)  # fmt: skip
def test_a_heads_initial_values_are_finite_numbers_of_its_shape(tmp_path, origin) -> None:
    model = trained("bert", heads=["classifier.weight"])
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    file = read_tensors(path, "a delta file")
    tensors = file.tensors | {"classifier.weight.origin": origin}
    write_tensors(path, tensors, file.header)
    with pytest.raises(UserError, match="initial values of a head"):
        ls.load_delta(ls.tiny_model("bert"), path)


def test_deltas_of_two_models_do_not_add() -> None:
    def change(**options) -> ls.Delta:
        return ls.delta(trained(**options))

    other_seed, wider = change(seed=1), change(num_key_value_heads=4)
    disjoint = ls.tiny_model("llama")
    shift_others(disjoint)
    ls.attach(disjoint, ls.random_mask(disjoint, density=0.1, targets="*.[qv]_proj", seed=8))
    for other in (other_seed, wider, ls.delta(disjoint)):
        for operation in (lambda a, b: a + b, lambda a, b: a - b, ls.compose):
            with pytest.raises(UserError, match=r"one base model|different weights"):
                operation(change(), other)
    with pytest.raises(UserError, match=r"v_proj.weight of shape \(16, 32\) and of shape"):
        ls.overlap(change(), wider)
    # where the bases are not known the shapes still are
    bare = [dataclasses.replace(d, base=None) for d in (change(), wider)]
    with pytest.raises(UserError, match="one base model"):
        bare[0] + bare[1]


def test_a_path_below_the_user_is_written_and_read_there(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = trained()
    assert ls.save_delta(model, "~/deltas/a.safetensors") == tmp_path / "deltas" / "a.safetensors"
    assert not (tmp_path / "~").exists()
    ls.load_delta(model, "~/deltas/a.safetensors")


def test_a_file_of_the_older_format_is_read_by_force_alone(tmp_path) -> None:
    model = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    file = read_tensors(path, "a delta file")
    older = {k: v for k, v in file.header.items() if k not in ("indices", "base", "dtype")}
    save_file(file.tensors, path, metadata={
        "landscape": json.dumps(older | {"format": "landscape-delta-1"})})  # fmt: skip
    fresh = ls.tiny_model("llama")
    with pytest.raises(UserError, match=r"landscape-delta-1, .*force=True \(--force\) and save it"):
        ls.load_delta(fresh, path)
    ls.load_delta(fresh, path, force=True)
    assert torch.equal(logits(fresh), logits(model))


def test_a_tensor_without_an_index_is_saved_and_loaded(tmp_path) -> None:
    model = ls.tiny_model("llama")
    mask = ls.random_mask(model, count=1, sampling="exact")
    none = torch.zeros(1, dtype=torch.int64).expand(3)[:0]  # strides of 0, as unions may have
    indices = {n: i if i.numel() else none for n, i in mask.indices.items()}
    ls.attach(model, dataclasses.replace(mask, indices=indices, rule={"kind": "given"}))
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    assert ls.load_delta(ls.tiny_model("llama"), path).mask.count == 1
