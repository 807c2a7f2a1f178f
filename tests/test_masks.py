"""Random masks: budgets, distributions, purity."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from landscape import seeds
from landscape.errors import UserError
from landscape.masks import Mask, bernoulli, random_mask, share, subset
from landscape.models.targets import query_value, target_shapes
from landscape.models.tensors import is_quantised, num_parameters, tensors


def layers(*shapes: tuple[int, int]) -> nn.Module:
    return nn.ModuleDict({f"q_proj_{i}": nn.Linear(b, a) for i, (a, b) in enumerate(shapes)})


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1), st.integers(0, 10**6))
def test_indices_are_sorted_distinct_and_in_range(n: int, q: float, seed: int) -> None:
    rng = seeds.stream(seed, "w", (n,))
    for drawn in (bernoulli(rng, n, q), subset(rng, n, round(q * n))):
        assert np.all(np.diff(drawn) > 0)
        assert drawn.size == 0 or (drawn[0] >= 0 and drawn[-1] < n)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.data())
def test_a_subset_has_exactly_the_asked_size(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    assert subset(seeds.stream(0, "w", (n,)), n, k).size == k


def test_a_bernoulli_mask_whose_first_gaps_are_all_small_goes_on_behind_them() -> None:
    """Of 1,000 weights 500 are expected, and gaps for 650 are drawn at first."""

    class Unlucky:
        def geometric(self, probability: float, size: int) -> np.ndarray:
            return np.ones(size, dtype=np.int64)

    assert bernoulli(Unlucky(), 1000, 0.5).tolist() == list(range(1000))


@pytest.mark.parametrize("q", [0.5, 0.03, 0.9])
def test_every_position_of_a_bernoulli_mask_has_the_same_binomial_count(q: float) -> None:
    n, draws = 40, 4000
    counts = np.zeros(n)
    for seed in range(draws):
        counts[bernoulli(seeds.stream(seed, "w", (n,)), n, q)] += 1
    # chi-square over positions, and the joint count of neighbours for independence
    statistic = np.sum((counts - draws * q) ** 2) / (draws * q * (1 - q))
    assert stats.chi2.sf(statistic, n) > 1e-6
    pairs = sum(
        np.sum(np.diff(bernoulli(seeds.stream(s, "v", (n,)), n, q)) == 1) for s in range(draws)
    )
    expected, deviation = draws * (n - 1) * q * q, np.sqrt(draws * (n - 1) * q * q)
    assert abs(pairs - expected) < 6 * deviation * (1 + 2 * q)


def test_every_position_of_an_exact_mask_is_equally_likely() -> None:
    n, k, draws = 30, 7, 4000
    counts = np.zeros(n)
    for seed in range(draws):
        counts[subset(seeds.stream(seed, "w", (n,)), n, k)] += 1
    q = k / n
    statistic = np.sum((counts - draws * q) ** 2) / (draws * q * (1 - q)) * (n - 1) / n
    assert stats.chi2.sf(statistic, n - 1) > 1e-6


def test_bernoulli_density_is_within_binomial_error_tensor_by_tensor() -> None:
    model = layers((300, 200), (100, 500), (64, 64))
    mask = random_mask(model, density=0.02, targets="q_proj_*", seed=3)
    for name, indices in mask.indices.items():
        n = int(np.prod(mask.shapes[name]))
        assert abs(indices.numel() - 0.02 * n) < 5 * np.sqrt(n * 0.02 * 0.98)


def test_tensors_of_equal_shape_get_different_masks_and_seeds_matter() -> None:
    model = layers((50, 50), (50, 50))
    mask = random_mask(model, density=0.1, targets="*", seed=0)
    first, second = mask.indices["q_proj_0.weight"], mask.indices["q_proj_1.weight"]
    assert not torch.equal(first, second)
    other = random_mask(model, density=0.1, targets="*", seed=1)
    assert not torch.equal(first, other.indices["q_proj_0.weight"])


def test_a_mask_is_the_same_in_another_process_and_ignores_global_generators(forks) -> None:
    code = (
        "import json, torch, numpy; torch.manual_seed(7); numpy.random.seed(7)\n"
        "from torch import nn; from landscape.masks import random_mask\n"
        "m = random_mask(nn.ModuleDict({'a': nn.Linear(30, 40)}), density=.1, targets='a')\n"
        "print(json.dumps(m.indices['a.weight'].tolist()))"
    )
    there, _ = forks.run(code)
    here = random_mask(nn.ModuleDict({"a": nn.Linear(30, 40)}), density=0.1, targets="a")
    assert json.loads(there) == here.indices["a.weight"].tolist()


def test_one_tensors_mask_does_not_depend_on_the_other_tensors() -> None:
    alone = random_mask(layers((50, 40)), density=0.1, targets="*.weight")
    beside = random_mask(layers((50, 40), (9, 9)), density=0.1, targets="*.weight")
    name = "q_proj_0.weight"
    assert torch.equal(alone.indices[name], beside.indices[name])


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ((10, 7, 3), 9, (5, 3, 1)),  # 4.5, 3.15, 1.35: one left, for the .5
        ((10, 7, 3), 11, (5, 4, 2)),  # 5.5, 3.85, 1.65: two left, for .85 and .65
        ((3, 7, 10), 11, (2, 4, 5)),
        ((3, 3, 4), 5, (2, 1, 2)),  # 1.5, 1.5, 2: a tie, for the first by name
        ((6, 6, 6), 2, (1, 1, 0)),
        ((5, 5), 0, (0, 0)),
        ((5, 5), 10, (5, 5)),
        ((1000, 1), 1000, (999, 1)),  # 999.0, 0.999
    ],
)
def test_a_count_is_shared_by_largest_remainder(sizes, count, expected) -> None:
    shapes = {name: (1, size) for name, size in zip("abc", sizes)}
    assert tuple(share(shapes, count).values()) == expected
    backwards = {name: shapes[name] for name in reversed(shapes)}  # the order of names, not theirs
    assert share(backwards, count) == share(shapes, count)


def test_the_masks_of_a_seed_are_those_of_every_version() -> None:
    """Deltas are stored as their seed: these were drawn in November 2026, and must stay."""
    assert seeds.stream(0, "w", (5, 8)).integers(0, 2**32, 3).tolist() == [
        4_096_296_315,
        1_675_873_825,
        2_123_838_021,
    ]
    assert bernoulli(seeds.stream(0, "w", (5, 8)), 40, 0.15).tolist() == [5, 7, 12, 26, 27, 39]
    assert bernoulli(seeds.stream(3, "w", (40,)), 40, 0.6).tolist() == [
        0,
        8,
        10,
        11,
        12,
        14,
        18,
        21,
        22,
        23,
        26,
        28,
        29,
        30,
        31,
        32,
        34,
        35,
        36,
        37,
        38,
    ]
    assert subset(seeds.stream(0, "w", (5, 8)), 40, 6).tolist() == [11, 15, 19, 27, 31, 35]
    most = subset(seeds.stream(0, "w", (5, 8)), 40, 33).tolist()
    assert sorted({*range(40)} - {*most}) == [11, 15, 16, 19, 27, 31, 35]
    assert subset(seeds.stream(0, "w", (5, 8)), 40, 20).tolist() == sorted(
        {*range(40)} - {4, 8, 9, 10, 15, 17, 20, 21, 22, 23, 24, 25, 27, 28, 29, 30, 32, 33, 34, 39}
    )
    assert subset(seeds.stream(1, "v", (300,)), 300, 5).tolist() == [126, 147, 165, 277, 296]


@pytest.mark.parametrize("count", [1, 2, 3, 50, 4999])
def test_exact_sampling_meets_the_count_over_all_tensors(count: int) -> None:
    model = layers((50, 40), (30, 100))
    mask = random_mask(model, count=count, targets="*.weight", sampling="exact")
    assert mask.count == count


def test_the_three_forms_of_a_budget_are_its_count_over_all_and_over_the_targets() -> None:
    mask = Mask({"a": torch.tensor([0, 3])}, {"a": (2, 4)}, 40)
    assert (mask.count, mask.size, mask.ratio, mask.density) == (2, 8, 0.05, 0.25)
    assert str(mask) == "2 of 40 parameters trainable: ratio 0.05, density 0.25 in 1 tensors"


def test_the_ratio_counts_all_parameters_with_tied_weights_once() -> None:
    model = layers((50, 40), (50, 40))
    model["q_proj_1"].weight = model["q_proj_0"].weight
    total = 50 * 40 + 50 + 50
    assert num_parameters(model) == total
    mask = random_mask(model, ratio=0.1, targets="*.weight", sampling="exact")
    assert mask.count == round(0.1 * total)
    assert list(mask.indices) == ["q_proj_0.weight"]


def test_a_pattern_that_names_a_tied_tensor_by_its_second_name_finds_it() -> None:
    model = layers((50, 40), (50, 40))
    model["q_proj_1"].weight = model["q_proj_0"].weight
    mask = random_mask(model, density=0.5, targets="q_proj_1")
    assert list(mask.indices) == ["q_proj_0.weight"]


def test_a_module_that_is_there_twice_is_found_by_either_name_and_counted_once() -> None:
    model = layers((50, 40))
    model["again"] = model["q_proj_0"]
    assert num_parameters(model) == 50 * 40 + 50
    mask = random_mask(model, density=0.5, targets="again")
    assert list(mask.indices) == ["q_proj_0.weight"]


class Packed(nn.Module):
    """Two weights of four bits in every byte, as quantised layers hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features, self.out_features = 8, 4
        self.weight = nn.Parameter(torch.zeros(16, dtype=torch.uint8), requires_grad=False)


