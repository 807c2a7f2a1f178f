"""Metrics against counts made by hand, scikit-learn's and seqeval's own functions, and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from samples import tiny_task

import landscape as ls
from landscape.errors import UserError
from landscape.tasks.evaluation import evaluate
from landscape.tasks.metrics import METRICS, normalise, text_f1
from landscape.tasks.outputs.scoring import candidate_scores

#: truth and prediction of ten examples: 4 true positives, 1 false, 2 missed, 3 true negatives
TRUTH = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
FOUND = [1, 1, 1, 1, 0, 0, 1, 0, 0, 0]


def one(answers):
    """Give each example one right answer."""
    return [(answer,) for answer in answers]


def test_f1_is_twice_the_hits_over_hits_twice_false_and_missed() -> None:
    assert METRICS["f1"](FOUND, one(TRUTH)) == pytest.approx(2 * 4 / (2 * 4 + 1 + 2))


def test_macro_f1_is_the_mean_over_the_classes_that_occur() -> None:
    of_one, of_zero = 2 * 4 / (2 * 4 + 1 + 2), 2 * 3 / (2 * 3 + 2 + 1)
    assert METRICS["macro_f1"](FOUND, one(TRUTH)) == pytest.approx((of_one + of_zero) / 2)
    # a class that is predicted and never right counts as well
    assert METRICS["macro_f1"]([2, *FOUND[1:]], one(TRUTH)) == pytest.approx(
        (2 * 3 / (2 * 3 + 1 + 3) + of_zero + 0) / 3
    )
    # what is not predicted misses its class, and is none itself
    assert METRICS["macro_f1"]([None, *FOUND[1:]], one(TRUTH)) == pytest.approx(
        (2 * 3 / (2 * 3 + 1 + 3) + of_zero) / 2
    )


def test_matthews_is_the_correlation_of_the_two_by_two_table() -> None:
    tp, fp, fn, tn = 4, 1, 2, 3
    expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert METRICS["matthews"](FOUND, one(TRUTH)) == pytest.approx(expected)
    assert METRICS["matthews"]([1] * 10, one(TRUTH)) == 0


def test_pearson_and_spearman_are_the_cosine_of_centred_values_and_of_centred_ranks() -> None:
    x, y = np.array([0.1, 2.0, 3.5, 4.0, 9.0]), np.array([1.0, 0.5, 3.0, 2.5, 5.0])

    def cosine(a, b):
        a, b = a - a.mean(), b - b.mean()
        return (a @ b) / math.sqrt((a @ a) * (b @ b))

    ranks = x.argsort().argsort().astype(float), y.argsort().argsort().astype(float)
    found = {name: METRICS[name](list(x), one(y)) for name in METRICS if "earman" in name}
    assert METRICS["pearson"](list(x), one(y)) == pytest.approx(cosine(x, y))
    assert found["spearman"] == pytest.approx(cosine(*ranks))
    assert found["pearson_spearman"] == pytest.approx((cosine(x, y) + cosine(*ranks)) / 2)
    assert METRICS["pearson"]([1.0] * 5, one(y)) == 0


@pytest.mark.parametrize(
    ("text", "answers", "f1", "match"),
    [
        ("The Eiffel Tower!", ["eiffel tower"], 1.0, 1),
        ("red old barn", ["old barn"], 0.8, 0),  # precision 2/3, recall 1
        ("red old barn", ["a mill", "the old, red barn"], 1.0, 0),  # order does not count
        ("the the cat", ["cat cat"], 2 / 3, 0),  # precision 1, recall 1/2: words count as often
        ("", ["cat"], 0.0, 0),
        ("an", ["the"], 0.0, 1),  # nothing is left of either
        ("no answer", ["no answer", "answer"], 1.0, 1),
        ("answer", ["no answer", "answer"], 0.0, 1),  # the first says that there is none
    ],
)
def test_texts_are_compared_as_squad_does_and_the_best_answer_counts(
    text, answers, f1, match
) -> None:
    assert METRICS["token_f1"]([text], [answers]) == pytest.approx(f1)
    assert METRICS["exact_match"]([text], [answers]) == match


def test_normalisation_is_that_of_the_official_script() -> None:
    assert normalise("  An Apple-a-day,\tthe\nDOCTOR's ") == "appleaday doctors"
    assert normalise("theory of a another") == "theory of another"  # articles as whole words
    assert text_f1("a b", "b a") == 1.0


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("The answer is 18.", "18", True),
        ("7 - 3 = 4, so 4 mills of 7", "4", False),  # the last number counts, whatever it says
        ("It costs $1,080.50 a year", "1080.5", True),
        ("50%", "50", True),
        ("-3", "3", False),
        ("minus -3.0", "-3", True),
        ("0.3334", "0.3333333", True),  # within a thousandth
        ("0.335", "0.3333333", False),
        ("10/2", "5", False),  # a fraction counts by what is below its line
        ("10/2", "2", True),
        ("no number", "0", False),
        ("", "0", False),
        ("9" * 400, "1", False),
        ("The answer is (C).", "C", True),
        ("A train of B. The answer is C", "C", True),
        ("The answer is (C), not B", "C", False),
        ("The answer is 3C", "C", False),
        ("the answer is c", "C", False),
        ("C5", "5", True),
    ],
)
def test_the_last_number_or_option_of_a_text_is_its_answer(text, answer, right) -> None:
    assert METRICS["final_answer"]([text], [[answer]]) == right
    assert METRICS["final_answer"]([text], [["-77.7", answer]]) == right


def test_an_option_may_be_read_as_the_code_of_llm_adapters_does() -> None:
    """The first of the letters A to E anywhere: in a word's middle as well."""
    metric, read = METRICS["final_answer_first_letter"], [("C",), ("C",), ("B",), ("7",)]
    texts = ["The answer is (C), not B", "Because: (C)", "Because: (C)", "3 + 4 = 7"]
    assert metric(texts, read) == 3 / 4
    assert METRICS["final_answer"](texts, read) == 2 / 4
    assert metric(["none"], [("C",)]) == 0


