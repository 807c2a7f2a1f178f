"""Generated texts against greedy decoding one token at a time, and what may not change them."""

from __future__ import annotations

import copy
import logging
import warnings

import pytest
import torch
from oracles import generation as slow
from oracles import scoring as slow_scoring
from scripted import scripted_model, writes
from torch import nn
from transformers import GenerationConfig

import landscape as ls
from landscape.errors import UserError
from landscape.tasks import Completion, Generation
from landscape.tasks.evaluation import evaluate
from landscape.tasks.forms.completions import COMPLETIONS
from landscape.tasks.forms.form import Encoding, Judging
from landscape.tasks.metrics import METRICS
from landscape.tasks.outputs.generating import generate, reads_once
from landscape.training.baselines import lora, prefix

TEXTS = ("a", "a longer prompt, by far the longest", "mid one", "Who?\nQ", "mid two")
CAUSAL = ("opt", "llama", "qwen2", "gpt2")
TWELVE = Generation(12, ("m",))


@pytest.fixture(scope="module")
def tokenizer():
    return ls.tiny_tokenizer()


def lively(architecture: str, seed: int = 0):
    """Return a model in float64 that does not say one token for ever."""
    model = ls.tiny_model(architecture, seed=seed).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model


def tokens(tokenizer, texts=TEXTS):
    return [tokenizer(text)["input_ids"] for text in texts]


def expected(model, tokenizer, prompts, new: int = 12, stop: str | None = "m"):
    return [slow.text(model, tokenizer, prompt, new, stop) for prompt in prompts]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("architecture", [*CAUSAL, "t5"])
def test_a_batch_of_padded_prompts_has_the_texts_of_greedy_decoding_one_by_one(
    architecture, seed, tokenizer
) -> None:
    model, prompts = lively(architecture, seed), tokens(tokenizer)
    wanted = expected(model, tokenizer, prompts)
    assert len(set(wanted)) > 1
    found = generate(model, prompts, tokenizer, TWELVE, max_length=100)
    assert found == wanted
    assert [
        *generate(model, prompts[:2], tokenizer, TWELVE, max_length=100),
        *generate(model, prompts[2:], tokenizer, TWELVE, max_length=100),
    ] == wanted


def masked(model, seed: int = 0):
    ls.attach(model, ls.random_mask(model, density=0.2, targets="*", seed=seed))
    with torch.no_grad():
        for i, theta in enumerate(ls.trainable(model).values()):
            theta.copy_(torch.randn(theta.shape, generator=torch.Generator().manual_seed(i)))
    return model


@pytest.mark.parametrize("architecture", ["opt", "llama", "gpt2", "t5"])
def test_an_attached_mask_is_seen_as_if_it_were_merged(architecture, tokenizer) -> None:
    plain, prompts = lively(architecture), tokens(tokenizer)
    attached = masked(copy.deepcopy(plain))
    merged = ls.merge(copy.deepcopy(attached))
    wanted = expected(merged, tokenizer, prompts)
    assert wanted != expected(plain, tokenizer, prompts), (
        "a mask that changes nothing shows nothing"
    )
    assert generate(attached, prompts, tokenizer, TWELVE, max_length=100) == wanted
    assert generate(merged, prompts, tokenizer, TWELVE, max_length=100) == wanted


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_wrappers_of_a_model_change_nothing(tokenizer, process_group) -> None:
    model, prompts = masked(lively("llama")), tokens(tokenizer)
    wanted = expected(ls.merge(copy.deepcopy(model)), tokenizer, prompts)
    for wrapped in (
        nn.parallel.DistributedDataParallel(model),
        torch.compile(model, backend="eager"),
    ):
        assert generate(wrapped, prompts, tokenizer, TWELVE, max_length=100) == wanted


def test_methods_of_peft_are_seen(tokenizer) -> None:
    plain, prompts = lively("llama"), tokens(tokenizer)
    adapted = lora(copy.deepcopy(plain), targets="*.[qv]_proj", rank=2)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    merged = copy.deepcopy(adapted).merge_and_unload()
    wanted = expected(merged, tokenizer, prompts)
    assert wanted != expected(plain, tokenizer, prompts)
    assert generate(adapted, prompts, tokenizer, TWELVE, max_length=100) == wanted


