"""Delta algebra against dense changes, and files that must be refused whole."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import landscape as ls
from landscape.deltas.algebra import listing
from landscape.errors import UserError

SHAPES = {"a.weight": (5, 6), "b.weight": (4, 3)}


def layers(seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.ModuleDict({"a": torch.nn.Linear(6, 5), "b": torch.nn.Linear(3, 4)})


def made(model: torch.nn.Module, chosen: dict[str, list[int]], seed: int) -> ls.Delta:
    """A delta with whole-number values, whose sums are exact in float32."""
    generator = torch.Generator().manual_seed(seed)
    indices = {n: torch.tensor(sorted(c), dtype=torch.int64) for n, c in chosen.items()}
    shapes = {n: SHAPES[n] for n in chosen}
    total = sum(p.numel() for p in model.parameters())
    ls.attach(model, ls.Mask(indices, shapes, total, {"kind": "given"}))
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.copy_(torch.randint(-9, 10, theta.shape, generator=generator))
    change = ls.delta(model)
    ls.detach(model)
    return change


def dense(change: ls.Delta) -> dict[str, torch.Tensor]:
    out = {n: torch.zeros(5 * 6 if n == "a.weight" else 4 * 3) for n in SHAPES}
    for name, indices in change.mask.indices.items():
        out[name][indices] = change.values[name]
    return out


def masks() -> st.SearchStrategy[dict[str, list[int]]]:
    def some(n: int) -> st.SearchStrategy[list[int]]:
        return st.lists(st.integers(0, n - 1), unique=True, max_size=n)

    both = st.fixed_dictionaries({"a.weight": some(30), "b.weight": some(12)})
    one = st.fixed_dictionaries({"b.weight": some(12)})
    return st.one_of(both, one)


@settings(max_examples=25, deadline=None)
@given(masks(), masks(), st.integers(-3, 3))
def test_sums_and_multiples_are_those_of_the_dense_changes(first, second, factor) -> None:
    model = layers()
    a, b = made(model, first, 1), made(model, second, 2)
    x, y = dense(a), dense(b)
    for result, expected in (
        (a + b, {n: x[n] + y[n] for n in SHAPES}),
        (a - b, {n: x[n] - y[n] for n in SHAPES}),
        (factor * a, {n: factor * x[n] for n in SHAPES}),
        ((a + b) - b, x),
    ):
        assert all(torch.equal(dense(result)[n], expected[n]) for n in SHAPES)
        start = {n: p.detach().clone() for n, p in model.named_parameters()}
        ls.apply_delta(model, result)
        for name in SHAPES:
            weight = dict(model.named_parameters())[name]
            moved = start[name] + expected[name].view(SHAPES[name])
            assert torch.equal(weight, moved)
        ls.detach(model)
    assert (a + b).mask.count == sum(
        len(set(first.get(n, [])) | set(second.get(n, []))) for n in SHAPES
    )


@settings(max_examples=60, deadline=None)
@given(masks(), masks())
def test_overlap_counts_what_sets_count(first, second) -> None:
    model = layers()
    a, b = made(model, first, 1), made(model, second, 2)
    found = ls.overlap(a, b)
    pairs = [
        {(n, i) for n, indices in chosen.items() for i in indices} for chosen in (first, second)
    ]
    common, either = pairs[0] & pairs[1], pairs[0] | pairs[1]
    assert found.count == len(common)
    assert found.jaccard == (len(common) / len(either) if either else 0.0)
    assert found.first == (len(common) / len(pairs[0]) if pairs[0] else 0.0)
    assert found.second == (len(common) / len(pairs[1]) if pairs[1] else 0.0)
    x, y = dense(a), dense(b)
    signs = [float(torch.sign(x[n][i]) * torch.sign(y[n][i])) for n, i in common]
    moved = sum(map(abs, signs))
    if moved:
        assert found.same_sign == signs.count(1.0) / moved
    else:
        assert math.isnan(found.same_sign)
    if common:
        with pytest.raises(UserError, match="different weights"):
            ls.compose(a, b)
    else:
        whole = dense(ls.compose(a, b))
        assert all(torch.equal(whole[n], x[n] + y[n]) for n in SHAPES)


def test_random_masks_of_one_rule_stay_one_and_are_saved_without_indices(tmp_path) -> None:
    model = ls.tiny_model("llama")
    mask = ls.random_mask(model, density=0.2, seed=3)
    ls.attach(model, mask)
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.fill_(0.5)
    change = ls.delta(model)
    ls.apply_delta(model, change + 2.0 * change)
    path = ls.save_delta(model, tmp_path / "sum.safetensors")
    assert path.stat().st_size - 4 * mask.count < 4096
    assert all(torch.all(p == 1.5) for p in ls.trainable(model).values())


@pytest.mark.parametrize(
    "options", [{"count": 70}, {"count": 70, "granularity": "blocks", "block": (4, 8)},
                {"granularity": "1:4"}, {"count": 300, "granularity": "heads"}]
)  # fmt: skip
def test_structured_masks_are_saved_as_their_rule_and_made_again(tmp_path, options) -> None:
    model = ls.tiny_model("llama")
    mask = ls.structured_mask(model, seed=5, **options)
    ls.attach(model, mask)
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    ls.detach(model)
    assert path.stat().st_size - 4 * mask.count < 4096
    loaded = ls.load_delta(model, path).mask
    assert all(torch.equal(loaded.indices[n], mask.indices[n]) for n in mask.indices)


def test_switching_between_deltas_gives_each_its_model_and_detach_the_original() -> None:
    model = layers()
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    first = made(model, {"a.weight": [1, 2, 3], "b.weight": [0]}, 1)
    second = made(model, {"a.weight": [2, 3, 9]}, 2)
    for change in (first, second, first, second, second):
        ls.apply_delta(model, change)
        for name, flat in dense(change).items():
            weight = dict(model.named_parameters())[name]
            assert torch.equal(weight, start[name] + flat.view(SHAPES[name]))
    ls.detach(model)
    assert all(torch.equal(p, start[n]) for n, p in model.named_parameters())


@pytest.mark.parametrize("known", [True, False])
def test_a_weight_held_from_before_holds_a_delta_once_it_is_applied(known) -> None:
    """Its memory may be another process's, which looks at no module."""
    model = layers()
    held, start = model["a"].weight, model["a"].weight.tolist()
    change = made(model, {"a.weight": [1, 2, 3], "b.weight": [0]}, 1)
    ls.apply_delta(model, change if known else replace(change, base=None))
    expected = torch.tensor(start) + dense(change)["a.weight"].view(5, 6)
    assert torch.equal(torch.tensor(held.tolist()), expected)
    ls.detach(model)
    assert held.tolist() == start


