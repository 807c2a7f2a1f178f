"""A task's metric and the loss of a model on one of its splits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.models.modes import eval_mode
from landscape.tasks.batches import length_order
from landscape.tasks.encoding import Bos, length_limit
from landscape.tasks.example import AnyExample
from landscape.tasks.fitting import refuse_unfit
from landscape.tasks.forms import form_of
from landscape.tasks.forms.form import Encoding, Judged, Judging
from landscape.tasks.metrics import METRICS, Prediction
from landscape.tasks.task import Task


@torch.no_grad()
def evaluate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    split: str = "test",
    batch_size: int = 32,
    max_length: int | None = None,
    bos: Bos = "tokenizer",
    progress: bool = False,
) -> dict[str, float]:
    """Judge a model on a split by the task's metric and loss.

    What it predicts depends on the kind of examples: the candidate that it gives the highest score;
    of a completion the text that it generates, greedily; of a head the most probable class, a
    number, or each word's most probable tag. Examples go through the model from longest to
    shortest, which saves padding; the values do not depend on the order in which the split lists
    them. The model is in eval mode meanwhile.

    Args:
        model: of the kind that answers such examples: a language model; a sequence classifier for
            texts with a label, and for candidates of one token each; a token classifier for tags;
            an image classifier.
        tokenizer: of the model; the image processor of one that sees images.
        task: what to judge it on.
        split: "train", "dev" or "test".
        batch_size: examples a forward, >= 1; it changes the speed, and the values by rounding.
        max_length: most tokens of a row, at least 2; 2048 if absent, and never more than the
            model takes.
        bos: what rows start with; see ``landscape.tasks.encoding.encode``.
        progress: show a progress bar on standard error, if that is a terminal.

    Returns:
        The task's metric under its name (see ``landscape.tasks.metrics.METRICS``): ``accuracy``
        is the share of examples for which a right candidate or class scores highest (ties go to
        the first); metrics of texts and numbers take the predicted candidate as one. ``loss``: the
        mean of the task's loss per term, by the label, or the first answer, of each example.
        ``n``: the number of examples. A diverged model, whose scores are NaN, has those examples
        wrong and a loss of NaN.

    Raises:
        UserError: a model that does not answer such examples, an unknown split, a batch size or
            length that is too small, or a metric of numbers where a candidate is none.

    Cost: a prompt goes through the model once, whatever the number and length of its candidates,
    where the model keeps keys and values (`landscape.tasks.outputs.shared_prompt`); once a
    candidate of several tokens elsewhere. The output head sees the scored positions alone. A
    completion costs a forward a new token besides; what a head reads, one forward a batch.
    """
    checks.model(model)
    checks.tokenizer(tokenizer)
    checks.has("task", task, "a Task", "train", "split", do="load or make one")
    batch_size = checks.whole("batch_size", batch_size, least=1)
    judging = Judging(
        METRICS[task.metric], task.loss, tokenizer,
        Encoding(length_limit(model, max_length), bos), task.generation,
    )  # fmt: skip
    said = f"evaluate {split}" if progress else None
    return measure(model, task.split(split), judging, batch_size=batch_size, said=said)


def measure(
    model: nn.Module,
    examples: Sequence[AnyExample],
    judging: Judging,
    *,
    batch_size: int = 32,
    said: str | None = None,
) -> dict[str, float]:
    """Judge a model on examples, whichever split they are of: what `evaluate` returns.

    Args:
        model, examples, batch_size, said: as of `judge`.
        judging: the metric, the loss, and how rows are made.
    """
    form, metric = form_of(examples), judging.metric
    answers = [form.answers(metric, example) for example in examples]
    found = judge(model, examples, judging, batch_size=batch_size, said=said)
    value, loss = metric(found.predictions, answers), math.fsum(found.losses) / found.terms
    return {metric.name: value, "loss": loss, "n": len(examples)}


@torch.no_grad()
def judge(
    model: nn.Module,
    examples: Sequence[AnyExample],
    judging: Judging,
    *,
    batch_size: int = 32,
    said: str | None = None,
) -> Judged:
    """Return what a model predicts for examples, in their order, and its losses.

    Args:
        model: put into eval mode meanwhile.
        examples: at least one, all of one kind.
        judging: what the predictions are wanted for.
        batch_size: examples a forward.
        said: what a progress bar on standard error says; None for none.
    """
    form = form_of(examples)
    refuse_unfit(model, examples)
    encoded = form.encode(examples, judging.tokenizer, judging.encoding)
    order = length_order(encoded)
    torch.clear_autocast_cache()  # of weights written in place before, inside a user's autocast
    predictions: list[Prediction | None] = [None] * len(order)
    losses: list[float] = []
    scores: list[list[float]] = [[] for _ in order]
    terms = 0
    with eval_mode(model):
        starts = range(0, len(order), batch_size)
        for i in tqdm(starts, desc=said, disable=None if said else True, leave=False):
            chosen = order[i : i + batch_size]
            found = form.judge(
                model, [encoded[j] for j in chosen], [examples[j] for j in chosen], judging
            )
            for j, prediction in zip(chosen, found.predictions, strict=True):
                predictions[j] = prediction
            for j, scored in zip(chosen, found.scores, strict=False):  # some kinds have none
                scores[j] = scored
            losses += found.losses
            terms += found.terms
    return Judged(predictions, losses, terms, scores)
