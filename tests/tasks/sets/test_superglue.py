"""SuperGLUE: prompts typed by hand, both layouts, sizes and splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from samples import jsonl_file, parquet_file, rows_on_the_hub

from landscape.errors import UserError
from landscape.tasks import DATASETS, Example, Task, load_task
from landscape.tasks.files.row import Row

NAMES = ("rte", "cb", "boolq", "wsc", "wic", "multirc", "copa", "record")


class Case(NamedTuple):
    """Rows of one task, as its official release and as the hub have them, and their examples."""

    name: str
    official: list[dict[str, Any]]
    hub: list[dict[str, Any]]
    examples: list[Example]


def asked(*examples: tuple[str, int], candidates: tuple[str, ...]) -> list[Example]:
    return [Example(prompt, candidates, label) for prompt, label in examples]


CASES = [
    Case(
        "rte",
        [
            {"premise": "Ann sold the mill.", "hypothesis": "Ann owned a mill.",
             "label": "entailment", "idx": 0},
            {"premise": ' Bo "ran" . ', "hypothesis": "Bo walked ", "label": "not_entailment"},
        ],
        [
            {"premise": "Ann sold the mill.", "hypothesis": "Ann owned a mill.", "label": 0},
            {"premise": ' Bo "ran" . ', "hypothesis": "Bo walked ", "label": 1},
        ],
        asked(
            ('Ann sold the mill.\nDoes this mean that "Ann owned a mill." is true? Yes or No?\n',
             0),
            ('Bo "ran" . \nDoes this mean that "Bo walked " is true? Yes or No?\n', 1),
            candidates=("Yes", "No"),
        ),
    ),
    Case(
        "cb",
        [
            {"premise": "A: Is it late? B: I'd say so.", "hypothesis": "it is late",
             "label": "entailment"},
            {"premise": "``Nobody''  left.", "hypothesis": "Ann left", "label": "contradiction"},
            {"premise": "Does he know?", "hypothesis": "he knows", "label": "neutral"},
        ],
        [
            {"premise": "A: Is it late? B: I'd say so.", "hypothesis": "it is late", "label": 0},
            {"premise": "``Nobody''  left.", "hypothesis": "Ann left", "label": 1},
            {"premise": "Does he know?", "hypothesis": "he knows", "label": 2},
        ],
        asked(
            ("Suppose A: Is it late? B: I'd say so. Can we infer that \"it is late\"? "
             "Yes, No, or Maybe?\n", 0),
            ("Suppose ``Nobody''  left. Can we infer that \"Ann left\"? Yes, No, or Maybe?\n", 1),
            ('Suppose Does he know? Can we infer that "he knows"? Yes, No, or Maybe?\n', 2),
            candidates=("Yes", "No", "Maybe"),
        ),
    ),
    Case(
        "boolq",
        [
            {"passage": "Mill (film) -- The mill -- an old one -- stands.",
             "question": "is the mill old", "label": True, "idx": 0},
            {"passage": "Rye -- Rye is a grass.", "question": "ärger about rye?", "label": False},
        ],
        [
            {"passage": "The mill -- an old one -- stands.", "question": "is the mill old",
             "answer": True},
            {"passage": "Rye is a grass.", "question": "ärger about rye?", "answer": False},
        ],
        asked(
            ("The mill -- an old one -- stands. Is the mill old?\n", 0),
            ("Rye is a grass. Ärger about rye?\n", 1),
            candidates=("Yes", "No"),
        ),
    ),
    Case(
        "wsc",
        [
            {"text": "The dog bit Bo. It was mad.", "label": True, "target": {
                "span1_text": "The dog", "span1_index": 0, "span2_text": "It", "span2_index": 4}},
            # repaired: the case of the first letter, the dot, the newline
            {"text": "My cat saw Bo 's dog. He hid.", "label": False, "target": {
                "span1_text": "my cat.", "span1_index": 0, "span2_text": "He", "span2_index": 6}},
            {"text": "Then the cat  saw Bo's dog; she hid.", "label": False, "target": {
                "span1_text": "Bo's\ndog", "span1_index": 4, "span2_text": "She",
                "span2_index": 6}},
            # what cannot be repaired is left
            {"text": "Kamenev called, then Zinoviev; they lost.", "label": True, "target": {
                "span1_text": "Kamenev and Zinoviev", "span1_index": 0, "span2_text": "they",
                "span2_index": 4}},
        ],
        [
            {"text": "The dog bit Bo. It was mad.", "label": 1, "span1_text": "The dog",
             "span1_index": 0, "span2_text": "It", "span2_index": 4},
            {"text": "My cat saw Bo 's dog. He hid.", "label": 0, "span1_text": "My cat",
             "span1_index": 0, "span2_text": "He", "span2_index": 6},
            {"text": "Then the cat  saw Bo's dog; she hid.", "label": 0,
             "span1_text": "Bo's dog", "span1_index": 4, "span2_text": "she", "span2_index": 6},
            {"text": "Kamenev called, then Zinoviev; they lost.", "label": 1,
             "span1_text": "Kamenev and Zinoviev", "span1_index": 0, "span2_text": "they",
             "span2_index": 4},
        ],
        asked(
            ("The dog bit Bo. It was mad.\nIn the previous sentence, does the pronoun \"it\" "
             "refer to The dog? Yes or No?\n", 1),
            ("My cat saw Bo 's dog. He hid.\nIn the previous sentence, does the pronoun \"he\" "
             "refer to My cat? Yes or No?\n", 0),
            ("Then the cat  saw Bo's dog; she hid.\nIn the previous sentence, does the pronoun "
             "\"she\" refer to Bo's dog? Yes or No?\n", 0),
            ("Kamenev called, then Zinoviev; they lost.\nIn the previous sentence, does the "
             "pronoun \"they\" refer to Kamenev and Zinoviev? Yes or No?\n", 1),
            candidates=("No", "Yes"),
        ),
    ),
    Case(
        "wic",
        [
            {"word": "bank", "sentence1": "He sat on the bank .", "sentence2": " A bank failed. ",
             "label": False, "start1": 14, "end1": 18, "start2": 3, "end2": 7, "version": 1.1},
            {"word": "run", "sentence1": "Run!", "sentence2": "They run.", "label": True},
        ],
        [
            {"word": "bank", "sentence1": "He sat on the bank .", "sentence2": " A bank failed. ",
             "label": 0},
            {"word": "run", "sentence1": "Run!", "sentence2": "They run.", "label": 1},
        ],
        asked(
            ('Does the word "bank" have the same meaning in these two sentences? Yes, No?\n'
             "He sat on the bank .\n A bank failed. \n", 0),
            ('Does the word "run" have the same meaning in these two sentences? Yes, No?\n'
             "Run!\nThey run.\n", 1),
            candidates=("No", "Yes"),
        ),
    ),
    Case(
        "multirc",
        [
            {"idx": 3, "version": 1.1, "passage": {"text": " Ann ran.  Bo sat. ", "questions": [
                {"question": "Who ran?", "idx": 0, "answers": [
                    {"text": "Ann", "idx": 0, "label": 1}, {"text": "Bo ", "idx": 1, "label": 0}]},
                {"question": "Who sat? ", "idx": 1, "answers": [
                    {"text": "Bo.", "idx": 2, "label": 1}]},
            ]}},
        ],
        [
            {"paragraph": " Ann ran.  Bo sat. ", "question": "Who ran?", "answer": "Ann",
             "label": 1},
            {"paragraph": " Ann ran.  Bo sat. ", "question": "Who ran?", "answer": "Bo ",
             "label": 0},
            {"paragraph": " Ann ran.  Bo sat. ", "question": "Who sat? ", "answer": "Bo.",
             "label": 1},
        ],
        asked(
            ('Ann ran.  Bo sat. \nQuestion: Who ran?\nI found this answer "Ann". '
             "Is that correct? Yes or No?\n", 1),
            ('Ann ran.  Bo sat. \nQuestion: Who ran?\nI found this answer "Bo ". '
             "Is that correct? Yes or No?\n", 0),
            ('Ann ran.  Bo sat. \nQuestion: Who sat? \nI found this answer "Bo.". '
             "Is that correct? Yes or No?\n", 1),
            candidates=("No", "Yes"),
        ),
    ),
    Case(
        "copa",
        [
            {"premise": "The vase fell. ", "choice1": "I wept.", "choice2": "I'm told It broke. ",
             "question": "effect", "label": 1, "idx": 0},
            {"premise": "Ann left..", "choice1": "SHE was Tired.", "choice2": "Bo came.",
             "question": "cause", "label": 0, "idx": 1},
            {"premise": "Why did he ask?", "choice1": "A", "choice2": "b", "question": "cause",
             "label": 0, "idx": 2},
        ],
        [
            {"premise": "The vase fell. ", "choice1": "I wept.", "choice2": "I'm told It broke. ",
             "question": "effect", "label": 1},
            {"premise": "Ann left..", "choice1": "SHE was Tired.", "choice2": "Bo came.",
             "question": "cause", "label": 0},
            {"premise": "Why did he ask?", "choice1": "A", "choice2": "b", "question": "cause",
             "label": 0},
        ],
        [
            Example("The vase fell so", (" I wept.", " i'm told It broke."), 1),
            Example("Ann left. because", (" she was Tired.", " bo came."), 0),
            Example("Why did he ask? because", (" a", " b"), 0),
        ],
    ),
    Case(
        "record",
        [
            {"idx": 0, "source": "made up", "passage": {
                "text": "Ann met Bo in Oslo.\n@highlight\nBo left",
                "entities": [{"start": 8, "end": 9}, {"start": 14, "end": 17},
                             {"start": 31, "end": 32}, {"start": 0, "end": 2}]},
             "qas": [
                {"idx": 0, "query": "@placeholder wept, and @placeholder slept. ", "answers": [
                    {"start": 8, "end": 9, "text": "Bo"}, {"start": 31, "end": 32, "text": "Bo"},
                    {"start": 0, "end": 2, "text": "Ann"}]},
                {"idx": 1, "query": "It is in @placeholder", "answers": [
                    {"start": 14, "end": 17, "text": "Oslo"}]}]},
        ],
        [
            {"passage": "Ann met Bo in Oslo.\n@highlight\nBo left",
             "query": "@placeholder wept, and @placeholder slept. ",
             "entities": ["Ann", "Bo", "Oslo"], "answers": ["Ann", "Bo"]},
            {"passage": "Ann met Bo in Oslo.\n@highlight\nBo left",
             "query": "It is in @placeholder",
             "entities": ["Ann", "Bo", "Oslo"], "answers": ["Oslo"]},
        ],
        [
            Example(
                "Ann met Bo in Oslo.\n- Bo left\n-",
                (" Ann wept, and Ann slept.", " Bo wept, and Bo slept.",
                 " Oslo wept, and Oslo slept."), 0, also_right=(1,),
            ),
            Example(
                "Ann met Bo in Oslo.\n- Bo left\n-",
                (" It is in Ann", " It is in Bo", " It is in Oslo"), 2,
            ),
        ],
    ),
]  # fmt: skip
of_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def examples_of(name: str, rows: list[dict[str, Any]]) -> list[Any]:
    read = DATASETS[name].prompts
    assert read is not None
    return [example for row in rows for example in read(Row(row, "here"))]


def by_text(task: Task) -> list[Any]:
    found = {example for split in ("train", "dev", "test") for example in task.split(split)}
    return sorted(found, key=lambda example: example.shown)


@of_case
def test_a_row_of_either_layout_becomes_the_prompt_of_the_papers(case: Case) -> None:
    assert examples_of(case.name, case.official) == case.examples
    assert examples_of(case.name, case.hub) == case.examples


def test_every_task_has_a_case() -> None:
    assert tuple(case.name for case in CASES) == NAMES


@pytest.mark.parametrize("layout", ["official", "parquet", "hub"])
@of_case
def test_all_layouts_load_the_same_examples(
    case: Case, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # rows of one passage are dealt to both splits, as in the papers
    sizes = {"num_train": len(case.examples), "num_dev": len(case.examples), "num_test": 9}
    if layout == "official":
        for name in ("train", "val"):
            jsonl_file(tmp_path / f"{name}.jsonl", case.official * 2)
    elif layout == "parquet":
        for name in ("train", "validation"):
            parquet_file(tmp_path / f"{name}-00000-of-00001.parquet", case.hub * 2)
    else:
        asked = rows_on_the_hub(monkeypatch, {"train": case.hub * 2, "validation": case.hub * 2})
    with pytest.warns(UserWarning, match="without common examples"):
        task = load_task(case.name, source=None if layout == "hub" else tmp_path, **sizes)
    assert by_text(task) == sorted(set(case.examples), key=lambda example: example.shown)
    if layout == "hub":
        config = {"wsc": "wsc.fixed"}.get(case.name, case.name)
        wanted = ("google/boolq", None) if case.name == "boolq" else ("aps/super_glue", config)
        assert asked == [wanted]


@pytest.mark.parametrize(
    ("name", "rows", "sizes", "loss", "micro_batch"),
    [
        ("rte", (1600, 277), (1000, 500, 277), "classification", 8),
        ("cb", (250, 56), (200, 50, 56), "classification", 4),
        ("boolq", (1500, 1100), (1000, 500, 1000), "classification", 8),
        ("wsc", (554, 104), (504, 50, 104), "classification", 8),
        ("wic", (1500, 638), (1000, 500, 638), "classification", 8),
        ("multirc", (1500, 1100), (1000, 500, 1000), "classification", 2),
        ("copa", (400, 100), (300, 100, 100), "language modelling", 8),
        ("record", (1500, 1100), (1000, 500, 1000), "language modelling", 1),
    ],
)
def test_the_papers_sizes_and_losses_are_the_default(
    name: str, rows: tuple[int, int], sizes: tuple[int, ...], loss: str, micro_batch: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    (row,) = [case.hub[0] for case in CASES if case.name == name]
    told = next(key for key in ("premise", "passage", "text", "paragraph", "word") if key in row)
    for split, count in zip(("train", "val"), rows):
        numbered = [{**row, told: f"{row[told]} {split}{i}"} for i in range(count)]
        jsonl_file(tmp_path / f"{split}.jsonl", numbered)
    task = load_task(name, source=tmp_path)
    assert tuple(len(task.split(split)) for split in ("train", "dev", "test")) == sizes
    assert (task.loss, task.metric, DATASETS[name].micro_batch) == (loss, "accuracy", micro_batch)
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(row)}\n" * (sizes[0] + sizes[1] - 1))
    with pytest.raises(UserError, match=rf"got {sizes[0]} \+ {sizes[1]}: some would be in both"):
        load_task(name, source=tmp_path)


def test_copa_is_trained_either_way(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "copa")
    for name in ("train", "val"):
        rows = [{**row, "premise": f"{name} {row['premise']}"} for row in case.official]
        jsonl_file(tmp_path / f"{name}.jsonl", rows)
    sizes = {"source": tmp_path, "num_train": 2, "num_dev": 1, "num_test": 3}
    usual = load_task("copa", **sizes)
    other = load_task("copa", **sizes, loss="classification")
    assert (usual.loss, other.loss) == ("language modelling", "classification")
    assert (usual.train, usual.dev, usual.test) == (other.train, other.dev, other.test)
    # whose answers are no shares of anything: they are other ones in every example
    assert "label_shares" not in usual.source
    with pytest.raises(UserError, match="classification or language modelling for examples"):
        load_task("copa", **sizes, loss="regression")
    with pytest.raises(UserError, match=r"loss to be one of .*, got the text 'mlm'"):
        load_task("copa", **sizes, loss="mlm")  # type: ignore[arg-type]


def test_a_head_for_a_task_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cb with a language model's prompts, .* got head=True"):
        load_task("cb", source=tmp_path, head=True)


def test_answers_are_dealt_one_by_one_by_numpys_legacy_permutation(tmp_path: Path) -> None:
    def passage(name: str) -> dict[str, Any]:
        answers = [{"text": f"{name}{i}", "label": i % 2} for i in range(5)]
        return {"passage": {"text": name, "questions": [{"question": "?", "answers": answers}]}}

    jsonl_file(tmp_path / "train.jsonl", [passage("a"), passage("b")])
    jsonl_file(tmp_path / "val.jsonl", [passage("c")])
    task = load_task("multirc", source=tmp_path, num_train=6, num_dev=3, num_test=4, seed=3)
    np.random.seed(3)
    order = np.random.permutation(10)
    np.random.seed(3)
    tested = np.random.permutation(5)
    answers = [example.prompt.split('"')[1] for example in task.train + task.dev]
    assert answers == [f"{'ab'[i // 5]}{i % 5}" for i in order[:9]]
    assert [e.prompt.split('"')[1] for e in task.test] == [f"c{i}" for i in tested[:4]]
    assert task == load_task("multirc", source=tmp_path, num_train=6, num_dev=3, num_test=4, seed=3)