@pytest.mark.parametrize("name", ["final_answer", "final_answer_first_letter"])
def test_an_answer_that_is_neither_number_nor_option_is_refused(name) -> None:
    with pytest.raises(UserError, match="a number, or are a letter from A to E, got 'four'"):
        METRICS[name](["4"], [("four",)])


def test_entity_f1_counts_whole_entities_only() -> None:
    truth = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-ORG"]]
    found = [["B-PER", "O", "O", "B-LOC"], ["O", "B-ORG"]]  # one entity is cut short
    precision, recall = 2 / 3, 2 / 3
    assert METRICS["entity_f1"](found, one(truth)) == pytest.approx(
        2 * precision * recall / (precision + recall)
    )
    seqeval = pytest.importorskip("seqeval.metrics")
    assert METRICS["entity_f1"](found, one(truth)) == seqeval.f1_score(truth, found)
    with pytest.raises(UserError, match="a tag for each of 4 words, got 1"):
        METRICS["entity_f1"]([["O"], ["O", "O"]], one(truth))


def test_several_right_answers_count_wherever_one_is_predicted() -> None:
    answers = [(0, 2), (1,), (0,)]
    assert METRICS["accuracy"]([2, 0, 0], answers) == pytest.approx(2 / 3)
    # the truth of the first is 2, as predicted: classes 0, 1, 2 have F1 of 2/3, 0 and 1
    assert METRICS["macro_f1"]([2, 0, 0], answers) == pytest.approx((2 / 3 + 0 + 1) / 3)
    with pytest.raises(UserError, match="one right number"):
        METRICS["pearson"]([1.0, 2.0], [(1.0, 2.0), (3.0,)])


@pytest.mark.parametrize("name", METRICS)
def test_what_is_not_predicted_is_never_right(name) -> None:
    """A diverged model predicts nothing: no metric may call that right, alone or beside others."""
    kinds = {"candidate": (0, 1), "text": ("", "b"), "number": (1.0, 2.0), "tags": (["O"], ["B-X"])}
    right = ("so 3", "4") if name.startswith("final_answer") else kinds[METRICS[name].needs]
    metric, answers = METRICS[name], one([*right, *right])
    assert metric([*right, *right], answers) == pytest.approx(
        0.5 if name in ("token_f1",) else 1.0  # the empty text shares no word with itself
    )
    assert metric([None] * 4, answers) <= 0
    if METRICS[name].needs == "text":
        assert metric([None], [("None",)]) == 0
    assert metric([right[0], right[1], None, None], answers) < metric([*right, *right], answers)


@pytest.mark.parametrize(("predictions", "answers"), [([], []), ([1], [(1,), (2,)]), ([1], [()])])
def test_examples_without_answers_are_refused(predictions, answers) -> None:
    with pytest.raises(UserError, match="at least one right answer"):
        METRICS["accuracy"](predictions, answers)


