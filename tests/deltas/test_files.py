"""Delta files: exact, small, and refused whole on any other base."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

import landscape as ls
from landscape.deltas import drawn
from landscape.deltas.files import read_about
from landscape.errors import UserError


def trained(seed: int = 0, model_seed: int = 0):
    model = ls.tiny_model("llama", seed=model_seed)
    mask = ls.random_mask(model, density=0.2, seed=seed)
    ls.attach(model, mask)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.normal_(generator=generator)
    return model, mask


@pytest.mark.parametrize("seeded", [True, False])
def test_a_delta_round_trips_bit_for_bit(tmp_path, seeded) -> None:
    model, mask = trained()
    if not seeded:
        values = {n: t.detach().clone() for n, t in ls.trainable(model).items()}
        ls.detach(model)
        ls.attach(model, dataclasses.replace(mask, rule={"kind": "given"}))
        with torch.no_grad():
            for name, theta in ls.trainable(model).items():
                theta.copy_(values[name])
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    expected = {n: t.detach().clone() for n, t in ls.trainable(model).items()}
    ls.detach(model)
    ls.load_delta(model, path)
    found = ls.trainable(model)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], expected[n]) for n in expected)


def test_a_delta_keeps_what_was_said_of_it_and_nothing_else_changes(tmp_path) -> None:
    model, _ = trained()
    about = {"task": {"prompt": "{text}\nGood?", "words": [" no", " yes"]}, "bos": None, "n": 3}
    told = ls.save_delta(model, tmp_path / "told.safetensors", about=about)
    plain = ls.save_delta(model, tmp_path / "plain.safetensors")
    assert read_about(told) == about
    assert read_about(plain) == {}
    assert load_file(told).keys() == load_file(plain).keys()
    ls.detach(model)
    one, two = (ls.read_delta(model, path) for path in (told, plain))
    assert all(torch.equal(one.values[n], two.values[n]) for n in two.values)
    with pytest.raises(UserError, match="what JSON lacks"):
        ls.save_delta(model, tmp_path / "no.safetensors", about={"x": object()})
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(told.read_bytes().replace(b"Good?", b"Evil?"))
    with pytest.raises(UserError, match="damaged"):
        read_about(damaged)


def test_a_seeded_delta_stores_values_only(tmp_path) -> None:
    model, mask = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    header = path.stat().st_size - 4 * mask.count
    assert header < 4096


@pytest.mark.parametrize(("last", "kind"), [(2**31 - 1, torch.int32), (2**31, torch.int64)])
def test_indices_are_stored_in_the_narrowest_type_that_holds_the_last(
    tmp_path, monkeypatch, last, kind
) -> None:
    """The tensor is small; only what is said of its last index is not."""
    model, mask = trained()
    ls.detach(model)
    ls.attach(model, dataclasses.replace(mask, rule={"kind": "given"}))
    monkeypatch.setattr(drawn, "_last", lambda _: last)
    stored = load_file(ls.save_delta(model, tmp_path / "delta.safetensors"))
    assert {t.dtype for n, t in stored.items() if n.endswith(".indices")} == {kind}


def test_another_base_a_truncated_file_and_a_stranger_are_refused(tmp_path) -> None:
    model, _ = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    other = ls.tiny_model("llama", seed=9)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(UserError, match="another base"):
        ls.load_delta(other, path)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="whole safetensors"):
        ls.load_delta(other, cut)
    with pytest.raises(UserError, match="found none"):
        ls.load_delta(other, tmp_path / "absent")
    with pytest.raises(UserError, match="model"):
        ls.load_delta(ls.tiny_model("gpt2"), path)
    for read in (ls.load_delta, ls.read_delta):
        with pytest.raises(UserError, match=r"expected model to be a torch\.nn\.Module, got None"):
            read(None, path)
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())
    assert not [n for n, _ in other.named_parameters() if "theta" in n]


def classifier(head_seed: int = 0) -> torch.nn.Module:
    """A pretrained body with a head that every load initialises anew."""
    model = ls.tiny_model("bert")
    head = dict(model.named_parameters())["classifier.weight"]
    with torch.no_grad():
        head.normal_(generator=torch.Generator().manual_seed(head_seed))
    return model


def with_head(model: torch.nn.Module, kind: str) -> ls.Mask:
    mask = ls.random_mask(model, density=0.1, targets="*.query", seed=2)
    if kind == "given":
        mask = dataclasses.replace(mask, rule={"kind": "given"})
    mask = ls.with_heads(mask, model, ["classifier.weight", "classifier.bias"])
    ls.attach(model, mask)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.normal_(std=0.1, generator=generator)
    ls.subspace.synchronise(model)
    return mask


@pytest.mark.parametrize("kind", ["random", "given"])
def test_a_head_is_stored_whole_and_lands_on_a_base_with_another_head(tmp_path, kind) -> None:
    model = classifier()
    mask = with_head(model, kind)
    theta = {n: p.detach().clone() for n, p in ls.trainable(model).items()}
    weights = {n: p.detach().clone() for n, p in model.named_parameters() if "theta" not in n}
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    # values, then initial values of the head, then indices of the others unless a seed has them
    heads = sum(mask.indices[n].numel() for n in mask.rule["heads"])
    indexed = 0 if kind == "random" else mask.count - heads
    assert path.stat().st_size - 4 * (mask.count + heads + indexed) < 4096
    ls.detach(model)
    ls.load_delta(model, path)
    assert all(torch.equal(p, theta[n]) for n, p in ls.trainable(model).items())
    other = classifier(head_seed=5)
    initial = other.classifier.weight.detach().clone()
    ls.load_delta(other, path)
    loaded = dict(other.named_parameters())
    for name in weights:  # one rounding of each sum of numbers below 8
        torch.testing.assert_close(loaded[name], weights[name], rtol=0, atol=8 * 2**-23)
    ls.detach(other)
    assert torch.equal(other.classifier.weight, initial)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("occupied", [False, True])
def test_a_head_moves_to_another_head_in_full_precision_whatever_mask_is_there(
    tmp_path, dtype, occupied
) -> None:
    """theta there = initial values here + theta here - initial values there, in float64."""
    model, other = classifier().to(dtype), classifier(head_seed=5).to(dtype)
    first = {n: p.detach().double() for n, p in model.named_parameters()}
    there = {n: p.detach().double() for n, p in other.named_parameters()}
    mask = with_head(model, "random")
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    if occupied:
        with_head(other, "given")
    ls.load_delta(other, path)
    found = ls.trainable(other)
    for name, theta in ls.trainable(model).items():
        wanted = theta.detach().double()
        if name in mask.rule["heads"]:
            wanted = first[name].flatten() + wanted - there[name].flatten()
        # one rounding to float32 of sums below 8, none to bfloat16
        torch.testing.assert_close(found[name].detach().double(), wanted, rtol=0, atol=8 * 2**-23)
    ls.detach(other)
    assert all(torch.equal(p.double(), there[n]) for n, p in other.named_parameters())


def test_a_head_does_not_excuse_another_body(tmp_path) -> None:
    model = classifier()
    with_head(model, "random")
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    with pytest.raises(UserError, match="another base"):
        ls.load_delta(ls.tiny_model("bert", seed=4), path)


def test_a_head_without_its_initial_values_is_refused(tmp_path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    model = classifier()
    with_head(model, "random")
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    ls.detach(model)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    for change in (None, torch.zeros(1)):
        cut = {k: v for k, v in tensors.items() if k != "classifier.bias.origin"}
        if change is not None:
            cut["classifier.bias.origin"] = change
        save_file(cut, path, metadata=metadata)
        with pytest.raises(UserError, match="initial values of a head"):
            ls.load_delta(model, path)
    rule = metadata["landscape"].replace('"classifier.bias"]', '"elsewhere"]')
    assert rule != metadata["landscape"]
    save_file(tensors, path, metadata={"landscape": rule})
    with pytest.raises(UserError, match="names other tensors"):
        ls.load_delta(model, path)
