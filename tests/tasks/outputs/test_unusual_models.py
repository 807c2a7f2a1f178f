"""Decoders that classify, encoders that decode, models that see too much: read right or refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers

from landscape.errors import UserError
from landscape.models import tiny_model, tiny_tokenizer
from landscape.tasks import Example
from landscape.tasks.batches import make_batches
from landscape.tasks.encoding import encode
from landscape.tasks.outputs.scoring import candidate_scores, task_loss

WORDS = (" terrible", " great")
REVIEWS = tuple(
    Example(prompt, WORDS, i % 2)
    for i, prompt in enumerate(
        ("Fine. It was", "A film about nothing at all. It was", "No, it was")
    )
)
ROUNDING = 1e-10
"""Far above the rounding of float64 sums of these sizes, far below any difference in content."""


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


DECODERS = {
    "gpt2": ("GPT2Config", "GPT2ForSequenceClassification"),
    "llama": ("LlamaConfig", "LlamaForSequenceClassification"),
    "opt": ("OPTConfig", "OPTForSequenceClassification"),
}


def decoder_classifier(architecture: str, pad: int | None) -> Any:
    """A tiny decoder with a head on its last token; ``pad`` is what it takes for padding."""
    config, kind = (getattr(transformers, name) for name in DECODERS[architecture])
    entries = tiny_model(architecture, initializer_range=0.2).config.to_dict()
    torch.manual_seed(0)
    made = kind(config(**{**entries, "num_labels": 2, "pad_token_id": 0}))
    made.config.pad_token_id = pad
    return made.double().eval()


@pytest.mark.parametrize("pad", [0, 2, 77])
@pytest.mark.parametrize("architecture", list(DECODERS))
def test_a_decoder_classifier_reads_the_last_token_of_each_text_whatever_pads_it(
    tokenizer: Any, architecture: str, pad: int
) -> None:
    model = decoder_classifier(architecture, pad)
    batches = (make_batches(REVIEWS, tokenizer, size) for size in (100, 1))
    with torch.no_grad():
        together, alone = (
            torch.cat([candidate_scores(model, batch) for batch in some]) for some in batches
        )
        # transformers' own call on one text, which it neither pads nor cuts
        bare = torch.cat([
            model(input_ids=torch.tensor([e.prompt])).logits.log_softmax(-1)
            for e in encode(REVIEWS, tokenizer)
        ])  # fmt: skip
    torch.testing.assert_close(together, alone, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(together, bare, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("architecture", list(DECODERS))
def test_a_decoder_classifier_without_a_padding_token_is_refused_in_a_batch(
    tokenizer: Any, architecture: str
) -> None:
    model = decoder_classifier(architecture, None)
    with pytest.raises(UserError, match=r"got pad_token_id None; set model\.config\.pad_token_id"):
        task_loss(model, make_batches(REVIEWS, tokenizer, 100)[0])
    (one,) = make_batches(REVIEWS[:1], tokenizer, 1)
    assert math.isfinite(task_loss(model, one)[0].item())


def test_a_text_that_ends_with_a_decoder_classifiers_padding_token_is_refused(
    tokenizer: Any,
) -> None:
    (last,) = tokenizer("s", add_special_tokens=False).input_ids
    model = decoder_classifier("llama", last)
    with pytest.raises(UserError, match=f"do not end with the padding token {last} of Llama"):
        task_loss(model, make_batches(REVIEWS, tokenizer, 100)[0])


def small(config: str, kind: str, **entries: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = getattr(transformers, kind)(getattr(transformers, config)(**entries))
    return made.double().eval()


ENCODER = {"vocab_size": 261, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
           "intermediate_size": 32}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "kind", "entries"),
    [
        ("BertConfig", "BertLMHeadModel", ENCODER),
        ("RobertaConfig", "RobertaForCausalLM", ENCODER),
        ("BertGenerationConfig", "BertGenerationDecoder", ENCODER),
        ("XLNetConfig", "XLNetLMHeadModel",
         {"vocab_size": 261, "d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32}),
    ],
)  # fmt: skip
def test_a_model_that_sees_what_it_should_predict_is_refused_as_a_language_model(
    tokenizer: Any, config: str, kind: str, entries: dict[str, Any]
) -> None:
    model = small(config, kind, **entries)
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 99]])
    with torch.no_grad():  # what is refused: the first output knows of the last token
        first = model(input_ids=ids).logits[:, 0]
    assert (first[0] - first[1]).abs().max() > 1e-6
    with pytest.raises(UserError, match=f"got {kind}, which sees the tokens .*num_labels="):
        task_loss(model, make_batches(REVIEWS, tokenizer, 2)[0])


def test_an_encoder_set_to_decode_is_a_language_model(tokenizer: Any) -> None:
    model = small("BertConfig", "BertLMHeadModel", **ENCODER, is_decoder=True)
    scores = [
        torch.cat([candidate_scores(model, b) for b in make_batches(REVIEWS, tokenizer, size)])
        for size in (100, 1)
    ]
    torch.testing.assert_close(*scores, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    ("config", "kind", "entries"),
    [
        ("BartConfig", "BartForCausalLM",
         {"vocab_size": 261, "d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2,
          "decoder_ffn_dim": 32, "max_position_embeddings": 128}),
        ("RwkvConfig", "RwkvForCausalLM",
         {"vocab_size": 261, "hidden_size": 16, "num_hidden_layers": 2,
          "attention_hidden_size": 16}),
    ],
)  # fmt: skip
def test_a_model_that_counts_padding_as_text_is_refused_in_padded_rows_only(
    tokenizer: Any, config: str, kind: str, entries: dict[str, Any]
) -> None:
    model = small(config, kind, **entries)
    with pytest.raises(UserError, match=f"rows of one length for {kind}, which takes no posit"):
        task_loss(model, make_batches(REVIEWS, tokenizer, 100)[0])
    for batch in make_batches(REVIEWS, tokenizer, 1):
        assert math.isfinite(task_loss(model, batch)[0].item())