def test_a_layer_that_holds_its_weights_packed_counts_those_it_computes_with() -> None:
    model = nn.ModuleDict({"q_proj": Packed(), "v_proj": nn.Linear(8, 4, bias=False)})
    assert is_quantised(model["q_proj"])
    assert not is_quantised(model["v_proj"])
    assert num_parameters(model) == 32 + 32
    assert [(t.name, t.quantised) for t in tensors(model)] == [
        ("q_proj.weight", True), ("v_proj.weight", False)
    ]  # fmt: skip
    assert target_shapes(model, "*_proj") == {"q_proj.weight": (4, 8), "v_proj.weight": (4, 8)}


def test_targets_that_match_nothing_are_answered_with_those_that_would() -> None:
    def said(model: nn.Module) -> str:
        with pytest.raises(UserError) as caught:
            random_mask(model, density=0.5, targets=["nothing_*", "*"])
        return str(caught.value)

    inner = nn.ModuleDict({"b": nn.Linear(2, 2), "a": nn.Linear(2, 2)})
    nested = nn.ModuleDict({"x": inner, "top": nn.Linear(2, 2)})
    assert "got nothing_*, which matches none" in said(nested)
    assert "with weights are: *.a, *.b, top; give targets='*.a'" in said(nested)
    heads = nn.ModuleDict({"q_proj": nn.Linear(2, 2), "v_proj": nn.Linear(2, 2)})
    known = nn.ModuleDict({"x": heads})
    assert "are: *.q_proj, *.v_proj; give targets='*.[qv]_proj'" in said(known)
    bare = nn.Module()
    bare.register_parameter("scale", nn.Parameter(torch.ones(3)))
    assert "are: scale; give targets='scale'" in said(bare)