def test_a_delta_of_another_base_leaves_the_attached_one_in_place() -> None:
    model = layers()
    own = made(model, {"a.weight": [1, 2]}, 1)
    stranger = made(layers(seed=1), {"a.weight": [1, 2]}, 1)
    ls.apply_delta(model, own)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    with pytest.raises(UserError, match="another base model"):
        ls.apply_delta(model, stranger)
    assert {n: p.tolist() for n, p in model.named_parameters()} == {
        n: p.tolist() for n, p in before.items()
    }
    with pytest.raises(UserError, match="one base model"):
        own + stranger


@pytest.mark.parametrize("known", [True, False])
def test_deltas_of_models_of_other_sizes_do_not_add_compose_or_subtract(known) -> None:
    """The masked tensors agree to the bit; the models differ elsewhere."""
    model, larger = layers(), layers()
    larger["c"] = torch.nn.Linear(2, 2)
    own, other = made(model, {"a.weight": [1, 2]}, 1), made(larger, {"a.weight": [4, 5]}, 1)
    assert torch.equal(model["a"].weight, larger["a"].weight)
    if not known:  # as in a file of before there were hashes of the base
        own, other = replace(own, base=None), replace(other, base=None)
    for combine in (lambda: own + other, lambda: other - own, lambda: ls.compose(own, other)):
        with pytest.raises(UserError, match="one base model"):
            combine()


