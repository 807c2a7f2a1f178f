"""Candidates of several tokens: each prompt is computed once, and scores stay as they were."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import transformers
from oracles import scoring as slow
from torch import Tensor, nn

import landscape as ls
from landscape.errors import UserError
from landscape.models import tiny_model, tiny_tokenizer
from landscape.tasks import Example, Task
from landscape.tasks.encoding import encode
from landscape.tasks.evaluation import evaluate
from landscape.tasks.forms import candidates
from landscape.tasks.forms.candidates import collate
from landscape.tasks.outputs import shared_prompt as shared
from landscape.tasks.outputs.scoring import candidate_log_probs
from landscape.tasks.outputs.shared_prompt import shared_log_probs
from landscape.training import baselines

EXAMPLES = (
    Example("The rain stopped, so ", ("we left", "it froze all night", "I"), 1),
    Example("Why", (" not", " ever would one do it"), 0),
    Example("A city in the north.\n", ("- Oslo is cold", "- Oslo is old", "- Osaka is old"), 2),
    Example("Then\n", ("Ye", "Yes", "Yes!"), 2),
    Example("The sky was clear because ", ("of wind",), 0),
    Example("Fine. It was", (" terrible", " great"), 1),
    Example("The end is ", ("near", "neat"), 1),
)
"""Beside others: candidates that begin alike, one that another begins with, one alone, of one
token, and two that differ in the last."""

TEXT = {"vocab_size": 261, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE = {"intermediate_size": 64, "num_key_value_heads": 2, "initializer_range": 0.2}
ROUNDING = 1e-10
FLOAT32 = 1e-6
"""Of models whose attention is in float32 whatever their weights are: sums of some tokens."""


def small(name: str, kind: str | None = None, **entries: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**TEXT, **SIZE, **entries)
        return getattr(transformers, kind or f"{name}ForCausalLM")(config).double().eval()


MODELS = {
    "opt": lambda: tiny_model("opt", init_std=0.2).double(),
    "gpt2": lambda: tiny_model("gpt2", initializer_range=0.2).double(),
    "llama": lambda: tiny_model("llama", initializer_range=0.2).double(),
    "qwen2": lambda: small("Qwen2", **WIDE),
    "qwen3": lambda: small("Qwen3", **WIDE, head_dim=8),
    "mistral": lambda: small("Mistral", **WIDE, sliding_window=None),
    "neox": lambda: small("GPTNeoX", intermediate_size=64, initializer_range=0.2),
    "gpt-neo": lambda: small(
        "GPTNeo", attention_types=[[["global", "local"], 1]], window_size=8, initializer_range=0.2
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return MODELS[request.param]()


def rounding(model: Any) -> float:
    return FLOAT32 if model.config.model_type == "gpt_neo" else ROUNDING


def scores(totals: Tensor, counts: Tensor) -> list[list[float]]:
    means = totals / counts.clamp(min=1)
    return [[x for x in row if x != -math.inf] for row in means.tolist()]


def both(model: Any, tokenizer: Any, examples: Sequence[Example] = EXAMPLES) -> list[Tensor]:
    """Sums by shared prompts and by rows, absent ones 0."""
    encoded = encode(examples, tokenizer)
    found = shared_log_probs(model, encoded, 0)
    assert found is not None
    with torch.no_grad():
        rows = candidate_log_probs(model, collate(encoded, 0))
    assert torch.equal(found[1], rows[1])
    return [totals.masked_fill(rows[1] == 0, 0.0) for totals in (found[0], rows[0])]


class Seen:
    """Count what goes through a model: the shapes of its forwards' tokens, and of its logits."""

    def __init__(self, model: Any) -> None:
        self.tokens: list[tuple[int, ...]] = []
        self.logits: list[tuple[int, ...]] = []
        model.get_input_embeddings().register_forward_hook(
            lambda _, args, out: self.tokens.append(tuple(out.shape[:2]))
        )
        model.get_output_embeddings().register_forward_hook(
            lambda _, args, out: self.logits.append(tuple(out.shape[:2]))
        )