def judged(metric: str, number: bool = False) -> ls.Task:
    """Six examples whose candidates change their order, lest one index be always best."""
    texts = [(f" {i % 4}", f" {i % 3 + 5}") if number else (" no", " yes") for i in range(6)]
    examples = tuple(
        ls.Example(f"film {i}" + " and" * (i % 3), pair[:: 1 if i % 3 else -1], i % 2)
        for i, pair in enumerate(texts)
    )
    return ls.Task("toy", examples, examples[:1], examples[1:], metric=metric)


def predicted(model, tokenizer, task: ls.Task) -> list[int]:
    batches = ls.make_batches(task.test, tokenizer, 1)
    return [int(candidate_scores(model, batch).argmax()) for batch in batches]


@pytest.mark.filterwarnings("ignore:expected splits of toy")
@pytest.mark.parametrize("metric", ["f1", "macro_f1", "matthews", "exact_match", "token_f1"])
def test_evaluate_gives_a_tasks_metric_of_the_candidates_that_score_highest(metric) -> None:
    import sklearn.metrics

    model, tokenizer = ls.tiny_model("opt", seed=4), ls.tiny_tokenizer()
    task = judged(metric)
    result = evaluate(model, tokenizer, task, batch_size=2)
    assert list(result) == [metric, "loss", "n"]
    found, truth = predicted(model, tokenizer, task), [e.label for e in task.test]
    assert len(set(found)) == 2, "a model that always says the same tells metrics apart badly"
    expected = {
        "f1": sklearn.metrics.f1_score(truth, found),
        "macro_f1": sklearn.metrics.f1_score(truth, found, average="macro"),
        "matthews": sklearn.metrics.matthews_corrcoef(truth, found),
        "exact_match": sklearn.metrics.accuracy_score(truth, found),
        "token_f1": sklearn.metrics.accuracy_score(truth, found),
    }
    assert result[metric] == pytest.approx(expected[metric])


def test_accuracy_tasks_are_judged_as_ever() -> None:
    result = evaluate(ls.tiny_model("opt"), ls.tiny_tokenizer(), tiny_task())
    assert list(result) == ["accuracy", "loss", "n"]
    assert result["n"] == 8


@pytest.mark.filterwarnings("ignore:expected splits of toy")
def test_candidates_that_are_numbers_are_correlated_and_others_refused() -> None:
    model, tokenizer = ls.tiny_model("opt", seed=4), ls.tiny_tokenizer()
    task = judged("pearson", number=True)
    found = [float(e.candidates[i]) for e, i in zip(task.test, predicted(model, tokenizer, task))]
    truth = [float(e.candidates[e.label]) for e in task.test]
    value = evaluate(model, tokenizer, task)["pearson"]
    assert value == pytest.approx(np.corrcoef(found, truth)[0, 1])
    with pytest.raises(UserError, match="numbers for pearson, got 'yes'"):
        evaluate(model, tokenizer, judged("pearson"))
    with pytest.raises(UserError, match="for examples of the kind Example, got 'entity_f1'"):
        judged("entity_f1")


@pytest.mark.filterwarnings("ignore:expected splits of toy")
@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews", "token_f1"])
def test_a_diverged_model_has_nothing_right_by_any_metric(metric) -> None:
    model = ls.tiny_model("opt")
    with torch.no_grad():
        model.model.decoder.final_layer_norm.bias.fill_(math.nan)
    result = evaluate(model, ls.tiny_tokenizer(), judged(metric))
    assert result[metric] == 0
    assert math.isnan(result["loss"])


@pytest.mark.parametrize("name", sorted(METRICS))
def test_what_a_metric_says_of_single_examples_averages_to_its_value(name) -> None:
    metric = METRICS[name]
    predictions, answers = {
        "candidate": ([1, 0, 1, 1], [[1], [1], [1], [0]]),
        "text": (["4", "so it is 5", "2 of 3", "B"], [["4"], ["5"], ["7"], ["B", "A"]]),
        "number": ([1.0, 2.0, 4.0, 3.0], [[1.0], [2.5], [3.0], [9.0]]),
        "tags": ([], []),
    }[metric.needs]
    if metric.each is None:
        return
    each = [metric([p], [a]) for p, a in zip(predictions, answers, strict=True)]
    assert metric(predictions, answers) == pytest.approx(np.mean(each))
    assert (set(each) <= {0.0, 1.0}) == (metric.each == "right")
