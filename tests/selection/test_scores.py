"""Masks by score against slow dense references: formulas, budgets, ties, memory."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from conftest import CASES
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import selection as oracle
from samples import uneven_examples
from torch import nn

import landscape as ls
from landscape.losses import as_loss
from landscape.masks import share
from landscape.models.targets import target_shapes
from landscape.selection.best import Best, top
from landscape.selection.stream import stream_norms
from landscape.tasks.batches import make_batches
from landscape.tasks.outputs.scoring import candidate_scores

GRADIENT_SCORES = [
    ("gradient", {}),
    ("snip", {}),
    ("id3", {"eps": 1.0, "exp": 2.0}),
    ("id3", {"eps": 0.5, "exp": -1.0}),
]
WEIGHT_SCORES = [("magnitude", {}), ("magnitude_smallest", {})]


def assert_best(mask: ls.Mask, scores: oracle.Scores, counts: dict[str, int] | int) -> None:
    """Check that the chosen weights are as many as asked, and that none left out scores higher.

    Two ways to add float64 gradients differ in rounding, so scores may swap within 1e-6 of the
    largest (Llama's norms compute in float32).
    """
    slack = 1e-6 * max(float(s.abs().max()) for s in scores.values())
    chosen = {n: s[mask.indices[n]] for n, s in scores.items()}
    left = {n: np.delete(s.numpy(), mask.indices[n].numpy()) for n, s in scores.items()}
    if isinstance(counts, int):
        assert mask.count == counts
        worst = min(float(c.min()) for c in chosen.values() if c.numel())
        assert worst >= max(float(x.max()) for x in left.values() if x.size) - slack
        return
    for name, count in counts.items():
        assert chosen[name].numel() == count
        assert float(chosen[name].min()) >= float(left[name].max()) - slack


def shapes_of(model: nn.Module, mask: ls.Mask) -> dict[str, tuple[int, ...]]:
    return {n: tuple(dict(model.named_parameters())[n].shape) for n in mask.indices}


@pytest.mark.parametrize(("score", "options"), WEIGHT_SCORES + GRADIENT_SCORES)
@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_a_selection_takes_the_best_of_the_dense_scores(case, score, options, scope) -> None:
    model = case.model()
    mask = ls.select_mask(
        model, score=score, batches=[{}], loss=lambda m, _: (case.loss(m), 1), count=97,
        targets=case.targets, scope=scope, **options,
    )  # fmt: skip
    grads = oracle.gradients(model, list(mask.indices), case.loss(model))
    scores = oracle.dense_scores(model, list(mask.indices), score, grads, **options)
    assert_best(mask, scores, share(shapes_of(model, mask), 97) if scope == "tensor" else 97)


def text(size: int, examples: list[ls.Example] | None = None, loss="classification"):
    return make_batches(examples or uneven_examples(), ls.tiny_tokenizer(), size, loss=loss)


@pytest.fixture(params=["opt", "llama", "gpt2"])
def language(request: pytest.FixtureRequest):
    targets = "*.c_attn" if request.param == "gpt2" else "*.[qv]_proj"
    return ls.tiny_model(request.param, vocab_size=len(ls.tiny_tokenizer())).double(), targets


@pytest.mark.parametrize("loss", ["classification", "language modelling"])
def test_unequal_batches_weigh_every_term_of_the_loss_the_same(language, loss) -> None:
    model, targets = language
    options = {"score": "gradient", "count": 60, "targets": targets}
    mask = ls.select_mask(model, batches=text(3, loss=loss), **options)
    total = sum(ls.task_loss(model, batch)[0] for batch in text(1, loss=loss))
    grads = oracle.gradients(model, list(mask.indices), total)
    scores = oracle.dense_scores(model, list(mask.indices), "gradient", grads)
    assert_best(mask, scores, share(shapes_of(model, mask), 60))


@pytest.mark.parametrize("max_live", [1, 3000, 1 << 24])
def test_passes_over_groups_of_tensors_select_what_one_pass_does(language, max_live) -> None:
    model, targets = language
    options = {"score": "snip", "batches": text(3), "count": 50, "targets": targets}
    once = ls.select_mask(model, scope="global", **options)
    again = ls.select_mask(model, scope="global", max_live=max_live, **options)
    assert all(torch.equal(once.indices[n], again.indices[n]) for n in once.indices)


@pytest.mark.parametrize("information", ["empirical", "true"])
@pytest.mark.parametrize("power", [1, 2])
def test_fisher_adds_the_gradients_of_single_examples(language, information, power) -> None:
    model, targets = language
    mask = ls.select_mask(
        model, score="fisher", batches=text(3), count=60, targets=targets, scope="global",
        information=information, power=power,
    )  # fmt: skip
    examples = uneven_examples()
    # mixed batches score by the mean log-probability a token, as candidate_scores does
    singles = [text(7, examples)[0]]
    log_probs = [
        lambda i=i: candidate_scores(model, singles[0])[i][
            : len(examples[i].candidates)
        ].log_softmax(0)
        for i in range(len(examples))
    ]
    scores = oracle.fisher(
        model, list(mask.indices), log_probs, [e.label for e in examples],
        true=information == "true", power=power,
    )  # fmt: skip
    assert_best(mask, scores, 60)


@pytest.mark.parametrize("case", [c for c in CASES if c.name in ("bert", "vit")])
def test_fisher_takes_the_batches_of_an_ordinary_classifier(case) -> None:
    model = case.model()
    generator = torch.Generator().manual_seed(3)
    key, inputs = (
        ("input_ids", torch.randint(3, 60, (5, 7), generator=generator))
        if case.name == "bert"
        else ("pixel_values", torch.randn(5, 3, 16, 16, generator=generator).double())
    )
    labels = torch.tensor([0, 1, 1, 0, 1])

    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
        logits = model(**{key: batch[key]}).logits
        total = nn.functional.cross_entropy(logits, batch["labels"], reduction="sum")
        return total, len(batch["labels"])

    mask = ls.select_mask(
        model, score="fisher", batches=[{key: inputs, "labels": labels}], loss=loss, count=60,
        targets=case.targets, scope="global", information="true",
    )  # fmt: skip
    log_probs = [
        lambda i=i: model(**{key: inputs[i : i + 1]}).logits[0].log_softmax(0) for i in range(5)
    ]
    scores = oracle.fisher(
        model, list(mask.indices), log_probs, labels.tolist(), true=True, power=2
    )
    assert_best(mask, scores, 60)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_wanda_reads_the_norms_of_real_tokens_only(language, size) -> None:
    model, targets = language
    batches = text(size)
    mask = ls.select_mask(
        model, score="wanda", batches=batches, count=60, targets=targets, scope="global"
    )
    forwards = []
    for batch in batches:
        for ids, real in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            tokens = ids[real.bool()][None]
            forwards.append(lambda tokens=tokens: model(input_ids=tokens))
    scores = oracle.wanda(model, list(mask.indices), forwards)
    assert_best(mask, scores, 60)


def tied(scale: int = 3) -> nn.Module:
    """Layers with whole-number weights, so that ties are exact and everywhere."""
    model = nn.ModuleDict({"a": nn.Linear(9, 7), "b": nn.Linear(5, 11)})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-scale, scale + 1, parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("count", [1, 2, 17, 58, 117, 118])
@pytest.mark.parametrize("scope", ["tensor", "global"])
@pytest.mark.parametrize("score", ["magnitude", "magnitude_smallest"])
def test_ties_meet_the_budget_exactly_and_go_to_the_lowest_index(count, scope, score) -> None:
    model = tied()
    mask = ls.select_mask(model, score=score, count=count, targets=["a", "b"], scope=scope)
    scores = oracle.dense_scores(
        model, ["a.weight", "b.weight"], score, dict.fromkeys(["a.weight", "b.weight"])
    )
    if scope == "global":
        expected = oracle.best(scores, count)
    else:
        quota = share(mask.shapes, count)
        expected = {n: oracle.best({n: s}, quota[n])[n] for n, s in scores.items()}
    assert {n: i.tolist() for n, i in mask.indices.items()} == expected
    assert mask.count == count


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_streamed_best_equal_a_full_sort_in_any_order_of_arrival(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    levels = data.draw(st.integers(1, 5))
    seed = data.draw(st.integers(0, 10**6))
    generator = torch.Generator().manual_seed(seed)
    scores = {
        f"t{i}": torch.randint(0, levels, (n,), generator=generator).float()
        for i, n in enumerate(sizes)
    }
    k = data.draw(st.integers(0, sum(sizes)))
    kept = Best(k, list(scores))
    for name in data.draw(st.permutations(list(scores))):
        kept.add(name, scores[name], values=torch.arange(scores[name].numel()))
        assert kept.live <= max(2 * k, 0) + max(sizes)
    chosen = kept.chosen()
    assert {n: i.tolist() for n, (i, _) in chosen.items()} == oracle.best(scores, k)
    assert all(torch.equal(i, values) for i, values in chosen.values())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 6), st.data())
def test_top_takes_exactly_k_with_the_lowest_positions_first(n, levels, data) -> None:
    k = data.draw(st.integers(0, n))
    values = data.draw(st.lists(st.integers(0, levels), min_size=n, max_size=n))
    assert (
        top(torch.tensor(values).float(), k).tolist()
        == oracle.best({"t": torch.tensor(values).float()}, k)["t"]
    )


def test_scores_live_one_tensor_at_a_time_and_never_all_together() -> None:
    side, layers = 96, 24
    model = nn.Sequential(*(nn.Linear(side, side, bias=False) for _ in range(layers)))
    tensor, every = 4 * side * side, 4 * side * side * layers
    batch = torch.randn(2, side, generator=torch.Generator().manual_seed(0))

    def loss(model: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, int]:
        return model(batch).square().sum(), 2

    with oracle.LiveMemory() as dense:
        torch.autograd.grad(loss(model, batch)[0], list(model.parameters()))
    assert dense.peak > 0.9 * every  # the meter sees what the plain way keeps
    for batches, max_live in (([batch], 1), ([batch, batch], 1), ([batch] * 3, 2 * side * side)):
        with oracle.LiveMemory() as meter:
            mask = ls.select_mask(
                model, score="snip", batches=batches, loss=loss, count=50, targets="*",
                scope="global", max_live=max_live,
            )  # fmt: skip
        assert mask.count == 50
        sums = (len(batches) > 1) * max(1, max_live // (side * side)) * tensor
        # a gradient, its score and the temporaries of comparing them; the rest is activations
        assert meter.peak < sums + 5 * tensor < every / 2


def test_one_batch_costs_one_pass_and_more_cost_one_a_group() -> None:
    model = ls.tiny_model("llama", vocab_size=len(ls.tiny_tokenizer()))
    calls = []

    def counted(model, batch):
        calls.append(1)
        return ls.task_loss(model, batch)

    options = {"score": "gradient", "count": 9, "loss": counted, "max_live": 1}
    for batches, expected in ((text(7), 1), (text(4), 2 * 4)):  # four tensors
        calls.clear()
        ls.select_mask(model, batches=batches, **options)
        assert len(calls) == expected


def test_a_model_in_training_mode_is_scored_without_dropout() -> None:
    model = ls.tiny_model("opt", vocab_size=len(ls.tiny_tokenizer()), dropout=0.5)
    options = {"score": "gradient", "count": 40, "batches": text(7)}
    quiet = ls.select_mask(model, **options)
    noisy = ls.select_mask(model.train(), **options)
    assert all(torch.equal(quiet.indices[n], noisy.indices[n]) for n in quiet.indices)


@pytest.mark.parametrize("score", ["gradient", "fisher", "wanda", "magnitude"])
def test_scoring_leaves_the_model_as_it_was(score) -> None:
    model = ls.tiny_model("llama", vocab_size=len(ls.tiny_tokenizer())).train()
    model.lm_head.eval()
    model.model.embed_tokens.weight.requires_grad_(False)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    flags = {n: p.requires_grad for n, p in model.named_parameters()}
    modes = {n: m.training for n, m in model.named_modules()}
    names = {n: set(vars(m)) for n, m in model.named_modules()}
    ls.select_mask(model, score=score, batches=text(3), count=9)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert {n: p.requires_grad for n, p in model.named_parameters()} == flags
    assert {n: m.training for n, m in model.named_modules()} == modes
    assert {n: set(vars(m)) for n, m in model.named_modules()} == names
    assert all(p.grad is None for p in model.parameters())


def test_a_tied_tensor_is_scored_once_by_the_sum_of_its_uses() -> None:
    model = ls.tiny_model(
        "llama", vocab_size=len(ls.tiny_tokenizer()), tie_word_embeddings=True
    ).double()
    batches = text(7)
    mask = ls.select_mask(model, score="gradient", batches=batches, count=80, targets="lm_head")
    assert list(mask.indices) == ["model.embed_tokens.weight"]
    grads = oracle.gradients(model, list(mask.indices), ls.task_loss(model, batches[0])[0])
    assert_best(mask, oracle.dense_scores(model, list(mask.indices), "gradient", grads), 80)


def test_every_kind_of_parameter_can_be_scored() -> None:
    model = ls.tiny_model("opt", vocab_size=len(ls.tiny_tokenizer())).double()
    batches = text(7)
    mask = ls.select_mask(
        model, score="gradient", batches=batches, count=200, targets="*", scope="global"
    )
    grads = oracle.gradients(model, list(mask.shapes), ls.task_loss(model, batches[0])[0])
    assert_best(mask, oracle.dense_scores(model, list(mask.shapes), "gradient", grads), 200)


@pytest.mark.parametrize("granularity", ["columns", "rows", "heads", "blocks"])
@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_tiles_are_taken_by_their_mean_score(language, granularity, scope) -> None:
    model, targets = language
    mask = ls.select_mask(
        model, score="magnitude", count=500, targets=targets, scope=scope,
        granularity=granularity, block=(8, 8),
    )  # fmt: skip
    transposed = targets == "*.c_attn"
    tiles: list[tuple[float, str, set[int]]] = []
    for name, shape in mask.shapes.items():
        matrix = dict(model.named_parameters())[name].detach()
        place = torch.arange(matrix.numel()).view(shape)
        if transposed:
            matrix, place = matrix.t(), place.t()
        height, width = {
            "columns": (matrix.shape[0], 1), "rows": (1, matrix.shape[1]),
            "heads": (8, matrix.shape[1]), "blocks": (8, 8),
        }[granularity]  # fmt: skip
        for i in range(0, matrix.shape[0], height):
            for j in range(0, matrix.shape[1], width):
                part = matrix[i : i + height, j : j + width]
                members = place[i : i + height, j : j + width].reshape(-1).tolist()
                tiles.append((float(part.abs().mean()), name, set(members)))
    assert mask.count == 500
    groups = [None] if scope == "global" else list(mask.shapes)
    for group in groups:
        own = [t for t in tiles if group in (None, t[1])]
        whole, partial, empty = [], [], []
        for mean, name, members in own:
            taken = len(members & set(mask.indices[name].tolist()))
            (whole if taken == len(members) else partial if taken else empty).append(mean)
        assert len(partial) <= 1
        worst = min(whole + partial)
        assert worst >= max(empty) - 1e-12
        assert not partial or not whole or min(whole) >= partial[0] - 1e-12


def test_a_pattern_takes_the_n_best_of_every_m_inputs(language) -> None:
    model, targets = language
    mask = ls.select_mask(model, score="magnitude", targets=targets, granularity="2:4")
    assert mask.density == 0.5
    for name, indices in mask.indices.items():
        weight = dict(model.named_parameters())[name].detach()
        chosen = torch.zeros(weight.numel(), dtype=torch.bool)
        chosen[indices] = True
        chosen = chosen.view(weight.shape)
        if targets == "*.c_attn":
            weight, chosen = weight.t(), chosen.t()
        for group, taken in zip(weight.reshape(-1, 4), chosen.reshape(-1, 4), strict=True):
            assert taken.sum() == 2
            assert group.abs()[taken].min() >= group.abs()[~taken].max()


def test_the_rule_says_how_the_mask_was_made_and_the_file_keeps_it(tmp_path) -> None:
    model = ls.tiny_model("llama", vocab_size=len(ls.tiny_tokenizer()))
    mask = ls.select_mask(model, score="id3", eps=1.0, exp=0.0, batches=text(7), count=40)
    rule = json.loads(json.dumps(dict(mask.rule)))
    assert rule["kind"] == "selected"
    assert (rule["score"], rule["eps"], rule["exp"], rule["count"]) == ("id3", 1.0, 0.0, 40)
    ls.attach(model, mask)
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    ls.detach(model)
    loaded = ls.load_delta(model, path).mask
    assert all(torch.equal(loaded.indices[n], mask.indices[n]) for n in mask.indices)
    assert dict(loaded.rule) == rule


def test_a_mask_is_a_function_of_the_scores_alone(case) -> None:
    model = case.model(torch.float32)
    options = {
        "score": "gradient", "batches": [{}], "loss": lambda m, _: (case.loss(m), 1),
        "count": 30, "targets": case.targets, "scope": "global",
    }  # fmt: skip
    torch.manual_seed(1)
    first = ls.select_mask(model, **options)
    torch.manual_seed(2)
    second = ls.select_mask(model, **options)
    assert all(torch.equal(first.indices[n], second.indices[n]) for n in first.indices)
    assert dataclasses.asdict(first)["rule"] == dataclasses.asdict(second)["rule"]


@pytest.mark.parametrize("arch", ["bert", "roberta", "opt", "t5"])
def test_wanda_knows_padding_where_a_loss_moves_or_cuts_the_rows_of_a_batch(arch) -> None:
    """Classifiers on candidates, whose rows go to the left; encoder-decoders, which cut them."""
    words = ("no", "It is a very long text about nothing at all.", "so so")
    examples = [ls.Example(w, (" terrible", " great"), i % 2) for i, w in enumerate(words)]
    if arch != "t5":
        options = {"pad_token_id": 0} if arch == "opt" else {}
        model = ls.tiny_model(arch, num_labels=2, **options).double()
        targets = ["*.query", "*.q_proj"]
    else:
        model, targets = ls.tiny_model("t5").double(), ["*.q", "*.k", "*.v", "*.o"]
        examples = [dataclasses.replace(e, candidates=(" so very bad", " good")) for e in examples]
    targets = [t for t in targets if any(n.endswith(t[1:]) for n, _ in model.named_modules())]
    tokenizer, norms = ls.tiny_tokenizer(), {}

    def found(size: int) -> dict[str, torch.Tensor]:
        kept: dict[str, torch.Tensor] = {}
        batches = make_batches(examples, tokenizer, size)
        shapes = target_shapes(model, targets)
        stream_norms(model, shapes, batches, as_loss(None), kept.__setitem__)
        return kept

    norms = {size: found(size) for size in (1, 3)}
    if arch != "t5":  # by hand, one unpadded row at a time
        (name, *_) = norms[1]
        seen: list[torch.Tensor] = []
        layer = model.get_submodule(name.rpartition(".")[0])
        handle = layer.register_forward_pre_hook(
            lambda _, args: seen.append(args[0].flatten(0, -2))
        )
        with torch.no_grad():
            for batch in make_batches(examples, tokenizer, 1):
                model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        handle.remove()
        torch.testing.assert_close(norms[1][name], torch.cat(seen).norm(dim=0))
    for name, one in norms[1].items():
        torch.testing.assert_close(norms[3][name], one, msg=lambda m, n=name: f"{n}: {m}")