def test_a_prefix_stands_before_every_prompt(tokenizer) -> None:
    """Keys and values of words, before training, are those words."""
    plain, prompts = lively("llama"), tokens(tokenizer)
    words = tokenizer.encode("once", add_special_tokens=False)
    wanted = [slow.text(plain, tokenizer, [*words, *prompt], 12, "m") for prompt in prompts]
    assert wanted != expected(plain, tokenizer, prompts)
    model = prefix(copy.deepcopy(plain), tokens=torch.tensor(words))
    assert generate(model, prompts, tokenizer, TWELVE, max_length=100) == wanted


@pytest.mark.parametrize(
    ("written", "found"),
    [(" Ann.\n Bo", "Ann."), ("\nBo", ""), ("An\n\nBo", "An"), ("no stop here", "no stop here")],
)
def test_a_text_ends_before_the_first_newline(written, found, tokenizer) -> None:
    prompts = tokens(tokenizer, ["four", "fives"])
    for prompt in prompts:
        model = scripted_model(writes(tokenizer, written, after=len(prompt)))
        new = Generation(len(written))
        assert generate(model, [prompt], tokenizer, new, max_length=99) == [found]


def test_a_batch_ends_when_all_rows_have_and_none_writes_on(tokenizer) -> None:
    """The short prompt's row ends first, in a batch that goes on."""
    short, long = tokens(tokenizer, ["four", "the longest"])
    script = {
        **writes(tokenizer, "Ann\nxxx", after=len(short)),
        **writes(tokenizer, "xxxxxx\n", after=len(long)),
    }
    model, seen = scripted_model(script), []
    model.register_forward_hook(lambda module, given, output: seen.append(1))
    new = Generation(20)
    assert generate(model, [short, long], tokenizer, new, max_length=99) == ["Ann", "xxxxxx"]
    assert len(seen) == 7


def test_padding_that_is_a_word_does_not_follow_an_end(tokenizer, monkeypatch) -> None:
    """A tokenizer without a padding token has rows filled up with token 0, which may be a word."""
    word = tokenizer.encode("!", add_special_tokens=False)[0]
    monkeypatch.setattr("landscape.tasks.outputs.generating.pad_id", lambda tokenizer: word)
    short, long = tokens(tokenizer, ["four", "the longest"])
    script = {
        **writes(tokenizer, "Ann", after=len(short), then=tokenizer.eos_token_id),
        **writes(tokenizer, "xxxxxx", after=len(long), then=tokenizer.eos_token_id),
    }
    model = scripted_model(script)
    found = generate(model, [short, long], tokenizer, Generation(20), max_length=99)
    assert found == ["Ann", "xxxxxx"]


@pytest.mark.parametrize(("by", "found"), [("text", "Ann"), ("token", "Ann\n\nBo")])
def test_a_token_of_two_newlines_ends_a_text_but_is_not_the_newline_token(by, found) -> None:
    tokenizer = ls.tiny_tokenizer()
    tokenizer.add_tokens(["\n\n"])
    both = tokenizer.convert_tokens_to_ids("\n\n")
    prompt = tokenizer("four")["input_ids"]
    script = writes(tokenizer, "Ann\n\nBo\nx", after=len(prompt))
    assert both in script.values()
    model = scripted_model(script, vocab_size=len(tokenizer))
    new = Generation(12, stop_by=by)
    assert generate(model, [prompt], tokenizer, new, max_length=99) == [found]


