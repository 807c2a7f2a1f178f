"""Metrics: what a task is judged by, from what was predicted and which answers are right.

A prediction that is None is one that a model could not make: its scores are NaN, as those of a
model that has diverged. It is never right.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeAlias

import numpy as np

from landscape.errors import UserError
from landscape.sources.carriers import optional
from landscape.tasks.final_answers import begins_right, ends_right

Needs = Literal["candidate", "text", "number", "tags"]
"""What a prediction is: the index of a candidate, a text, a number, or a tag for each word."""

Prediction: TypeAlias = int | float | str | Sequence[str]
"""A prediction or an answer, of the kind that `Metric.needs` names."""

Predictions: TypeAlias = Sequence[Prediction | None]
Answers: TypeAlias = Sequence[Sequence[Prediction]]
"""The right answers of each example, at least one; the first is the one that is trained on."""

UNANSWERABLE = ("CANNOTANSWER", "no answer")
"""First answers to questions that have none: only the same text is right, as a whole."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_CLASS = -1


@dataclass(frozen=True)
class Metric:
    """Judge predictions by a number.

    Args:
        name: what a task calls it, and `evaluate` its value.
        needs: what a prediction is.
        compute: (predictions, answers) -> the value.
        larger_is_better: whether the best value is the largest.
        each: what it says of single examples: "right" where the value is the share of those that
            are right, "score" where it is the mean of a score of each, None where it is neither.
    """

    name: str
    needs: Needs
    compute: Callable[[Predictions, Answers], float]
    larger_is_better: bool = True
    each: Literal["right", "score"] | None = None

    def __call__(self, predictions: Predictions, answers: Answers) -> float:
        """Return the metric's value.

        Args:
            predictions: n >= 1, one an example; None where the model's scores are NaN.
            answers: n sequences of right answers, each of at least one.

        Raises:
            UserError: no examples, an example without an answer, or unequal numbers of both.
        """
        if not predictions or len(predictions) != len(answers) or not all(map(len, answers)):
            raise UserError(
                f"expected predictions for {self.name}, each with at least one right answer, got "
                f"{len(predictions)} predictions and {sum(map(bool, map(len, answers)))} answered "
                "examples; give the answers of every example"
            )
        return float(self.compute(predictions, answers))


def normalise(text: str) -> str:
    """Return a text as SQuAD compares it: lower case, without punctuation, articles, extra space.

    Source: Rajpurkar et al. 2016, the official evaluation script.

    >>> normalise("The  Eiffel-Tower, a landmark!")
    'eiffeltower landmark'
    """
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def text_f1(text: str, answer: str) -> float:
    """Return the harmonic mean of precision and recall of the answer's words among a text's.

    Words are compared as `normalise` leaves them, each as often as it occurs; 0 where none is
    shared, so also where both are empty.

    Args:
        text: what was predicted.
        answer: what is right.

    >>> text_f1("the red old barn", "old barn") == 2 * (2 / 3) * (2 / 2) / (2 / 3 + 2 / 2)
    True
    """
    given, wanted = normalise(text).split(), normalise(answer).split()
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted)) if shared else 0.0


def _accuracy(predictions: Predictions, answers: Answers) -> float:
    return sum(p in right for p, right in zip(predictions, answers)) / len(predictions)


def _exact_match(predictions: Predictions, answers: Answers) -> float:
    return fmean(
        p is not None and normalise(str(p)) in {normalise(str(a)) for a in right}
        for p, right in zip(predictions, answers)
    )


def _token_f1(predictions: Predictions, answers: Answers) -> float:
    return fmean(_best_f1(p, right) for p, right in zip(predictions, answers))


def _best_f1(prediction: Prediction | None, right: Sequence[Prediction]) -> float:
    if prediction is None:
        return 0.0
    text, first = str(prediction), str(right[0])
    if first in UNANSWERABLE:
        return float(normalise(text) == normalise(first))
    return max(text_f1(text, str(answer)) for answer in right)


def _share(is_right: Callable[[str, str], bool]) -> Callable[[Predictions, Answers], float]:
    def compute(predictions: Predictions, answers: Answers) -> float:
        return fmean(
            p is not None and any(is_right(str(p), str(answer)) for answer in right)
            for p, right in zip(predictions, answers)
        )

    return compute


