"""Structured masks: exact budgets, whole tiles, one seed one mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.masks import share
from landscape.selection.tiles import Tiling


def grid(mask: ls.Mask, name: str, transposed: bool = False) -> np.ndarray:
    """Return a mask of one tensor as booleans, shape (outputs, inputs)."""
    flat = np.zeros(int(np.prod(mask.shapes[name])), dtype=bool)
    flat[mask.indices[name].numpy()] = True
    shape = mask.shapes[name]
    matrix = flat.reshape(shape[0], -1)
    return matrix.T if transposed else matrix


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=3),
    st.sampled_from(["columns", "rows", "blocks"]),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.integers(0, 1000),
    st.data(),
)
def test_the_budget_is_met_exactly_by_whole_tiles_but_one(shapes, kind, block, seed, data) -> None:
    model = nn.ModuleDict({f"q{i}": nn.Linear(b, a) for i, (a, b) in enumerate(shapes)})
    size = sum(a * b for a, b in shapes)
    count = data.draw(st.integers(1, size))
    mask = ls.structured_mask(
        model, granularity=kind, count=count, targets="*.weight", seed=seed, block=block
    )
    assert mask.count == count
    quota = share(mask.shapes, count)
    for name, indices in mask.indices.items():
        assert indices.numel() == quota[name]
        assert torch.all(indices[1:] > indices[:-1])
        chosen = grid(mask, name)
        height, width = {
            "columns": (chosen.shape[0], 1), "rows": (1, chosen.shape[1]), "blocks": block,
        }[kind]  # fmt: skip
        parts = [
            chosen[i : i + height, j : j + width]
            for i in range(0, chosen.shape[0], height)
            for j in range(0, chosen.shape[1], width)
        ]
        assert sum(bool(p.any() and not p.all()) for p in parts) <= 1


def test_a_count_of_exactly_whole_columns_drops_none_of_them() -> None:
    """The peers' structured masking loses a column here."""
    model = nn.ModuleDict({"q": nn.Linear(10, 6)})
    for columns in range(1, 11):
        chosen = grid(ls.structured_mask(model, count=6 * columns, targets="q"), "q.weight")
        assert chosen.all(axis=0).sum() == columns
        assert chosen.any(axis=0).sum() == columns


def test_columns_read_one_input_in_either_layout_of_memory() -> None:
    linear, conv = ls.tiny_model("llama"), ls.tiny_model("gpt2")
    name = "model.layers.0.self_attn.q_proj.weight"
    mask = ls.structured_mask(linear, count=64, targets=name)
    x = torch.zeros(1, 32)
    inputs = grid(mask, name).any(axis=0)
    assert inputs.sum() == 2
    x[0, torch.from_numpy(~inputs)] = 1.0
    ls.attach(linear, mask)
    module = linear.model.layers[0].self_attn.q_proj
    before = module(x)
    with torch.no_grad():
        ls.trainable(linear)[name].fill_(1.0)
    assert torch.equal(module(x), before)  # the other inputs alone never meet the mask
    name = "transformer.h.0.attn.c_attn.weight"
    mask = ls.structured_mask(conv, count=192, targets=name)
    inputs = grid(mask, name, transposed=True).any(axis=0)
    assert inputs.sum() == 2
    x = torch.zeros(1, 32)
    x[0, torch.from_numpy(~inputs)] = 1.0
    ls.attach(conv, mask)
    module = conv.transformer.h[0].attn.c_attn
    before = module(x)
    with torch.no_grad():
        ls.trainable(conv)[name].fill_(1.0)
    assert torch.equal(module(x), before)