def test_rows_that_are_done_leave_the_batch(tokenizer) -> None:
    prompts = tokens(tokenizer, ["a" * n for n in (3, 6, 9, 12)])
    script: dict[int, int] = {}
    for prompt, text in zip(prompts, ("\n", "x\n", "xx\n", "xxx\n")):
        script |= writes(tokenizer, text, after=len(prompt))
    model, seen = scripted_model(script), []
    model.register_forward_hook(
        lambda module, given, kwargs, output: seen.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    found = generate(model, prompts, tokenizer, Generation(20), max_length=99)
    assert found == ["", "x", "xx", "xxx"]
    assert seen == [(4, 13), (3, 1), (2, 1), (1, 1)]


def test_models_that_forget_far_tokens_generate_as_they_predict(tokenizer) -> None:
    """With a sliding window not all keys are kept: transformers' own loop generates."""
    from transformers import MistralConfig, MistralForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MistralForCausalLM(MistralConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, sliding_window=6, pad_token_id=0,
            initializer_range=0.2,
        )).double().eval()  # fmt: skip
    assert not reads_once(model)
    prompts = tokens(tokenizer)
    wanted = expected(model, tokenizer, prompts)
    assert len(set(wanted)) == len(TEXTS)
    assert generate(model, prompts, tokenizer, TWELVE, max_length=100) == wanted


def test_a_text_to_stop_at_may_take_several_tokens(tokenizer) -> None:
    prompt = tokenizer("four")["input_ids"]
    model, seen = scripted_model(writes(tokenizer, "ab###cdefgh", after=len(prompt))), []
    model.register_forward_hook(lambda module, given, output: seen.append(1))
    new = Generation(10, ("zz", "###"))
    assert generate(model, [prompt], tokenizer, new, max_length=99) == ["ab"]
    assert len(seen) == 5


@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_a_models_own_generation_settings_do_not_count(
    architecture, tokenizer, caplog, capsys
) -> None:
    model, prompts = lively(architecture), tokens(tokenizer)
    wanted = expected(model, tokenizer, prompts)
    own = GenerationConfig(
        do_sample=True, temperature=5.0, top_k=7, repetition_penalty=1.9, min_new_tokens=11,
        suppress_tokens=[tokenizer.encode("x", add_special_tokens=False)[0]], max_length=7,
        no_repeat_ngram_size=1, eos_token_id=[5, 6], forced_eos_token_id=9, num_beams=3,
    )  # fmt: skip
    model.generation_config = own
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("error")
        found = generate(model, prompts, tokenizer, TWELVE, max_length=100)
    assert found == wanted
    assert model.generation_config is own
    assert (capsys.readouterr(), caplog.text) == (("", ""), "")


def test_a_failure_gives_a_model_its_settings_back(tokenizer) -> None:
    model = lively("t5")
    own = model.generation_config

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    model.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        generate(model, tokens(tokenizer), tokenizer, TWELVE, max_length=100)
    assert model.generation_config is own


def test_a_prompt_that_is_too_long_keeps_its_first_token_and_its_end(tokenizer) -> None:
    model, (prompt,) = lively("opt"), tokens(tokenizer, ["abcdefgh" * 5])
    kept = [prompt[0], *prompt[-17:]]
    found = generate(model, [prompt], tokenizer, TWELVE, max_length=30)
    assert found == expected(model, tokenizer, [kept])
    assert found != expected(model, tokenizer, [prompt[:18]])
    with pytest.raises(UserError, match="beside 12 new tokens, got a max_length of 12; generate"):
        generate(model, [prompt], tokenizer, TWELVE, max_length=12)
    assert generate(model, [prompt], tokenizer, TWELVE, max_length=13) == expected(
        model, tokenizer, [prompt[:1]]
    )


def test_a_model_that_cannot_generate_is_refused(tokenizer) -> None:
    with pytest.raises(UserError, match=r"a language model, which .*BertForSequenceClassification"):
        generate(ls.tiny_model("bert"), [[1, 5]], tokenizer, TWELVE, max_length=40)


@pytest.mark.parametrize(
    ("given", "said"),
    [({"max_new_tokens": 0}, "max_new_tokens"), ({"stop": ("",)}, "texts to stop at"),
     ({"stop": "x"}, "a tuple of texts"), ({"stop_by": "word"}, "text, token")],
)  # fmt: skip
def test_a_generation_that_cannot_be_is_refused(given, said) -> None:
    with pytest.raises(UserError, match=said):
        Generation(**given)


