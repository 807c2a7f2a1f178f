"""Scores, losses and accuracies equal the slow one-forward-a-candidate ones."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import scoring as slow
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedTokenizerFast

from landscape.errors import UserError
from landscape.models import tiny_model, tiny_tokenizer
from landscape.tasks import Example, Task
from landscape.tasks.batches import make_batches
from landscape.tasks.encoding import encode, length_limit
from landscape.tasks.evaluation import evaluate
from landscape.tasks.forms.candidates import collate
from landscape.tasks.outputs.scoring import candidate_scores, task_loss, task_split
from landscape.tasks.task import Loss

WORDS = (" terrible", " great")
SINGLE = tuple(
    Example(prompt, WORDS, label)
    for prompt, label in [
        ("Fine. It was", 1),
        ("A film about a film about nothing at all. It was", 0),
        ("No", 0),
        ("Warm, wise and wicked. It was", 1),
        ("Fine. It was", 0),
    ]
)
SEVERAL = (
    Example("The rain stopped, so ", ("we left", "it froze all night", "I"), 1),
    Example("Why", (" not", " ever would one do it"), 0),
    Example("The sky was clear because ", ("of wind",), 0),
    Example("Then\n", ("Yes", "No", "Maybe"), 2),
)
UNEVEN = (
    Example("The sky was ", ("a", "b", "c"), 2),
    SINGLE[0],
    Example("It was", (" great",), 0),
    Example("No, the sky was ", ("x", "y", "z", "w"), 0),
)
CASES = {
    "single-token": SINGLE,
    "several tokens": SEVERAL,
    "mixed": SINGLE + SEVERAL,
    "single-token, unequal in number": UNEVEN,
}
ARCHITECTURES = ["opt", "llama", "qwen2", "gpt2", "t5"]
ROUNDING = 1e-10
"""Far above the rounding of float64 sums of these sizes, far below any difference in content."""


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> Any:
    # Weights ten times the usual: scores then differ by more than a thousandth.
    return tiny_model(request.param, initializer_range=0.2).double()


@pytest.fixture(params=CASES)
def examples(request: pytest.FixtureRequest) -> tuple[Example, ...]:
    return CASES[request.param]


def padded(rows: list[list[float]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor(
        [row + [-math.inf] * (width - len(row)) for row in rows], dtype=torch.float64
    )


def test_scores_of_a_padded_batch_equal_one_unpadded_forward_a_candidate(
    model: Any, tokenizer: Any, examples: tuple[Example, ...]
) -> None:
    (batch,) = make_batches(examples, tokenizer, len(examples))
    with torch.no_grad():
        scores = candidate_scores(model, batch)
    expected = padded([slow.scores(model, tokenizer, e) for e in examples])
    torch.testing.assert_close(scores, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("loss", ["classification", "language modelling"])
@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_loss_sums_and_counts_equal_the_slow_terms_whatever_the_batch_size(
    model: Any, tokenizer: Any, examples: tuple[Example, ...], loss: Loss, batch_size: int
) -> None:
    batches = make_batches(examples, tokenizer, batch_size, loss=loss)
    with torch.no_grad():
        sums, counts = zip(*(task_loss(model, batch) for batch in batches), strict=True)
    terms = [t for e in examples for t in slow.loss_terms(model, tokenizer, e, loss)]
    assert sum(counts) == len(terms)
    assert float(sum(sums)) == pytest.approx(sum(terms), abs=ROUNDING)


@pytest.mark.parametrize("loss", ["classification", "language modelling"])
def test_evaluate_equals_the_slow_accuracy_and_loss(
    model: Any, tokenizer: Any, examples: tuple[Example, ...], loss: Loss
) -> None:
    task = Task("toy", examples, examples, examples, loss=loss)
    accuracy, mean = slow.judge(model, tokenizer, examples, loss)
    for batch_size in (1, 2, 100):
        result = evaluate(model, tokenizer, task, batch_size=batch_size)
        assert result["n"] == len(examples)
        assert result["accuracy"] == accuracy
        assert result["loss"] == pytest.approx(mean, abs=ROUNDING)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(len(SINGLE + SEVERAL))))
def test_evaluate_is_bitwise_the_same_in_any_order(order: list[int]) -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    examples = CASES["mixed"]
    shuffled = tuple(examples[i] for i in order)
    task = Task("toy", examples, shuffled, examples)
    results = [evaluate(model, tokenizer, task, split=s, batch_size=2) for s in ("train", "dev")]
    assert results[0] == results[1]


def test_head_runs_on_scored_positions_only(tokenizer: Any) -> None:
    model = tiny_model("opt")
    shapes: list[tuple[int, ...]] = []
    model.lm_head.register_forward_hook(lambda _, args, out: shapes.append(tuple(out.shape[:2])))
    (single,) = make_batches(SINGLE, tokenizer, 100)
    (several,) = make_batches(SEVERAL, tokenizer, 100)
    task_loss(model, single)
    task_loss(model, several)
    longest = max(len(c) for e in SEVERAL for c in e.candidates)
    assert shapes == [(len(SINGLE), 1), (sum(len(e.candidates) for e in SEVERAL), longest)]


def test_language_modelling_batches_hold_the_right_candidates_only(tokenizer: Any) -> None:
    (batch,) = make_batches(SEVERAL, tokenizer, 100, loss="language modelling")
    assert batch["input_ids"].shape[0] == len(SEVERAL)
    with pytest.raises(UserError, match="right candidates only"):
        candidate_scores(tiny_model("opt"), batch)


@pytest.mark.parametrize("loss", ["classification", "language modelling"])
def test_loss_has_second_derivatives_that_match_differences_of_gradients(
    tokenizer: Any, loss: Loss
) -> None:
    # OPT computes in float64 throughout (Llama's norm does not, and would drown the differences);
    # math attention, since the fused kernels have no second derivative.
    model = tiny_model("opt", init_std=0.2).double()
    weight = model.model.decoder.layers[0].self_attn.q_proj.weight
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)).double()
    (batch,) = make_batches(CASES["mixed"], tokenizer, 100, loss=loss)

    def gradient(step: float) -> Tensor:
        with torch.no_grad():
            weight.add_(direction, alpha=step)
        total, _ = task_loss(model, batch)
        (grad,) = torch.autograd.grad(total, weight, create_graph=True)
        return grad

    h = 1e-5  # about the cube root of eps: the two errors of central differences balance
    with sdpa_kernel(SDPBackend.MATH):
        (product,) = torch.autograd.grad((gradient(0.0) * direction).sum(), weight)
        ahead = gradient(h).detach()
        behind = gradient(-2 * h).detach()
    difference = (ahead - behind) / (2 * h)
    assert product.isfinite().all()
    assert float((product - difference).norm() / product.norm()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_are_scored_in_float32(tokenizer: Any, dtype: torch.dtype) -> None:
    (batch,) = make_batches(SINGLE, tokenizer, 100)
    model = tiny_model("llama").to(dtype)
    total, _ = task_loss(model, batch)
    assert total.dtype == candidate_scores(model, batch).dtype == torch.float32
    # log p is about -5.6: a rounding to bfloat16 would show as multiples of 2^-6.
    assert (candidate_scores(model, batch) % 2**-6 != 0).any()


def test_evaluate_restores_training_mode_and_makes_no_gradients(tokenizer: Any) -> None:
    model = tiny_model("opt", dropout=0.5).train()
    frozen = model.model.decoder.final_layer_norm.eval()  # a user's, within a model that trains
    task = Task("toy", SINGLE, SINGLE, SINGLE)
    first, second = (evaluate(model, tokenizer, task) for _ in range(2))
    assert first == second
    assert [m for m in model.modules() if not m.training] == [frozen]
    assert all(p.grad is None for p in model.parameters())


def test_a_diverged_model_has_a_loss_of_nan_and_nothing_right(tokenizer: Any) -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.lm_head.weight.fill_(math.nan)
    result = evaluate(model, tokenizer, Task("toy", SINGLE, SINGLE, SINGLE))
    assert math.isnan(result["loss"])
    assert result["accuracy"] == 0.0


def test_truncation_keeps_the_first_token_and_the_end_of_the_prompt(tokenizer: Any) -> None:
    example = Example("abcdefgh", ("xyz", "w"), 0)
    (full,) = encode([example], tokenizer)
    (truncated,) = encode([example], tokenizer, max_length=7)
    assert truncated.prompt == (full.prompt[0], *full.prompt[-3:])
    assert truncated.candidates == full.candidates
    assert truncated.length == 7


def test_a_candidate_longer_than_the_limit_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="raise max_length"):
        encode([Example("ab", ("xyz",), 0)], tokenizer, max_length=3)


def test_rows_fit_the_positions_of_the_model(tokenizer: Any) -> None:
    model = tiny_model("opt", max_position_embeddings=16)
    task = Task("toy", SINGLE, SINGLE, SINGLE)
    assert length_limit(model) == 16
    assert math.isfinite(evaluate(model, tokenizer, task)["loss"])


@pytest.mark.parametrize(("bos", "start"), [("tokenizer", [1]), (0, [0]), (7, [7]), (None, [])])
def test_rows_start_with_the_chosen_token(tokenizer: Any, bos: Any, start: list[int]) -> None:
    (encoded,) = encode([Example("ab", WORDS, 0)], tokenizer, bos=bos)
    body = tokenizer("ab", add_special_tokens=False)["input_ids"]
    assert list(encoded.prompt) == start + body


def merging_tokenizer() -> Any:
    """Build a tokenizer that merges "ab", and puts a token before and one after each text."""
    vocabulary = {token: i for i, token in enumerate(["[", "]", "a", "b", "ab", "x"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[ $A ]", special_tokens=[("[", 0), ("]", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_a_candidate_that_would_merge_into_the_prompt_is_tokenised_by_itself() -> None:
    (encoded,) = encode([Example("xa", ("b", "x"), 0)], merging_tokenizer())
    assert encoded.prompt == (0, 5, 2)
    assert encoded.candidates == ((3,), (5,))


def test_special_tokens_after_a_text_do_not_come_between_prompt_and_candidate() -> None:
    (encoded,) = encode([Example("x", ("xab",), 0)], merging_tokenizer())
    assert encoded.prompt == (0, 5)
    assert encoded.candidates == ((5, 4),)


def test_padding_token_does_not_matter(tokenizer: Any) -> None:
    model = tiny_model("opt").double()
    encoded = encode(SEVERAL, tokenizer)
    with torch.no_grad():
        results = [candidate_scores(model, collate(encoded, pad)) for pad in (0, 9)]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=ROUNDING)


def test_sorting_changes_the_order_of_batches_not_their_content(tokenizer: Any) -> None:
    batches = make_batches(SINGLE, tokenizer, 2, sort=True)
    widths = [batch["input_ids"].shape[1] for batch in batches]
    assert widths == sorted(widths, reverse=True)
    assert sum(len(batch["labels"]) for batch in batches) == len(SINGLE)


@pytest.mark.parametrize(
    ("examples", "batch_size", "message"),
    [
        ((), 8, "at least one example"),
        (SINGLE, 0, "batch_size to be a whole number of at least 1, got 0"),
        ((replace(SINGLE[0], candidates=("", " great")),), 8, "at least one token, got ''"),
    ],
)
def test_batches_that_cannot_be_are_refused(
    tokenizer: Any, examples: tuple[Example, ...], batch_size: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_batches(examples, tokenizer, batch_size)


def test_an_empty_prompt_without_a_first_token_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="give the prompt text or a bos token"):
        encode([Example("", WORDS, 0)], tokenizer, bos=None)


def test_a_model_without_a_language_head_is_refused(tokenizer: Any) -> None:
    (batch,) = make_batches(SINGLE, tokenizer, 100)
    with pytest.raises(UserError, match="got ViTForImageClassification"):
        task_loss(tiny_model("vit"), batch)


def test_a_classifier_scores_each_row_as_if_it_stood_alone(tokenizer: Any) -> None:
    model = tiny_model("bert", initializer_range=0.2).double()
    (batch,) = make_batches(SINGLE, tokenizer, 100)
    scores = candidate_scores(model, batch)
    total, count = task_loss(model, batch)
    alone = torch.cat([
        model(input_ids=torch.tensor([e.prompt])).logits.log_softmax(-1)
        for e in encode(SINGLE, tokenizer)
    ])  # fmt: skip
    torch.testing.assert_close(scores, alone, rtol=1e-10, atol=1e-10)
    right = [alone[i, e.label] for i, e in enumerate(SINGLE)]
    assert count == len(SINGLE)
    torch.testing.assert_close(total, -torch.stack(right).sum())
    z, terms = task_split(model, batch)
    torch.testing.assert_close(terms(z)[0].sum(), total)


def test_a_classifier_with_other_labels_than_candidates_is_refused(tokenizer: Any) -> None:
    three = [replace(SINGLE[0], candidates=(*WORDS, "a"))]
    (batch,) = make_batches(three, tokenizer, 8)
    with pytest.raises(UserError, match="load the model with num_labels=3"):
        task_loss(tiny_model("bert"), batch)


def test_a_classifier_refuses_candidates_of_several_tokens(tokenizer: Any) -> None:
    (batch,) = make_batches([replace(SINGLE[0], candidates=("no", "yes"))], tokenizer, 8)
    with pytest.raises(UserError, match="candidates of one token each, got Bert"):
        task_loss(tiny_model("bert"), batch)


def test_any_of_several_right_candidates_counts_and_training_takes_the_label(
    tokenizer: Any,
) -> None:
    model = tiny_model("opt", initializer_range=0.2).double()
    texts = (" one", " two", " three")
    plain = tuple(Example(f"Number {i}:", texts, 0) for i in range(6))
    with torch.no_grad():
        (batch,) = make_batches(plain, tokenizer, 100)
        answers = candidate_scores(model, batch).argmax(1).tolist()
    # of each example another candidate is the label; in half of them the answer is right too
    examples = tuple(
        replace(e, label=(a + 1) % 3, also_right=((a,) if i % 2 else ((a + 2) % 3,)))
        for i, (e, a) in enumerate(zip(plain, answers, strict=True))
    )
    task = Task("toy", examples, examples, examples)
    assert evaluate(model, tokenizer, task)["accuracy"] == 0.5
    single = tuple(replace(e, also_right=()) for e in examples)
    alone = Task("toy", single, single, single)
    assert evaluate(model, tokenizer, alone)["accuracy"] == 0
    assert evaluate(model, tokenizer, alone)["loss"] == evaluate(model, tokenizer, task)["loss"]


@pytest.mark.parametrize("bos", ["none", True, -1, 10_000, 1.0])
def test_a_row_starts_with_the_tokenizers_tokens_a_token_or_nothing(
    tokenizer: Any, bos: Any
) -> None:
    with pytest.raises(UserError, match="a token id from 0 to 260 or None, got"):
        encode(SINGLE, tokenizer, bos=bos)


def test_a_length_is_what_is_asked_for_within_what_the_model_takes() -> None:
    model = tiny_model("opt", max_position_embeddings=64)
    assert [length_limit(model, n) for n in (None, 10, 100)] == [64, 10, 64]
    with pytest.raises(UserError, match="max_length to be a whole number of at least 2, got 1"):
        length_limit(model, 1)
