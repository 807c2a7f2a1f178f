"""An encoder-decoder's prompt and candidate in their halves: what each sees, values, curvature."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from oracles import scoring as slow

import landscape as ls
from landscape.errors import UserError
from landscape.tasks.outputs.encoder_decoder import decoder_logits, encoder_rows
from landscape.tasks.outputs.scoring import candidate_log_probs, candidate_scores

SEVERAL = (
    ls.Example("The rain stopped, so ", ("we left", "it froze all night", "I"), 1),
    ls.Example("Why", (" not", " ever would one do it"), 0),
    ls.Example("It was", (" great",), 0),
)
SINGLE = (
    ls.Example("Fine. It was", (" terrible", " great"), 1),
    ls.Example("A film about a film about nothing at all. It was", (" terrible", " great"), 0),
)
PAIR = (ls.Example("Warm. It was", ("ab", " great"), 0),)
ROUNDING = 1e-10


def t5() -> Any:
    return ls.tiny_model("t5").double()


def bart() -> Any:
    """Learned positions, counted from the first token of each half."""
    config = transformers.BartConfig(
        vocab_size=261, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, dropout=0.0,
        max_position_embeddings=64, init_std=0.5, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.BartForConditionalGeneration(config).double().eval()


BUILDERS = {"t5": t5, "bart": bart}


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("examples", [SEVERAL, SINGLE, PAIR, SEVERAL + SINGLE])
def test_scores_equal_one_unpadded_forward_a_candidate(name: str, examples: Any) -> None:
    model, tokenizer = BUILDERS[name](), ls.tiny_tokenizer()
    (batch,) = ls.make_batches(examples, tokenizer, 9)
    with torch.no_grad():
        scores = candidate_scores(model, batch)
        sums, counts = candidate_log_probs(model, batch)
    for i, example in enumerate(examples):
        for j in range(len(example.candidates)):
            terms = slow.token_log_probs(model, tokenizer, example, j)
            assert float(scores[i, j]) == pytest.approx(sum(terms) / len(terms), abs=ROUNDING)
            assert float(sums[i, j]) == pytest.approx(sum(terms), abs=10 * ROUNDING)
            assert int(counts[i, j]) == len(terms)
        assert bool((scores[i, len(example.candidates) :] == -math.inf).all())


def test_the_encoder_reads_each_prompt_with_its_end_token_and_once() -> None:
    model, tokenizer = t5(), ls.tiny_tokenizer()
    seen: list[Any] = []
    model.encoder.register_forward_pre_hook(
        lambda _, args, given: seen.append(given["input_ids"]), with_kwargs=True
    )
    (batch,) = ls.make_batches(SEVERAL, tokenizer, 9)
    with torch.no_grad():
        candidate_scores(model, batch)
    (ids,) = seen
    expected = [[*tokenizer(e.prompt).input_ids, 2] for e in SEVERAL]
    assert [[t for t in row if t] for row in ids.tolist()] == expected
    assert [row[: len(e)] for row, e in zip(ids.tolist(), expected, strict=True)] == expected


def test_the_decoder_reads_its_start_token_and_the_candidate_but_its_last_token() -> None:
    model, tokenizer = t5(), ls.tiny_tokenizer()
    seen: list[Any] = []
    model.decoder.register_forward_pre_hook(
        lambda _, args, given: seen.append(given["input_ids"]), with_kwargs=True
    )
    batches = (
        ls.make_batches(SEVERAL[:1], tokenizer, 9)[0],
        ls.make_batches(SINGLE, tokenizer, 9)[0],
    )
    for batch in batches:
        candidate_scores(model, batch)
    rows = [tokenizer(c, add_special_tokens=False).input_ids for c in SEVERAL[0].candidates]
    several = [row[: len(c)] for row, c in zip(seen[0].tolist(), rows, strict=True)]
    assert several == [[0, *c[:-1]] for c in rows]
    assert seen[0].shape[1] == max(map(len, rows))
    assert seen[1].tolist() == [[0], [0]]


def test_a_prompt_that_ends_already_gets_no_second_end_token() -> None:
    model = t5()
    rows = {"input_ids": torch.tensor([[0, 5, 6], [7, 8, 2]]),
            "attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]])}  # fmt: skip
    encoded = encoder_rows(model, rows)
    assert encoded["input_ids"].tolist() == [[5, 6, 2], [7, 8, 2]]
    assert encoded["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 1]]
    model.config.eos_token_id = [2, 9]  # of several the first
    assert torch.equal(encoder_rows(model, rows)["input_ids"], encoded["input_ids"])
    model.config.eos_token_id = None
    bare = encoder_rows(model, rows)
    assert bare["input_ids"].tolist() == [[5, 6, 0], [7, 8, 2]]
    assert bare["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize("loss", ["classification", "language modelling"])
def test_loss_and_its_split_agree_with_the_slow_terms_in_any_batches(loss: Any) -> None:
    model, tokenizer = t5(), ls.tiny_tokenizer()
    terms = [t for e in SEVERAL for t in slow.loss_terms(model, tokenizer, e, loss)]
    for size in (1, 2, 9):
        total, split, count = 0.0, 0.0, 0
        for batch in ls.make_batches(SEVERAL, tokenizer, size, loss=loss):
            with torch.no_grad():
                value, number = ls.task_loss(model, batch)
                z, of = ls.task_split(model, batch)
            total, count = total + float(value), count + number
            split += float(of(z)[0].sum())
        assert count == len(terms)
        assert total == pytest.approx(sum(terms), abs=1e-9)
        assert split == pytest.approx(sum(terms), abs=1e-9)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_hessian_inside_a_mask_is_that_part_of_the_dense_one(name: str) -> None:
    model, tokenizer = BUILDERS[name](), ls.tiny_tokenizer()
    targets = "*.layers.0.encoder_attn.v_proj" if name == "bart" else "*.1.EncDecAttention.[qv]"
    mask = ls.random_mask(model, count=24, targets=targets, seed=0)
    batches = ls.make_batches(SEVERAL, tokenizer, 2)
    weights = dict(model.named_parameters())
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        values = [ls.task_loss(model, batch) for batch in batches]
        loss = sum(v for v, _ in values) / sum(n for _, n in values)
        tensors = [weights[n] for n in mask.indices]
        sizes = torch.tensor([t.numel() for t in tensors])
        starts = (sizes.cumsum(0) - sizes).tolist()
        chosen = torch.cat([i + s for i, s in zip(mask.indices.values(), starts, strict=True)])
        grads = torch.autograd.grad(loss, tensors, create_graph=True)
        flat = torch.cat([g.reshape(-1) for g in grads])[chosen]
        rows = [torch.autograd.grad(g, tensors, retain_graph=True) for g in flat]
        expected = torch.stack([torch.cat([t.reshape(-1) for t in row])[chosen] for row in rows])
    ls.attach(model, mask)
    found = ls.exact_matrix(ls.HessianOperator(model, batches))
    # T5's norms compute in float32
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected.detach() / scale, rtol=0, atol=1e-6)


def test_it_is_fine_tuned_by_its_mask_and_evaluated_as_the_slow_way_does() -> None:
    from samples import tiny_task

    task, tokenizer = tiny_task(), ls.tiny_tokenizer()
    model = ls.tiny_model("t5")
    ls.attach(model, ls.random_mask(model, density=0.2, targets="auto", seed=0))
    before = ls.evaluate(model, tokenizer, task)
    run = ls.finetune(model, tokenizer, task, lr=3e-2, epochs=4, batch_size=4, seed=0)
    after = ls.evaluate(model, tokenizer, task)
    assert run.metrics["test"]["loss"] == after["loss"] < before["loss"] - 0.1
    accuracy, mean = slow.judge(model, tokenizer, task.test, "classification")
    assert after["accuracy"] == accuracy
    assert after["loss"] == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("size", [1, 2])
def test_a_classifier_of_one_reads_each_prompt_as_if_it_stood_alone(size: int) -> None:
    model, tokenizer = ls.tiny_model("t5", head="sequence").double(), ls.tiny_tokenizer()
    with torch.no_grad():
        scores = torch.cat(
            [candidate_scores(model, b) for b in ls.make_batches(SINGLE, tokenizer, size)]
        )
        alone = torch.cat([
            model(input_ids=torch.tensor([[*tokenizer(e.prompt).input_ids, 2]])).logits
            for e in SINGLE
        ])  # fmt: skip
    torch.testing.assert_close(scores, alone.log_softmax(-1), rtol=0, atol=ROUNDING)


def test_a_decoder_without_a_start_token_is_refused() -> None:
    model = t5()
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    (batch,) = ls.make_batches(SINGLE, ls.tiny_tokenizer(), 2)
    with pytest.raises(UserError, match=r"got decoder_start_token_id None; set model.config"):
        decoder_logits(model, batch, 1)


def test_a_bare_encoder_decoder_is_refused_with_its_name() -> None:
    (batch,) = ls.make_batches(SINGLE, ls.tiny_tokenizer(), 2)
    with pytest.raises(UserError, match="got T5Model; load it as a language model"):
        ls.task_loss(transformers.T5Model(t5().config), batch)


def test_a_wrapped_model_encodes_each_row_and_scores_the_same() -> None:
    """A wrapper sees whole forwards only."""
    model, tokenizer = t5(), ls.tiny_tokenizer()
    (batch,) = ls.make_batches((*SEVERAL, replace(SEVERAL[1], label=1)), tokenizer, 9)
    calls: list[int] = []
    model.encoder.register_forward_hook(
        lambda _, args, out: calls.append(len(out.last_hidden_state))
    )
    with torch.no_grad():
        shared = candidate_scores(model, batch)
        whole = candidate_scores(torch.nn.DataParallel(model), batch)
    torch.testing.assert_close(shared, whole, rtol=0, atol=ROUNDING)
    assert calls == [4, int((batch["rows"] >= 0).sum())]