def test_scores_with_shared_prompts_equal_one_unpadded_forward_a_candidate(
    model: Any, tokenizer: Any
) -> None:
    totals, counts = shared_log_probs(model, encode(EXAMPLES, tokenizer), 0) or pytest.fail("rows")
    for found, example in zip(scores(totals, counts), EXAMPLES, strict=True):
        assert found == pytest.approx(slow.scores(model, tokenizer, example), abs=rounding(model))


@pytest.mark.parametrize("loss", ["classification", "language modelling"])
def test_evaluate_shares_prompts_and_equals_the_slow_accuracy_and_loss(
    model: Any, tokenizer: Any, loss: Any
) -> None:
    task = Task("toy", EXAMPLES, EXAMPLES[:1], EXAMPLES, loss=loss)
    accuracy, mean = slow.judge(model, tokenizer, EXAMPLES, loss)
    for batch_size in (1, 3, 100):
        found = evaluate(model, tokenizer, task, batch_size=batch_size)
        assert found["accuracy"] == accuracy
        assert found["loss"] == pytest.approx(mean, abs=rounding(model))


def test_a_prompt_and_what_its_candidates_begin_with_go_through_the_model_once(
    tokenizer: Any,
) -> None:
    model = tiny_model("llama")
    seen = Seen(model)
    (oslo,) = encode([EXAMPLES[2]], tokenizer)  # "- Os" is common; "lo is cold" is the longest
    shared_log_probs(model, [oslo], 0)
    assert seen.tokens == [(1, len(oslo.prompt) + 4), (3, len("lo is cold") - 1)]
    assert seen.logits == [(1, 5), (3, len("lo is cold") - 1)]


def test_candidates_that_differ_in_their_last_token_need_no_second_forward(tokenizer: Any) -> None:
    model = tiny_model("llama")
    seen = Seen(model)
    (near,) = encode([EXAMPLES[-1]], tokenizer)
    shared_log_probs(model, [near], 0)
    assert seen.tokens == [(1, len(near.prompt) + 3)]
    assert seen.logits == [(1, 4)]