def test_deltas_of_bases_that_differ_where_no_mask_is_do_not_add() -> None:
    model, other = layers(), layers()
    with torch.no_grad():
        other["b"].weight += 1
    own, foreign = made(model, {"a.weight": [1, 2]}, 1), made(other, {"a.weight": [4, 5]}, 1)
    with pytest.raises(UserError, match=r"two bases: b\.weight differ"):
        own + foreign


def test_deltas_of_a_tensor_and_its_transpose_do_not_add() -> None:
    """As many parameters, and no hash of either base."""
    transposed = torch.nn.ModuleDict({"a": torch.nn.Linear(5, 6, bias=False)})
    own = torch.nn.ModuleDict({"a": torch.nn.Linear(6, 5, bias=False)})
    changes = []
    for model, shape in ((own, (5, 6)), (transposed, (6, 5))):
        ls.attach(
            model, ls.Mask({"a.weight": torch.tensor([len(changes)])}, {"a.weight": shape}, 30)
        )
        changes.append(replace(ls.delta(model), base=None))
    first, second = changes
    for combine in (lambda: first + second, lambda: first - second):
        with pytest.raises(UserError, match=r"of shape \(5, 6\) and of shape \(6, 5\)"):
            combine()


def test_sums_of_wide_deltas_are_wide() -> None:
    """1 + 2^-40 is no float32."""
    change = made(layers(), {"a.weight": [1, 2]}, 1)
    small = torch.tensor([1 + 2.0**-40, -(2.0**-40)], dtype=torch.float64)
    wide = replace(change, values={"a.weight": small})
    total = (wide + wide).values["a.weight"]
    assert total.dtype == torch.float64
    assert total.tolist() == [2 + 2.0**-39, -(2.0**-39)]


def test_a_base_that_one_of_two_deltas_knows_is_the_sums() -> None:
    model = layers()
    own, second = made(model, {"a.weight": [1, 2]}, 1), made(model, {"a.weight": [4, 5]}, 1)
    assert own.base
    for total in (own + replace(second, base=None), replace(own, base=None) + second):
        assert total.base == own.base
        assert total.mask.count == 4
    assert (replace(own, base=None) + replace(second, base=None)).base is None


def test_values_that_are_not_finite_are_not_applied() -> None:
    model = layers()
    change = made(model, {"a.weight": [1, 2]}, 1)
    before = {n: p.tolist() for n, p in model.named_parameters()}
    for values, words in (
        ({"a.weight": torch.tensor([1.0, float("nan")])}, r"NaN or infinity for a\.weight"),
        ({"a.weight": torch.ones(3)}, r"2 values for a\.weight in a delta, got shape \(3,\)"),
        ({}, r"2 values for a\.weight in a delta, got none"),
    ):
        with pytest.raises(UserError, match=words):
            ls.apply_delta(model, replace(change, values=values))
        assert {n: p.tolist() for n, p in model.named_parameters()} == before


def test_only_deltas_overlap() -> None:
    own = made(layers(), {"a.weight": [1, 2]}, 1)
    for which, pair in (("first", ({}, own)), ("second", (own, {}))):
        with pytest.raises(UserError, match=f"expected {which} to be a Delta"):
            ls.overlap(*pair)


def test_three_names_are_listed_and_the_others_counted() -> None:
    assert listing(["a"]) == "a"
    assert listing(["a", "b", "c"]) == "a, b, c"
    assert listing(["a", "b", "c", "d"]) == "a, b, c and 1 more"
    assert listing([str(i) for i in range(1_234)]) == "0, 1, 2 and 1,231 more"