def test_heads_are_whole_also_where_queries_share_their_keys_and_values() -> None:
    model = ls.tiny_model("llama")  # 4 query heads on 2 key-value heads, of size 8
    for leaf, heads in (("q_proj", 4), ("k_proj", 2), ("v_proj", 2), ("o_proj", 4)):
        mask = ls.structured_mask(
            model, granularity="heads", count=2 * 8 * 32, targets=f"*.{leaf}", seed=1
        )
        for name in mask.indices:
            chosen = grid(mask, name)
            lines = chosen.all(axis=0) if leaf == "o_proj" else chosen.all(axis=1)
            assert lines.sum() == 8
            assert len({*(np.flatnonzero(lines) // 8)}) == 1
            assert lines.size == 8 * heads


def test_every_column_is_chosen_as_often_as_any_other() -> None:
    model = nn.ModuleDict({"q": nn.Linear(20, 3)})
    draws, counts = 2000, np.zeros(20)
    for seed in range(draws):
        counts += grid(ls.structured_mask(model, count=15, targets="q", seed=seed), "q.weight").all(
            axis=0
        )
    q = 5 / 20
    statistic = np.sum((counts - draws * q) ** 2) / (draws * q * (1 - q)) * 19 / 20
    assert stats.chi2.sf(statistic, 19) > 1e-6


@pytest.mark.parametrize("granularity", ["columns", "rows", "blocks", "heads", "1:4"])
def test_layers_of_equal_shape_get_different_masks_and_seeds_matter(granularity) -> None:
    model = ls.tiny_model("opt")
    budget = {} if ":" in granularity else {"count": 800}
    first, again, other = (
        ls.structured_mask(model, granularity=granularity, block=(4, 4), seed=seed, **budget)
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first.indices[n], again.indices[n]) for n in first.indices)
    assert any(not torch.equal(first.indices[n], other.indices[n]) for n in first.indices)
    assert len({tuple(i.tolist()) for i in first.indices.values()}) > 1


@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 4), (3, 5), (1, 1), (7, 9)])
def test_a_pattern_keeps_n_of_every_m_inputs(n, m) -> None:
    model = nn.ModuleDict({"q": nn.Linear(23, 6)})
    chosen = grid(ls.structured_mask(model, granularity=f"{n}:{m}", targets="q"), "q.weight")
    whole = 23 - 23 % m
    assert np.all(chosen[:, :whole].reshape(6, -1, m).sum(axis=2) == n)
    assert np.all(chosen[:, whole:].sum(axis=1) == n * (23 % m) // m)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
def test_tiles_cover_every_weight_once_and_their_means_are_means(
    outputs, inputs, height, width, transposed, seed
) -> None:
    tiling = Tiling(outputs, inputs, min(height, outputs), min(width, inputs), transposed)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(outputs * inputs, generator=generator, dtype=torch.float64)
    every = [tiling.members(torch.tensor([i])) for i in range(tiling.count)]
    assert torch.cat(every).sort().values.tolist() == list(range(outputs * inputs))
    assert [len(members) for members in every] == tiling.sizes().tolist()
    means = torch.stack([scores[members].mean() for members in every])
    torch.testing.assert_close(tiling.means(scores), means, rtol=1e-12, atol=1e-12)


def test_the_mask_of_a_large_model_needs_no_weights_and_no_number_a_weight() -> None:
    with torch.device("meta"):
        model = nn.ModuleDict({f"l{i}": nn.Linear(40_000, 50_000, bias=False) for i in range(2)})
    mask = ls.structured_mask(model, count=150_001, targets="*")
    assert mask.count == 150_001
    assert max(int(i.max()) for i in mask.indices.values()) > 2**30


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"granularity": "stripes"}, "a granularity among"),
        ({"granularity": "0:4", "count": None}, "1 <= n <= m"),
        ({"granularity": "2:4"}, "no budget beside the pattern"),
        ({"count": None}, "exactly one"),
        ({"targets": "*.bias"}, "expected matrices"),
        ({"granularity": "heads"}, "whole number of heads"),
    ],
)
def test_mistakes_are_refused_with_a_sentence(change, sentence) -> None:
    model = nn.ModuleDict({"q": nn.Linear(8, 8)})
    with pytest.raises(UserError, match=sentence):
        ls.structured_mask(model, **({"count": 5, "targets": "q"} | change))


def test_the_first_columns_are_taken_whole_and_of_the_last_one_its_first_rows() -> None:
    """Typed by hand: 6 outputs x 5 inputs; 13 weights are two columns and one weight of a third."""
    model = nn.ModuleDict({"q": nn.Linear(5, 6, bias=False)})
    mask = ls.structured_mask(model, count=13, targets="q", order="first")
    wanted = np.zeros((6, 5), dtype=bool)
    wanted[:, :2] = True
    wanted[0, 2] = True
    assert (grid(mask, "q.weight") == wanted).all()
    assert mask.rule["order"] == "first"
    assert "seed" not in mask.rule
    few = ls.structured_mask(model, count=4, targets="q", order="first", seed=9)
    assert few.indices["q.weight"].tolist() == [0, 5, 10, 15]  # below one column: its first rows


def test_an_order_that_nobody_knows_or_that_a_pattern_cannot_have_is_refused() -> None:
    model = nn.ModuleDict({"q": nn.Linear(4, 4)})
    with pytest.raises(UserError, match="order to be one of random, first, got the text 'last'"):
        ls.structured_mask(model, count=4, targets="q", order="last")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"for the pattern 2:4, whose weights are drawn"):
        ls.structured_mask(model, granularity="2:4", targets="q", order="first")