def test_no_forward_is_larger_than_its_bounds_and_the_values_do_not_depend_on_them(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama", initializer_range=0.2).double()
    whole = both(model, tokenizer)[0]
    seen = Seen(model)
    monkeypatch.setattr(shared, "TOKENS", 60)
    monkeypatch.setattr(shared, "CONTEXT", 100)
    encoded = encode(EXAMPLES, tokenizer)
    totals, counts = shared_log_probs(model, encoded, 0) or pytest.fail("rows")
    torch.testing.assert_close(totals.masked_fill(counts == 0, 0), whole, rtol=0, atol=ROUNDING)
    assert len(seen.tokens) > 6
    assert all(rows * length <= 60 for rows, length in seen.tokens)
    longest = max(len(e.prompt) for e in encoded)
    assert max(rows for rows, _ in seen.tokens) <= 100 // min(len(e.prompt) for e in encoded)
    assert longest > 20


def test_masked_and_merged_models_share_prompts(tokenizer: Any) -> None:
    plain = tiny_model("llama", initializer_range=0.2).double()
    masked = copy.deepcopy(plain)
    ls.attach(masked, ls.random_mask(masked, ratio=0.05, targets="*.[qv]_proj", seed=0))
    with torch.no_grad():
        for theta in ls.trainable(masked).values():
            theta.copy_(torch.randn(theta.shape, generator=torch.Generator().manual_seed(1)))
    of_masked = both(masked, tokenizer)
    torch.testing.assert_close(*of_masked, rtol=0, atol=ROUNDING)
    assert (of_masked[0] - both(plain, tokenizer)[0]).abs().max() > 1e-3
    merged = ls.merge(copy.deepcopy(masked))
    torch.testing.assert_close(both(merged, tokenizer)[0], of_masked[1], rtol=0, atol=ROUNDING)


def test_a_compiled_model_shares_prompts(tokenizer: Any) -> None:
    model = tiny_model("opt", init_std=0.2).double()
    encoded = encode(EXAMPLES[:1], tokenizer)
    plain, _ = shared_log_probs(model, encoded, 0) or pytest.fail("rows")
    compiled = torch.compile(model, backend="eager")
    found, _ = shared_log_probs(compiled, encoded, 0) or pytest.fail("rows")
    torch.testing.assert_close(found, plain, rtol=0, atol=ROUNDING)


def test_a_bfloat16_model_scores_in_float32_as_far_as_its_rows_do(tokenizer: Any) -> None:
    exact = both(tiny_model("llama"), tokenizer)[1]
    found, rows = both(tiny_model("llama").to(torch.bfloat16), tokenizer)
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 2 * (rows - exact).abs().max() + 2**-7


def test_scores_make_no_gradients(tokenizer: Any) -> None:
    model = tiny_model("opt")
    totals, _ = shared_log_probs(model, encode(EXAMPLES, tokenizer), 0) or pytest.fail("rows")
    assert not totals.requires_grad


OTHERS = {
    "sliding window": lambda: small("Mistral", **WIDE, sliding_window=4),
    "some windows": lambda: small("Gemma2", **WIDE, head_dim=8, sliding_window=4),
    "recurrent state": lambda: small(
        "Mamba", state_size=4, initializer_range=0.2, intermediate_size=64
    ),
    "convolutions beside": lambda: small(
        "Lfm2", **WIDE, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False
    ),
    "no positions": lambda: small("Bloom", "BloomForCausalLM", initializer_range=0.2),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_models_without_the_usual_cache_score_by_rows(name: str, tokenizer: Any) -> None:
    # in float32: padded rows of eager attention, whose softmax is in float32, are NaN in float64
    model = OTHERS[name]().float()
    assert shared_log_probs(model, encode(EXAMPLES, tokenizer), 0) is None
    accuracy, mean = slow.judge(model, tokenizer, EXAMPLES, "classification")
    found = evaluate(model, tokenizer, Task("toy", EXAMPLES, EXAMPLES[:1], EXAMPLES))
    assert found["accuracy"] == accuracy
    assert found["loss"] == pytest.approx(mean, abs=1e-5)


def test_replicas_of_a_model_and_learned_prefixes_score_by_rows(tokenizer: Any) -> None:
    encoded = encode(EXAMPLES, tokenizer)
    assert shared_log_probs(nn.DataParallel(tiny_model("llama")), encoded, 0) is None
    prefixed = baselines.prefix(tiny_model("llama"), tokens=torch.tensor([5, 6]))
    assert shared_log_probs(prefixed, encoded, 0) is None


def test_rows_of_a_model_without_the_usual_cache_are_bounded_too(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = OTHERS["sliding window"]()
    task = Task("toy", EXAMPLES, EXAMPLES[:1], EXAMPLES)
    whole = evaluate(model, tokenizer, task)
    seen = Seen(model)
    monkeypatch.setattr(candidates, "CONTEXT", 60)
    bounded = evaluate(model, tokenizer, task)
    assert bounded["accuracy"] == whole["accuracy"]
    assert bounded["loss"] == pytest.approx(whole["loss"], abs=ROUNDING)
    most = max(len(e.candidates) * e.length for e in encode(EXAMPLES, tokenizer))
    assert len(seen.tokens) > 3
    assert all(rows * length <= max(60, most) for rows, length in seen.tokens)


def test_a_model_that_sees_what_it_should_predict_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="sees the tokens that it should predict"):
        shared_log_probs(small("Bert", "BertLMHeadModel"), encode(EXAMPLES, tokenizer), 0)


@pytest.mark.parametrize(("context", "branches"), [(77, [(1, 17), (1, 6)]), (78, [(2, 17)])])
def test_as_many_branches_go_together_as_their_keys_fit(
    context: int, branches: list[tuple[int, int]], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a prompt of 22 tokens; "it froze all night" and "we left" give all but their last to it
    model = tiny_model("llama")
    seen = Seen(model)
    monkeypatch.setattr(shared, "CONTEXT", context)
    shared_log_probs(model, encode(EXAMPLES[:1], tokenizer), 0)
    assert seen.tokens == [(1, 22), *branches]
