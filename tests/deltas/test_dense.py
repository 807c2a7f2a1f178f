"""Deltas of models with a head beside the mask: files, arithmetic, other heads, switching."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

import landscape as ls
from landscape.errors import UserError
from landscape.subspace import dense_parameters, thetas
from landscape.tensorfile import read_tensors, write_tensors

HEAD = ["classifier.weight", "classifier.bias"]


def classifier(head_seed: int = 0) -> torch.nn.Module:
    """A pretrained body with a head that every load initialises anew."""
    model = ls.tiny_model("bert")
    with torch.no_grad():
        generator = torch.Generator().manual_seed(head_seed)
        model.classifier.weight.normal_(generator=generator)
        model.classifier.bias.normal_(generator=generator)
    return model


def trained(
    head_seed: int = 0, *, seed: int = 1, dense: str = "classifier", kind: str = "random"
) -> torch.nn.Module:
    """A model whose theta and head have moved; numbers of few digits, whose sums are exact."""
    model = classifier(head_seed)
    mask = ls.random_mask(model, density=0.1, targets="*.query", seed=2)
    ls.attach(model, dataclasses.replace(mask, rule={**mask.rule, "kind": kind}), dense=dense)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in ls.trainable(model).values():
            p.add_(torch.randint(-8, 9, p.shape, generator=generator) / 8)
    ls.subspace.synchronise(model)
    return model


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if "theta" not in n}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("kind", ["random", "given"])
def test_a_dense_head_round_trips_bit_for_bit_and_a_file_without_one_says_nothing_of_any(
    tmp_path, kind
) -> None:
    model, start = trained(kind=kind), classifier()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    stored = load_file(path)
    assert torch.equal(stored["classifier.weight"], model.classifier.weight)
    assert {n for n in stored if n.startswith("classifier")} == set(HEAD)
    expected = weights(model)
    again = classifier()
    ls.load_delta(again, path)
    assert same(weights(again), expected)
    assert ls.distance(again).per_tensor == ls.distance(model).per_tensor
    ls.detach(again)
    assert same(weights(again), weights(start))
    plain = trained(kind=kind, dense=())
    header = read_tensors(ls.save_delta(plain, path), "a delta file").header
    assert "dense" not in header


def test_a_dense_head_lands_as_it_is_on_a_base_that_began_with_another(tmp_path) -> None:
    model, other = trained(), classifier(head_seed=5)
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    initial = weights(other)
    ls.load_delta(other, path)
    assert torch.equal(other.classifier.weight, model.classifier.weight)
    assert torch.equal(other.classifier.bias, model.classifier.bias)
    moved = ls.distance(other).per_tensor["classifier.bias"]
    wanted = (model.classifier.bias.detach() - initial["classifier.bias"]).double().norm()
    assert moved == pytest.approx(float(wanted), rel=1e-6)
    ls.detach(other)
    assert same(weights(other), initial)
    ls.apply_delta(other, ls.delta(model))
    assert torch.equal(other.classifier.weight, model.classifier.weight)


def test_a_dense_head_does_not_excuse_another_body(tmp_path) -> None:
    path = ls.save_delta(trained(), tmp_path / "delta.safetensors")
    with pytest.raises(UserError, match="another base model"):
        ls.load_delta(ls.tiny_model("bert", seed=4), path)


def test_deltas_switch_between_masks_with_and_without_a_dense_head() -> None:
    model = trained()
    first, before = ls.delta(model), weights(model)
    ls.detach(model)
    second = ls.delta(trained(dense=()))
    for _ in range(2):
        ls.apply_delta(model, second)
        assert not dense_parameters(model)
        assert torch.equal(model.classifier.weight, classifier().classifier.weight)
        ls.apply_delta(model, first)
        assert same(weights(model), before)
        assert list(dense_parameters(model)) == HEAD


def test_sums_and_multiples_of_dense_heads_are_those_of_their_changes() -> None:
    first, second = ls.delta(trained(seed=1)), ls.delta(trained(seed=2))
    masked = ls.delta(trained(seed=3, dense=()))
    start = weights(classifier())
    for result, factors in (
        (first + second, (1, 1)),
        (first - second, (1, -1)),
        (2.0 * first, (2, 0)),
        (first + masked, (1, 0)),
        (masked - second, (0, -1)),
    ):
        for name in HEAD:
            changes = [d.dense[name].value.double() - start[name].double() for d in (first, second)]
            wanted = start[name].double() + sum(f * c for f, c in zip(factors, changes))
            assert torch.equal(result.dense[name].value, wanted.float())
            assert torch.equal(result.dense[name].start, start[name])
    model = classifier()
    ls.apply_delta(model, first - first)
    assert same(weights(model), start)


def test_overlap_counts_all_weights_of_a_dense_head_and_compose_refuses_two() -> None:
    first, second = ls.delta(trained(seed=1)), ls.delta(trained(seed=2))
    found = ls.overlap(first, second)
    assert found.per_tensor["classifier.weight"] == 2 * 32
    assert found.count == first.mask.count + 2 * 32 + 2 == first.count
    assert found.first == found.jaccard == 1.0
    signs = [
        torch.cat([*d.values.values(), *(d.dense[n].change.flatten() for n in HEAD)]).sign()
        for d in (first, second)
    ]
    moved = (signs[0] != 0) & (signs[1] != 0)
    same = (signs[0] == signs[1])[moved]
    assert found.same_sign == pytest.approx(float(same.double().mean()))
    bare = ls.delta(trained(dense=()))
    assert ls.overlap(first, bare).count == bare.mask.count
    with pytest.raises(UserError, match=r"different weights to compose, got .* in"):
        ls.compose(first, second)


def test_a_tensor_that_is_dense_in_one_delta_and_masked_in_the_other_does_not_add() -> None:
    first, model = ls.delta(trained()), classifier()
    ls.attach(model, ls.random_mask(model, density=0.5, targets="classifier"))
    for combine in (lambda a, b: a + b, lambda a, b: b - a):
        with pytest.raises(UserError, match=r"one of each for classifier\.weight"):
            combine(first, ls.delta(model))


def test_heads_that_began_elsewhere_do_not_add_where_no_base_is_known() -> None:
    first, second = ls.delta(trained()), ls.delta(trained(head_seed=5))
    with pytest.raises(UserError, match=r"two bases: classifier\.bias, classifier\.weight differ"):
        first + second
    with pytest.raises(UserError, match="two starts of classifier"):
        dataclasses.replace(first, base=None) + dataclasses.replace(second, base=None)


def test_values_of_a_dense_head_that_are_not_finite_are_neither_saved_nor_applied(tmp_path) -> None:
    model = trained()
    with torch.no_grad():
        model.classifier.bias[1] = float("nan")
    with pytest.raises(UserError, match=r"NaN or infinity for classifier\.bias"):
        ls.save_delta(model, tmp_path / "delta.safetensors")
    change = ls.delta(model)
    ls.detach(model)
    with pytest.raises(UserError, match=r"NaN or infinity for classifier\.bias"):
        ls.apply_delta(model, change)
    assert not ls.subspace.is_attached(model)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda h, t: t.pop("classifier.bias"), r"for classifier\.bias in .*got nothing"),
        (lambda h, t: t.update({"classifier.bias": torch.zeros(3)}), r"got shape \(3,\)"),
        (lambda h, t: t.update({"classifier.bias": torch.ones(2).long()}), "int64"),
        (lambda h, t: h.update(dense=["classifier.weight"]), r"such as classifier\.bias"),
        (lambda h, t: h.update(dense=[*HEAD, "elsewhere"]), "expected elsewhere, which"),
        (lambda h, t: h.update(dense=[*HEAD, HEAD[0]]), "names other tensors"),
        (lambda h, t: h.update(dense=[*HEAD, next(iter(h["shapes"]))]), "names other tensors"),
        (lambda h, t: h.update(dense="classifier.bias"), "expected a list of texts as dense"),
        (lambda h, t: h.update(dense=[[1]]), "expected a list of texts as dense"),
    ],
)
def test_a_file_whose_dense_tensors_are_not_what_it_says_is_refused_whole(
    tmp_path, change, sentence
) -> None:
    path = ls.save_delta(trained(), tmp_path / "delta.safetensors")
    file = read_tensors(path, "a delta file")
    change(file.header, file.tensors)
    write_tensors(path, file.tensors, file.header)
    model = classifier()
    before = weights(model)
    with pytest.raises(UserError, match=sentence):
        ls.load_delta(model, path)
    assert same(weights(model), before)
    assert not ls.subspace.is_attached(model)


def test_the_change_of_an_attached_model_is_a_copy() -> None:
    model = trained()
    change = ls.delta(model)
    with torch.no_grad():
        for p in ls.trainable(model).values():
            p.zero_()
    assert change.dense["classifier.bias"].value.abs().sum() > 0
    assert all(v.abs().sum() > 0 for v in change.values.values())
    assert change.values.keys() == thetas(model).keys()