def test_query_and_value_are_named_as_the_architecture_names_both() -> None:
    def model(*names: str) -> nn.Module:
        return nn.ModuleDict({"x": nn.ModuleDict({n: nn.Linear(2, 2) for n in names})})

    assert query_value(model("query", "value")) == ["*.query", "*.value"]
    assert query_value(model("query", "key")) == []  # half of a pair is none
    assert query_value(model("q_proj")) == []
    assert query_value(model("c_attn", "query")) == ["*.c_attn"]


def test_a_mask_of_two_thousand_million_weights_needs_no_weights() -> None:
    with torch.device("meta"):
        model = nn.ModuleDict({f"l{i}": nn.Linear(40_000, 50_000, bias=False) for i in range(2)})
    mask = random_mask(model, ratio=1e-6, targets="*")
    assert abs(mask.count - 4000) < 6 * 4000**0.5
    assert max(int(i.max()) for i in mask.indices.values()) > 2**30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "exactly one"),
        ({"ratio": 0.1, "count": 3}, "exactly one"),
        ({"ratio": 0.999, "targets": "*.weight"}, "at most"),
        ({"density": 1.5}, "at most"),
        ({"count": 0}, "at least 1"),
        ({"density": float("nan")}, "finite number, got nan"),
        ({"density": 0.1, "targets": "nothing_*"}, "matches none"),
        ({"density": 0.1, "sampling": "quantum"}, "bernoulli"),
    ],
)
def test_bad_budgets_and_targets_are_refused_with_a_sentence(arguments, words) -> None:
    with pytest.raises(UserError, match=words):
        random_mask(layers((8, 8)), **({"targets": "q_proj_*"} | arguments))