def answered(prompt: str, *answers: str, written: str = "") -> Completion:
    return Completion(prompt, answers, written)


def toy(examples, **more) -> ls.Task:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ls.Task("toy", examples, examples[:1], examples, metric="token_f1", **more)


@pytest.mark.parametrize("architecture", ["opt", "gpt2", "t5"])
def test_a_split_is_judged_by_the_texts_and_by_the_loss_of_its_first_answers(
    architecture, tokenizer
) -> None:
    model = lively(architecture)
    prompts = [f"{text} is" for text in TEXTS]
    texts = expected(model, tokenizer, tokens(tokenizer, prompts))
    examples = [
        answered(prompt, "nothing of it", text if i % 2 else "mill", text)
        for i, (prompt, text) in enumerate(zip(prompts, texts))
    ]
    task = toy(tuple(examples), generation=TWELVE)
    result = evaluate(model, tokenizer, task, batch_size=2)
    assert result["token_f1"] == METRICS["token_f1"](texts, [e.answers for e in examples])
    terms = [
        -value
        for e in examples
        for value in slow_scoring.token_log_probs(
            model, tokenizer, ls.Example(e.prompt, (e.written,), 0), 0
        )
    ]
    assert result["loss"] == pytest.approx(sum(terms) / len(terms), abs=1e-10)
    again = evaluate(model, tokenizer, task, batch_size=5)
    assert again["token_f1"] == result["token_f1"]


def test_reading_prompts_once_changes_neither_texts_nor_losses(tokenizer, monkeypatch) -> None:
    """One forward of the prompts serves loss and text; without it there are two."""
    model, seen = lively("llama"), []
    model.register_forward_hook(lambda module, given, output: seen.append(1))
    examples = [answered(f"{text} is", "one", written="x" * (i % 3) + "\n")
                for i, text in enumerate(TEXTS)]  # fmt: skip
    given = [*map(encoded(tokenizer, *examples).__getitem__, range(5))], examples
    judging = Judging(METRICS["token_f1"], "language modelling", tokenizer, Encoding(100), TWELVE)
    once = COMPLETIONS.judge(model, *given, judging)
    forwards = len(seen)
    monkeypatch.setattr("landscape.tasks.forms.completions.reads_once", lambda model: False)
    twice = COMPLETIONS.judge(model, *given, judging)
    assert len(seen) - forwards == forwards
    assert once.predictions == twice.predictions
    assert once.losses == pytest.approx(twice.losses, abs=1e-10)
    assert once.terms == twice.terms == 1 + 2 + 3 + 1 + 2


def test_keys_and_values_of_so_many_tokens_are_held_at_once(tokenizer, monkeypatch) -> None:
    monkeypatch.setattr("landscape.tasks.forms.completions.CONTEXT", 90)
    model, seen = lively("llama"), []
    model.register_forward_hook(
        lambda module, given, kwargs, output: seen.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    examples = tuple(answered(f"{text} is", "one") for text in TEXTS)
    task = toy(examples, generation=TWELVE)
    bounded = evaluate(model, tokenizer, task, batch_size=5)
    assert max(rows * length for rows, length in seen) <= 90
    monkeypatch.undo()
    assert evaluate(model, tokenizer, task, batch_size=5) == pytest.approx(bounded, abs=1e-10)


def encoded(tokenizer, *examples, max_length: int = 100):
    return COMPLETIONS.encode(examples, tokenizer, Encoding(max_length))


def test_what_is_generated_after_does_not_depend_on_the_answer(tokenizer) -> None:
    """A long answer leaves training little of the prompt; generation knows of no answer."""
    model = lively("opt")
    prompt = "".join(chr(97 + i % 26) for i in range(60))
    texts = [
        COMPLETIONS.judge(
            model,
            encoded(tokenizer, answered(prompt, answer), max_length=40),
            [answered(prompt, answer)],
            Judging(
                METRICS["token_f1"], "language modelling", tokenizer, Encoding(40), Generation(5)
            ),
        ).predictions
        for answer in ("a", "a" * 35)
    ]
    assert texts[0] == texts[1]
