"""The two sides of a comparison on one case: the papers' protocol done literally, and ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape.bench.protocol import literal
from landscape.bench.protocol.cases import Case
from landscape.masks import random_mask
from landscape.models import load_model
from landscape.subspace import attach, trainable
from landscape.tasks.batches import length_order
from landscape.tasks.encoding import Encoded, encode, length_limit
from landscape.tasks.evaluation import judge
from landscape.tasks.example import Completion, Example
from landscape.tasks.forms.candidates import collate
from landscape.tasks.forms.form import Encoding, Judged, Judging
from landscape.tasks.metrics import METRICS
from landscape.tasks.outputs.generating import generate as generate_texts
from landscape.tasks.outputs.scoring import task_loss
from landscape.tasks.padding import pad_id
from landscape.training.loop import Loop
from landscape.training.mode import training_mode

RATIO, TARGETS = 1e-3, "*.[qv]_proj"
BATCH = 8
"""Examples of a step, as in the papers; of an evaluation's forward too, so that the few examples of
a benchmark fill several batches of about one length, as the many of a split do."""
LR = 1e-3
CLIP = 1.0


@dataclass(frozen=True)
class Bench:
    """Hold a masked model and its tokenizer; every run of a side starts at theta = 0."""

    model: Any
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def load(cls, seed: int) -> Bench:
        """Load SmolLM2 and attach a random mask of its query and value layers."""
        model, tokenizer = load_model("smollm2-135m")
        attach(model, random_mask(model, ratio=RATIO, targets=TARGETS, seed=seed))
        return cls(model, tokenizer)

    @property
    def pad(self) -> int:
        """The padding token."""
        return pad_id(self.tokenizer)

    def start(self) -> torch.optim.Optimizer:
        """Go to theta = 0 and return a fresh AdamW, the protocol's optimizer."""
        parameters = list(trainable(self.model).values())
        with torch.no_grad():
            for parameter in parameters:
                parameter.zero_()
        return torch.optim.AdamW(parameters, lr=LR, weight_decay=0.0)


def train_literally(bench: Bench, case: Case, examples: list[Encoded]) -> list[float]:
    """Take a step on each 8 examples, in micro-batches; return the losses."""
    optimizer, losses = bench.start(), []
    parameters = optimizer.param_groups[0]["params"]
    with training_mode(bench.model, 0):
        for step in _batches(examples, BATCH):
            optimizer.zero_grad(set_to_none=True)
            total, terms = 0.0, 0
            for batch in _batches(step, case.micro_batch):
                loss, count = literal.loss_sum(bench.model, batch, case.loss, bench.pad)
                loss.backward()
                total, terms = total + float(loss.detach()), terms + count
            for parameter in parameters:
                parameter.grad /= terms
            nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            losses.append(total / terms)
    return losses


def train(bench: Bench, case: Case, examples: list[Encoded]) -> list[float]:
    """Take the same steps as `landscape.finetune` does; return the losses."""
    loop = Loop(bench.model, bench.start(), task_loss, max_gradient_norm=CLIP)
    with training_mode(bench.model, 0):
        return [
            loop.step([
                collate(batch, bench.pad, loss=case.loss)
                for batch in _batches(step, case.micro_batch)
            ])["loss"]
            for step in _batches(examples, BATCH)
        ]  # fmt: skip


def evaluate_literally(bench: Bench, case: Case, examples: list[Encoded]) -> list[list[float]]:
    """Return the scores of each example's candidates, from a forward each."""
    return [literal.scores(bench.model, e) for e in examples]


def evaluate(bench: Bench, case: Case, examples: list[Encoded]) -> Judged:
    """Judge as `landscape.evaluate` does."""
    judging = Judging(
        METRICS["accuracy"], case.loss, bench.tokenizer, Encoding(length_limit(bench.model)),
        case.generation,
    )  # fmt: skip
    return judge(bench.model, case.test, judging, batch_size=BATCH)


def generate_literally(bench: Bench, case: Case, examples: list[Encoded]) -> list[str]:
    """Generate after one prompt at a time."""
    return literal.texts(
        bench.model, [e.prompt for e in examples], bench.tokenizer, case.generation,
        length_limit(bench.model),
    )  # fmt: skip


def generate(bench: Bench, case: Case, examples: list[Encoded]) -> list[str]:
    """Generate as `landscape.evaluate` does: after prompts of about one length at a time."""
    found: dict[int, str] = {}
    for chosen in _batches(length_order(examples), 32):
        texts = generate_texts(
            bench.model, [examples[i].prompt for i in chosen], bench.tokenizer, case.generation,
            max_length=length_limit(bench.model),
        )  # fmt: skip
        found |= dict(zip(chosen, texts, strict=True))
    return [found[i] for i in range(len(examples))]


SIDES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "train": (train_literally, train),
    "evaluate": (evaluate_literally, evaluate),
    "generate": (generate_literally, generate),
}
"""What is timed -> its literal side and ours, called with the bench, the case and its tokens."""


def parts_of(bench: Bench, case: Case) -> dict[str, list[Encoded]]:
    """Return what is timed of a case, and the tokens of its examples."""
    limit = length_limit(bench.model)
    encoded = {
        split: encode(
            [Example(e.prompt, (e.written,), 0) if isinstance(e, Completion) else e for e in rows],
            bench.tokenizer, max_length=limit,
        )
        for split, rows in (("train", case.train), ("test", case.test)) if rows
    }  # fmt: skip
    judged = "generate" if isinstance(case.test[0], Completion) else "evaluate"
    trained = {"train": encoded["train"]} if "train" in encoded else {}
    return trained | {judged: encoded["test"]}


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))