def _classes(predictions: Predictions, answers: Answers) -> tuple[list[Prediction], list[int]]:
    """Return the answer and the prediction of each example as classes.

    Of several right answers the predicted one counts as the answer. No prediction is a class of
    its own, which no example has.
    """
    chosen = [_NO_CLASS if p is None else p for p in predictions]
    truth = [p if p in right else right[0] for p, right in zip(chosen, answers)]
    return truth, chosen  # type: ignore[return-value]


def _f1(predictions: Predictions, answers: Answers) -> float:
    from sklearn.metrics import f1_score

    truth, chosen = _classes(predictions, answers)
    return f1_score(truth, chosen, labels=[1], average="macro", zero_division=0)


def _macro_f1(predictions: Predictions, answers: Answers) -> float:
    from sklearn.metrics import f1_score

    truth, chosen = _classes(predictions, answers)
    labels = sorted({*truth, *chosen} - {_NO_CLASS})  # type: ignore[type-var]
    return f1_score(truth, chosen, labels=labels, average="macro", zero_division=0)


def _matthews(predictions: Predictions, answers: Answers) -> float:
    from sklearn.metrics import matthews_corrcoef

    return matthews_corrcoef(*_classes(predictions, answers))


def _numbers(predictions: Predictions, answers: Answers) -> tuple[np.ndarray, np.ndarray] | None:
    """Return predictions and answers as numbers (n,) each, None where one is none."""
    if several := [right for right in answers if len(right) > 1]:
        raise UserError(
            f"expected one right number an example to correlate with, got {list(several[0])}; "
            "choose one"
        )
    found = np.array([math.nan if p is None else p for p in predictions], dtype=np.float64)
    if not np.isfinite(found).all():
        return None
    return found, np.array([right[0] for right in answers], dtype=np.float64)


def _correlation(kind: Literal["pearsonr", "spearmanr"]) -> Callable[..., float]:
    def compute(predictions: Predictions, answers: Answers) -> float:
        from scipy import stats

        pairs = _numbers(predictions, answers)
        if pairs is None:
            return -1.0
        if min(map(np.ptp, pairs)) == 0:
            return 0.0
        return getattr(stats, kind)(*pairs).statistic

    return compute


_pearson, _spearman = _correlation("pearsonr"), _correlation("spearmanr")


def _pearson_spearman(predictions: Predictions, answers: Answers) -> float:
    return (_pearson(predictions, answers) + _spearman(predictions, answers)) / 2


def _entity_f1(predictions: Predictions, answers: Answers) -> float:
    found: list[list[str]] = []
    wanted = [list(right[0]) for right in answers]  # type: ignore[arg-type]
    for prediction, tags in zip(predictions, wanted):
        found.append(["O"] * len(tags) if prediction is None else list(prediction))  # type: ignore[arg-type]
        if len(found[-1]) != len(tags):
            raise UserError(
                f"expected a tag for each of {len(tags)} words, got {len(found[-1])}; give one "
                "tag a word, that of its first token"
            )
    return optional("seqeval.metrics").f1_score(wanted, found, zero_division=0)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "candidate", _accuracy, each="right"),
        Metric("f1", "candidate", _f1),
        Metric("macro_f1", "candidate", _macro_f1),
        Metric("matthews", "candidate", _matthews),
        Metric("exact_match", "text", _exact_match, each="right"),
        Metric("token_f1", "text", _token_f1, each="score"),
        Metric("final_answer", "text", _share(ends_right), each="right"),
        Metric("final_answer_first_letter", "text", _share(begins_right), each="right"),
        Metric("pearson", "number", _pearson),
        Metric("spearman", "number", _spearman),
        Metric("pearson_spearman", "number", _pearson_spearman),
        Metric("entity_f1", "tags", _entity_f1),
    )
}
"""The metrics, by name; ``METRICS["mine"] = Metric("mine", "text", function)`` adds another.

- accuracy: share of examples of which a right candidate is predicted.
- f1: of candidate 1 against all others; macro_f1: its mean over the candidates that occur.
- matthews: correlation of predicted and right candidates (Matthews 1975), 0 where either is
  constant; GLUE's for CoLA.
- exact_match, token_f1: mean over examples of the best over their answers; SQuAD's and DROP's.
- final_answer: share of examples whose text ends with a right number, or names the right option
  last; of problems in mathematics. final_answer_first_letter: as the code of Hu et al. 2023 reads
  options, by the first letter from A to E (`landscape.tasks.final_answers`).
- pearson, spearman, and their mean, GLUE's for STS-B; 0 where either side is constant, and -1, the
  worst, where one prediction is NaN.
- entity_f1: of whole entities in tag sequences (IOB2), by seqeval; CoNLL's.
"""
