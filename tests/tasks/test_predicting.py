"""Predictions equal the slow ones, in the order of the examples, and labels are not looked at."""

from __future__ import annotations

import dataclasses
import io
import math

import pytest
import torch
from oracles import scoring as slow

import landscape as ls
from landscape.errors import UserError

EXAMPLES = (
    ls.Example("Fine. It was", (" terrible", " great"), 0),
    ls.Example("The rain stopped, so ", ("we left", "it froze all night", "I"), 1),
    ls.Example("A film about a film about nothing at all. It was", (" terrible", " great"), 0),
)


def test_a_prediction_is_the_best_of_the_slow_scores_and_their_softmax() -> None:
    model, tokenizer = ls.tiny_model("opt").double(), ls.tiny_tokenizer()
    found = ls.predict(model, tokenizer, EXAMPLES, batch_size=2)
    for example, one in zip(EXAMPLES, found, strict=True):
        weights = [math.exp(score) for score in slow.scores(model, tokenizer, example)]
        best = weights.index(max(weights))
        assert (one.label, one.answer) == (best, example.candidates[best].strip())
        assert one.probabilities == pytest.approx([w / sum(weights) for w in weights], rel=1e-9)
    others = [dataclasses.replace(example, label=1 - example.label) for example in EXAMPLES]
    assert ls.predict(model, tokenizer, others, batch_size=2) == found


@pytest.mark.parametrize("classes", [("no", "maybe", "yes"), ()])
def test_a_heads_prediction_is_its_logits(classes) -> None:
    model, tokenizer = ls.tiny_model("bert", num_labels=3 if classes else 1), ls.tiny_tokenizer()
    texts = ("a film", "a long film about rain", "rain")
    found = ls.predict(model, tokenizer, [ls.TextExample((t,), 0, classes) for t in texts])
    for text, one in zip(texts, found, strict=True):
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        if classes:
            assert one.probabilities == pytest.approx(logits.softmax(0).tolist(), abs=1e-5)
            assert one.answer == classes[int(logits.argmax())]
        else:
            assert one.answer == pytest.approx(float(logits), abs=1e-5)
            assert (one.label, one.probabilities) == (None, ())


def test_an_image_is_predicted_as_its_logits_say() -> None:
    from PIL import Image
    from transformers import ViTImageProcessor

    model = ls.tiny_model("vit")
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    stream = io.BytesIO()
    image = Image.new("RGB", (16, 16), (9, 120, 40))
    image.save(stream, "PNG")
    size = model.config.num_labels
    classes = tuple(f"c{i}" for i in range(size))
    (one,) = ls.predict(model, processor, [ls.ImageExample(stream.getvalue(), 0, classes)])
    with torch.no_grad():
        logits = model(**processor(images=[image], return_tensors="pt")).logits[0]
    assert one.probabilities == pytest.approx(logits.softmax(0).tolist(), abs=1e-5)
    assert one.answer == classes[int(logits.argmax())]


def test_a_completion_is_what_the_model_generates() -> None:
    model, tokenizer = ls.tiny_model("llama"), ls.tiny_tokenizer()
    prompt = "The rain stopped"
    generation = ls.Generation(max_new_tokens=5, stop=())
    (one,) = ls.predict(model, tokenizer, [ls.Completion(prompt, ("",))], generation=generation)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    for _ in range(5):
        with torch.no_grad():
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    expected = tokenizer.decode(ids[0, -5:], skip_special_tokens=True).strip()
    assert one == ls.Predicted(expected)


def test_a_model_whose_outputs_are_nan_predicts_nothing() -> None:
    model = ls.tiny_model("opt")
    with torch.no_grad():
        model.model.decoder.final_layer_norm.weight.fill_(math.nan)
    assert ls.predict(model, ls.tiny_tokenizer(), EXAMPLES) == [ls.Predicted(None)] * 3


def test_examples_of_two_kinds_are_refused() -> None:
    mixed = [EXAMPLES[0], ls.Completion("a", ("b",))]
    with pytest.raises(UserError, match="of one kind, got Completion, Example"):
        ls.predict(ls.tiny_model("opt"), ls.tiny_tokenizer(), mixed)