def rewritten(path, change: Callable[[dict, dict], None]):
    """Rewrite a delta file with its header or tensors changed."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["landscape"])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    change(header, tensors)
    save_file(tensors, path, metadata={"landscape": json.dumps(header)})
    return path


def unsorted(header: dict, tensors: dict) -> None:
    tensors["a.weight.indices"] = tensors["a.weight.indices"].flip(0)


def duplicate(header: dict, tensors: dict) -> None:
    tensors["a.weight.indices"][1] = tensors["a.weight.indices"][0]


def beyond(header: dict, tensors: dict) -> None:
    tensors["a.weight.indices"][-1] = 30


def negative(header: dict, tensors: dict) -> None:
    tensors["a.weight.indices"][0] = -1


def shorter(header: dict, tensors: dict) -> None:
    tensors["a.weight"] = tensors["a.weight"][:-1]


def folded(header: dict, tensors: dict) -> None:
    tensors["a.weight.indices"] = tensors["a.weight.indices"].view(2, 2)


def fractional(header: dict, tensors: dict) -> None:
    tensors["a.weight.indices"] = tensors["a.weight.indices"] + 0.5


def unindexed(header: dict, tensors: dict) -> None:
    del tensors["a.weight.indices"]


def narrow(header: dict, tensors: dict) -> None:
    tensors["a.weight"] = tensors["a.weight"].half()


def missing(header: dict, tensors: dict) -> None:
    del tensors["a.weight"]


def reshaped(header: dict, tensors: dict) -> None:
    header["shapes"]["a.weight"] = [6, 5]


def crowded(header: dict, tensors: dict) -> None:
    tensors.update({f"x{i}": torch.zeros(1) for i in range(20_000)})


def bare(header: dict, tensors: dict) -> None:
    del header["fingerprint"]


def renamed(header: dict, tensors: dict) -> None:
    header["format"] = "another"


def forged(header: dict, tensors: dict) -> None:
    header["rule"] = {"kind": "random", "density": 0.1, "targets": "b", "seed": 0,
                      "sampling": "exact"}  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (unsorted, "sorted, distinct"), (duplicate, "sorted, distinct"), (beyond, "below 30"),
        (folded, "sorted, distinct"), (fractional, "sorted, distinct"),
        (unindexed, "expected 0 values"), (narrow, "float16"),
        (negative, "sorted, distinct"), (shorter, "expected 4 values"),
        (missing, "got nothing"), (reshaped, "expected a.weight of shape"),
        (crowded, "20,000 of them no part"), (bare, "to say its fingerprint, got nothing"),
        (renamed, "expected a delta file of landscape"), (forged, "names other tensors"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_whole(tmp_path, damage, sentence) -> None:
    model = layers()
    ls.apply_delta(model, made(model, {"a.weight": [3, 7, 8, 20]}, 1))
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    ls.detach(model)
    before = {n: p.tolist() for n, p in model.named_parameters()}
    names = {n: set(vars(m)) for n, m in model.named_modules()}
    with pytest.raises(UserError, match=sentence):
        ls.load_delta(model, rewritten(path, damage))
    assert {n: p.tolist() for n, p in model.named_parameters()} == before
    assert {n: set(vars(m)) for n, m in model.named_modules()} == names


def test_a_file_is_read_on_a_model_that_another_delta_has_changed(tmp_path) -> None:
    model = layers()
    first = made(model, {"a.weight": [1, 2, 3]}, 1)
    ls.apply_delta(model, first)
    path = ls.save_delta(model, tmp_path / "first.safetensors")
    ls.detach(model)
    second = made(model, {"a.weight": [2, 3, 4]}, 2)
    ls.apply_delta(model, second)
    read = ls.read_delta(model, path)
    assert all(torch.equal(read.values[n], first.values[n]) for n in first.values)
    ls.load_delta(model, path)
    assert ls.subspace.attached_mask(model).indices["a.weight"].tolist() == [1, 2, 3]


def test_a_file_with_a_hundred_thousand_tensors_is_refused_before_any_is_read(tmp_path) -> None:
    model = layers()
    ls.apply_delta(model, made(model, {"a.weight": [3, 7]}, 1))
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    ls.detach(model)
    with safe_open(path, framework="pt") as file:
        metadata = json.dumps({"__metadata__": file.metadata()})
    empty = ",".join(
        f'"x{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(100_000)
    )
    header = f"{metadata[:-1]},{empty}}}".encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    before = {n: p.tolist() for n, p in model.named_parameters()}
    with pytest.raises(UserError, match="100,000 of them no part"):
        ls.load_delta(model, path)
    assert {n: p.tolist() for n, p in model.named_parameters()} == before
