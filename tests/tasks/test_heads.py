"""Forms for heads: their batches, losses and predictions against one example at a time."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from headed import CLASSES, ENCODERS, FORMS, HEADED, READERS, TAGS, Headed, bytewise, wordpiece
from oracles import heads as slow
from PIL import Image

import landscape as ls
from landscape.errors import UserError
from landscape.tasks.evaluation import judge
from landscape.tasks.files.image import decoded
from landscape.tasks.forms import form_of
from landscape.tasks.forms.form import Encoding, Judging
from landscape.tasks.metrics import METRICS
from landscape.tasks.outputs.scoring import task_loss, task_split

each = pytest.mark.parametrize("case", HEADED, ids=str)
form = pytest.mark.parametrize("case", FORMS, ids=str)


@each
def test_losses_and_predictions_are_those_of_one_example_at_a_time(case: Headed) -> None:
    model, reader, task = case.model(), case.reader(), case.task()
    rows = [slow.logits(model, reader, e) for e in task.train]
    wanted = [slow.predicted(e, r) for e, r in zip(task.train, rows)]
    terms = [t for e, r in zip(task.train, rows) for t in slow.terms(e, r)]
    judging = Judging(METRICS[task.metric], task.loss, reader, Encoding(64), task.generation)
    found = judge(model, task.train, judging, batch_size=4)
    assert found.predictions == (pytest.approx(wanted) if case.form == "numbers" else wanted)
    assert len(terms) == found.terms
    # pixels are scaled in float32
    assert sum(found.losses) == pytest.approx(
        sum(terms), rel=1e-6 if case.form == "images" else 1e-12
    )
    batches = ls.make_batches(task.train, reader, 4, loss=task.loss)
    totals = [task_loss(model, batch) for batch in batches]
    assert float(sum(t for t, _ in totals).detach()) == pytest.approx(sum(terms), rel=1e-6)
    for batch, (total, count) in zip(batches, totals):
        z, rest = task_split(model, batch)
        assert float(rest(z)[0].sum().detach()) == pytest.approx(float(total.detach()), rel=1e-12)
        assert count == rest(z)[1]


@form
def test_values_do_not_depend_on_batch_size_or_order(case: Headed) -> None:
    model, reader, task = case.model(), case.reader(), case.task()
    other = dataclasses.replace(task, test=task.test[::-1])
    first, *others = (
        ls.evaluate(model, reader, t, batch_size=b) for t, b in ((task, 32), (task, 1), (other, 2))
    )
    assert all(found == pytest.approx(first, rel=1e-9) for found in others)


@form
@pytest.mark.filterwarnings("ignore:.*invalid value")
def test_a_model_that_is_not_a_number_predicts_nothing_right(case: Headed) -> None:
    model, reader, task = case.model(), case.reader(), case.task()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(torch.nan)
    found = ls.evaluate(model, reader, task)
    assert found[task.metric] == (-1.0 if case.form == "numbers" else 0.0)
    assert np.isnan(found["loss"])


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_decoders_head_reads_the_last_token_whatever_the_padding(name: str) -> None:
    case = Headed("classes", name)
    model, reader, task = case.model(), case.reader(), case.task()
    wanted = slow.mean_loss(model, reader, task.train)
    model.config.pad_token_id = 2  # not the tokenizer's, which is 0
    (batch,) = ls.make_batches(task.train, reader, 8)
    assert len(set(batch["attention_mask"].sum(1).tolist())) > 1
    total, count = task_loss(model, batch)
    assert float(total.detach()) / count == pytest.approx(wanted, rel=1e-12)
    model.config.pad_token_id = None
    with pytest.raises(UserError, match="pad_token_id None"):
        task_loss(model, batch)


def test_a_pairs_second_text_is_a_segment_where_the_tokenizer_says_so() -> None:
    task = Headed("pairs", "bert").task()
    (batch,) = ls.make_batches(task.train[:3], wordpiece(), 8)
    for row, example in zip(batch["token_type_ids"], task.train):
        second = len(wordpiece()(example.texts[1], add_special_tokens=False)["input_ids"]) + 1
        assert int(row.sum()) == second
    for reader in (bytewise(), ls.tiny_tokenizer()):
        assert "token_type_ids" not in ls.make_batches(task.train[:3], reader, 8)[0]


@pytest.mark.parametrize("name", READERS)
def test_the_longer_text_of_a_pair_is_cut_and_special_tokens_stay(name: str) -> None:
    reader = READERS[name]()
    example = ls.TextExample(("a b c d e f g h", "x y"), 1, CLASSES)
    (whole,) = ls.make_batches([example], reader, 1)
    ids = whole["input_ids"][0].tolist()
    cut = len(ids) - 3
    (short,) = ls.make_batches([example], reader, 1, max_length=cut)
    kept = short["input_ids"][0].tolist()
    first = reader(example.texts[0], add_special_tokens=False)["input_ids"]
    second = reader(example.texts[1], add_special_tokens=False)["input_ids"]
    assert kept == slow.framed(reader, [first[:-3], second])[0]


@pytest.mark.parametrize("name", ENCODERS)
def test_words_beyond_the_longest_length_are_predicted_outside(name: str) -> None:
    case = Headed("tags", name)
    model, reader = case.model(), case.reader()
    example = ls.TaggedExample(("film",) * 9, ("B-X",) * 9, TAGS)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 3.0, 0.0]))  # B-X everywhere
    judging = Judging(
        METRICS["entity_f1"], "classification", reader, Encoding(7), ls.tasks.Generation()
    )
    found = judge(model, [example], judging)
    tokens = form_of([example]).encode([example], reader, Encoding(7))[0].tokens
    assert len(tokens) == 7
    word = len(reader(" film", add_special_tokens=False)["input_ids"])
    kept = -(-5 // word)  # a word counts by its first token
    assert found.predictions == [["B-X"] * kept + ["O"] * (9 - kept)]
    assert found.terms == kept


def test_a_word_of_which_no_token_is_left_shifts_no_other_words_tag() -> None:
    case = Headed("tags", "bert")
    model, reader = case.model(), case.reader()
    words, tags = ("film", "\u0300", "q", "good"), ("O", "O", "B-X", "I-X")
    assert reader("\u0300", add_special_tokens=False)["input_ids"] == []
    example, bare = (
        ls.TaggedExample(words, tags, TAGS),
        ls.TaggedExample(tuple(w for w in words if w != "\u0300"), ("O", "B-X", "I-X"), TAGS),
    )
    judging = Judging(
        METRICS["entity_f1"], "classification", reader, Encoding(64), ls.tasks.Generation()
    )
    found, without = judge(model, [example], judging), judge(model, [bare], judging)
    whole = list(without.predictions[0])
    assert len(set(whole)) > 1
    assert found.predictions == [[whole[0], "O", *whole[1:]]]
    assert found.losses == pytest.approx(without.losses)


def test_words_are_read_as_byte_level_models_see_them_in_a_text() -> None:
    """After a space, the first one too: what add_prefix_space=True gives."""
    example = ls.TaggedExample(("film", "q"), ("O", "B-X"), TAGS)
    tokens = form_of([example]).encode([example], bytewise(), Encoding(64))[0].tokens
    assert bytewise().decode(tokens, skip_special_tokens=True) == " film q"


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "LA"])
def test_images_of_any_eight_bit_mode_become_three_channels(mode: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (2, 2), (200, 200, 200)).convert(mode).save(
        stream, "TIFF" if mode == "CMYK" else "PNG"
    )
    found = np.asarray(decoded(stream.getvalue()))
    assert found.shape == (2, 2, 3)
    assert set(found.reshape(-1).tolist()) <= {199, 200, 201, 204, 255, 0}


def test_images_that_cannot_be_read_or_would_be_cut_are_refused() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((2, 2), 40_000, np.uint16)).save(stream, "PNG")
    with pytest.raises(UserError, match=r"8 bits a channel, got PIL's mode I;16"):
        decoded(stream.getvalue())
    whole = Headed("images", "vit").task().train[0].image
    for raw in (b"", b"no image", whole[:60]):
        with pytest.raises(UserError, match=r"an image, got .* cannot be read"):
            decoded(raw)


def other_models() -> list[tuple[str, Any, str]]:
    """Models that cannot answer three classes of texts, and what is said of each."""
    bert = transformers.BertConfig(**ls.tiny_model("bert").config.to_diff_dict())
    return [
        ("fewer", ls.tiny_model("bert", num_labels=2), "3 labels .* got 2 .*num_labels=3"),
        ("more", ls.tiny_model("bert", num_labels=4), "3 labels .* got 4 .*num_labels=3"),
        ("numbers", ls.tiny_model("bert", num_labels=1), "3 labels .* got 1 .*num_labels=3"),
        ("causal", ls.tiny_model("gpt2"), r"got GPT2LMHeadModel, .* \(causal language model\)"),
        (
            "tokens",
            ls.tiny_model("bert", head="tokens", num_labels=3),
            r"\(token classifier\); load",
        ),
        (
            "masked",
            transformers.BertForMaskedLM(bert),
            r"\(masked language model\)",
        ),
        ("bare", transformers.BertModel(bert), "takes labels and returns logits, got BertModel"),
    ]


@pytest.mark.parametrize(
    "which", ["fewer", "more", "numbers", "causal", "tokens", "masked", "bare"]
)
def test_a_model_whose_head_does_not_fit_is_refused_before_a_step(which: str) -> None:
    model, message = next((m, s) for name, m, s in other_models() if name == which)
    task, reader = Headed("classes", "bert").task(), wordpiece()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    with pytest.raises(UserError, match=message):
        ls.evaluate(model, reader, task)
    with pytest.raises(UserError, match=message):
        ls.finetune(model, reader, task, lr=1e-3, epochs=1)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_labels_beyond_a_models_outputs_are_refused_in_any_batch() -> None:
    model = ls.tiny_model("bert", num_labels=2)
    (batch,) = ls.make_batches(Headed("classes", "bert").task().train, wordpiece(), 8)
    with pytest.raises(UserError, match=r"labels below 2.*got 2; load the model with num_labels=3"):
        task_loss(model, batch)
    numbers = batch | {"labels": batch["labels"].double()}
    with pytest.raises(UserError, match=r"2 outputs of BertFor.*, got numbers"):
        task_loss(model, numbers)
    one = ls.tiny_model("bert", num_labels=1)
    with pytest.raises(UserError, match=r"1 outputs of BertFor.*, got classes"):
        task_loss(one, batch)


class Silent(transformers.BertForSequenceClassification):
    """A classifier that returns no loss."""

    def forward(self, *args, labels=None, **given):
        return super().forward(*args, **given)


def test_a_model_without_a_loss_of_its_own_is_refused_by_name() -> None:
    case = Headed("classes", "bert")
    model = Silent(case.model().config).eval()
    (batch,) = ls.make_batches(case.task().train, case.reader(), 8)
    with pytest.raises(UserError, match=r"expected Silent to have .* got none; pass loss="):
        task_loss(model, batch)


@form
def test_rows_that_begin_otherwise_are_refused(case: Headed) -> None:
    with pytest.raises(UserError, match=r'bos="tokenizer" for what a head reads, got 0'):
        ls.evaluate(case.model(), case.reader(), case.task(), bos=0)


@pytest.mark.parametrize("case", [c for c in FORMS if c.form != "images"], ids=str)
def test_a_length_without_room_for_text_is_refused(case: Headed) -> None:
    reader = case.reader()
    reader.model_max_length = 1
    with pytest.raises(UserError, match=r"special tokens and one of each text.*got max_length 1"):
        ls.make_batches(case.task().train, reader, 2)


def test_a_text_of_which_the_tokenizer_leaves_nothing_is_refused() -> None:
    reader = wordpiece()
    reader.backend_tokenizer.post_processor = None
    example = ls.TextExample(("\u0300",), 0, CLASSES)
    with pytest.raises(UserError, match="at least one token"):
        ls.make_batches([example], reader, 1)


def test_a_tokenizer_reads_no_images() -> None:
    images, texts = Headed("images", "vit"), Headed("classes", "bert")
    with pytest.raises(UserError, match="an image processor"):
        ls.make_batches(images.task().train, texts.reader(), 2)
