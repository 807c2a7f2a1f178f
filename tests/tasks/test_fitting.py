"""Which models answer which examples: all of them, trained and judged, or refused by name."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from samples import image_processor

import landscape as ls
from landscape.errors import UserError
from landscape.tasks.example import Completion, Example, ImageExample, TaggedExample, TextExample
from landscape.tasks.fitting import refuse_unfit

CLASSES = ("a", "b", "c")
TAGS = ("O", "B-b", "B-c")


def picture(i: int) -> bytes:
    """A 16 x 16 image of the colour of its class, with noise."""
    pixels = np.random.default_rng(i).integers(0, 60, (16, 16, 3), dtype=np.uint8)
    pixels[..., i % 3] += 180
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def examples(kind: str, count: int = 24) -> tuple[Any, ...]:
    words = ("red", "green", "blue")
    made = {
        "candidates": lambda i: Example(f"{i}: {words[i % 3]}", (" x", " y", " z"), i % 3),
        "completions": lambda i: Completion(f"{i}: {words[i % 3]}", ("xyz"[i % 3],)),
        "texts": lambda i: TextExample((f"{i}: {words[i % 3]}",), i % 3, CLASSES),
        "numbers": lambda i: TextExample((f"{i}: {words[i % 3]}",), float(i % 3)),
        "tags": lambda i: TaggedExample((f"{i}", words[i % 3]), ("O", TAGS[i % 3]), TAGS),
        "images": lambda i: ImageExample(picture(i), i % 3, CLASSES),
    }[kind]
    return tuple(made(i) for i in range(count))


def task(kind: str) -> ls.Task:
    rows = examples(kind)
    loss = {"completions": "language modelling", "numbers": "regression"}.get(kind)
    metric = {"completions": "token_f1", "numbers": "pearson", "tags": "entity_f1"}.get(kind)
    given = {"loss": loss, "metric": metric}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ls.Task(kind, rows, rows[:12], rows[:12], **{k: v for k, v in given.items() if v})


MODELS = {
    "causal": lambda: ls.tiny_model("llama"),
    "encoder-decoder": lambda: ls.tiny_model("t5"),
    "sequences": lambda: ls.tiny_model("roberta", num_labels=3),
    "sequences of a decoder": lambda: ls.tiny_model("qwen2", head="sequence", num_labels=3),
    "numbers": lambda: ls.tiny_model("deberta-v2", num_labels=1),
    "tokens": lambda: ls.tiny_model("mpnet", head="tokens", num_labels=3),
    "images": lambda: ls.tiny_model("vit"),
    "convolutions": lambda: ls.tiny_model("resnet"),
    "zero shot": lambda: ls.zero_shot_classifier(
        ls.tiny_model("clip"), ls.tiny_tokenizer(), ("red", "green", "blue")
    ),
}
SEEING = {"images": "vit", "convolutions": "resnet", "zero shot": "clip"}
ANSWERS = {
    "candidates": {"causal", "encoder-decoder"},  # of one token each: sequence classifiers too
    "completions": {"causal", "encoder-decoder"},
    "texts": {"sequences", "sequences of a decoder"},
    "numbers": {"numbers"},
    "tags": {"tokens"},
    "images": set(SEEING),
}


def reader_of(name: str) -> Any:
    return image_processor(SEEING[name]) if name in SEEING else ls.tiny_tokenizer()


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_does_not_answer_is_refused_before_anything_is_read(name, kind) -> None:
    if name in ANSWERS[kind]:
        refuse_unfit(MODELS[name](), examples(kind))
        return
    if kind == "candidates" and name.startswith("sequences"):
        pytest.skip("answers candidates of one token, which each batch shows")
    with pytest.raises(UserError) as caught:
        ls.evaluate(MODELS[name](), reader_of(name), task(kind))
    message = str(caught.value)
    assert message.startswith("expected a")
    assert "; load" in message
    assert ", got " in message
    with pytest.raises(UserError) as again:
        ls.finetune(MODELS[name](), reader_of(name), task(kind), lr=1e-3)
    assert str(again.value) == message


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for kind, names in ANSWERS.items() for name in sorted(names)
     if kind != "completions"],
)  # fmt: skip
def test_a_model_that_answers_learns_the_task_by_its_mask(name, kind) -> None:
    model, reader, data = MODELS[name](), reader_of(name), task(kind)
    targets = ["*.mlp.fc1", "*.mlp.fc2"] if name == "zero shot" else "*"
    dense = "classifier" if kind in ("texts", "numbers", "tags") and name != (
        "sequences of a decoder") else ()  # fmt: skip
    inner = [n for n, p in model.named_parameters() if p.dim() > 1 and "classifier" not in n]
    mask = ls.random_mask(model, density=0.2, targets=inner if targets == "*" else targets, seed=0)
    ls.attach(model, mask, dense=dense)
    before = ls.evaluate(model, reader, data)
    run = ls.finetune(
        model, reader, data, lr=3e-2, epochs=4, batch_size=4, seed=0, select_by="loss"
    )
    after = ls.evaluate(model, reader, data)
    assert run.metrics["test"]["loss"] == after["loss"]
    assert math.isfinite(after["loss"])
    assert after["loss"] < before["loss"] - 0.02 * abs(before["loss"])


def test_a_head_of_another_number_of_labels_is_refused() -> None:
    with pytest.raises(UserError, match=r"a head with 3 labels for images, got 10 in "
                                        r"ViTForImage.*num_labels=3"):  # fmt: skip
        refuse_unfit(ls.tiny_model("vit", num_labels=10), examples("images"))
    with pytest.raises(UserError, match="a head with 1 label for texts with a label, got 2"):
        refuse_unfit(ls.tiny_model("bert"), examples("numbers"))


def test_a_model_of_ones_own_passes() -> None:
    class Own(torch.nn.Module):
        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return pixel_values

    refuse_unfit(Own(), examples("images"))


def named(*labels: str, head: str = "sequence") -> Any:
    model = ls.tiny_model("bert", num_labels=len(labels), head=head)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}
    return model


@pytest.mark.parametrize(
    ("kind", "labels", "head"),
    [("texts", ("C", "a", "b"), "sequence"), ("candidates", ("y", "x", "z"), "sequence"),
     ("tags", ("B-b", "O", "B-c"), "tokens")],
)  # fmt: skip
def test_labels_of_the_same_names_in_another_order_are_refused(kind, labels, head) -> None:
    given = task(kind)
    with pytest.raises(UserError, match=f"order of the examples' classes.*got {', '.join(labels)}"):
        ls.evaluate(named(*labels, head=head), ls.tiny_tokenizer(), given)
    known = {"candidates": ("X", "y", "z")}.get(kind, CLASSES)
    for names in (known, ("LABEL_0", "LABEL_1", "LABEL_2"), ("b", "a", "else")):
        refuse_unfit(named(*names, head=head), given.test)


def test_a_new_head_has_no_names_of_the_old_ones_labels(tmp_path) -> None:
    named("c", "a", "b").save_pretrained(tmp_path)
    ls.tiny_tokenizer().save_pretrained(tmp_path)
    old, _ = ls.load_model(tmp_path, num_labels=3)
    with pytest.raises(UserError, match="new_head=True"):
        refuse_unfit(old, examples("texts"))
    new, _ = ls.load_model(tmp_path, num_labels=3, new_head=True)
    refuse_unfit(new, examples("texts"))
    assert new.config.id2label == {i: f"LABEL_{i}" for i in range(3)}
