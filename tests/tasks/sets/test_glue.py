"""GLUE for a head: its files to the letter, and the hub's rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from samples import parquet_file, rows_on_the_hub

from landscape.errors import UserError
from landscape.tasks import DATASETS, Task, TextExample, load_task


class Case(NamedTuple):
    """A file as GLUE ships it, rows as the hub has them, and the examples of both."""

    name: str
    file: str
    hub: list[dict[str, Any]]
    examples: list[TextExample]
    metric: str = "accuracy"
    dev: str = "dev.tsv"
    validation: str = "validation"


def classified(classes: tuple[str, ...], *rows: tuple[tuple[str, ...], int]) -> list[TextExample]:
    return [TextExample(texts, label, classes) for texts, label in rows]


NLI = ("entailment", "neutral", "contradiction")
MNLI_FILE = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
    "sentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label\n"
    "0\t1\t1n\tfiction\t( a )\t( b )\t(X a)\t(X b)\tAnn ran.\tAnn moved.\tneutral\tentailment\n"
    '1\t2\t2n\tfiction\t( a )\t( b )\t(X a)\t(X b)\tBo sat.\tBo was "glad\t\tneutral\n'
    "2\t3\t3n\tfiction\t( a )\t( b )\t(X a)\t(X b)\tIt rained.\tIt was dry.\t\tcontradiction\n"
)
MNLI = (
    MNLI_FILE,
    [
        {"premise": "Ann ran.", "hypothesis": "Ann moved.", "label": 0, "idx": 0},
        {"premise": "Bo sat.", "hypothesis": 'Bo was "glad', "label": 1, "idx": 1},
        {"premise": "It rained.", "hypothesis": "It was dry.", "label": 2, "idx": 2},
    ],
    classified(
        NLI,
        (("Ann ran.", "Ann moved."), 0),
        (("Bo sat.", 'Bo was "glad'), 1),
        (("It rained.", "It was dry."), 2),
    ),
    "accuracy",
)
CASES = [
    Case(
        "sst2",
        "sentence\tlabel\na `` fine '' film \t1\nnot a \"fine one \t0\n",
        [
            {"sentence": "a `` fine '' film ", "label": 1, "idx": 0},
            {"sentence": 'not a "fine one ', "label": 0, "idx": 1},
        ],
        classified(
            ("negative", "positive"), (("a `` fine '' film",), 1), (('not a "fine one',), 0)
        ),
    ),
    Case(
        "cola",
        "ab12\t1\t\tThe mill stands.\r\nab12\t0\t*\tMill the \"stands.\r\n",
        [
            {"sentence": "The mill stands.", "label": 1, "idx": 0},
            {"sentence": 'Mill the "stands.', "label": 0, "idx": 1},
        ],
        classified(
            ("unacceptable", "acceptable"), (("The mill stands.",), 1), (('Mill the "stands.',), 0)
        ),
        metric="matthews",
    ),
    Case(
        "mrpc",
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
        '1\t10\t11\t" It is late , " he said .\tHe said it was late .\n'
        "0\t12\t13\tAnn left .\tBo ’s here .\n",
        [
            {"sentence1": '" It is late , " he said .', "sentence2": "He said it was late .",
             "label": 1},
            {"sentence1": "Ann left .", "sentence2": "Bo ’s here .", "label": 0},
        ],
        classified(
            ("different", "equivalent"),
            (('" It is late , " he said .', "He said it was late ."), 1),
            (("Ann left .", "Bo ’s here ."), 0),
        ),
    ),
    Case(
        "stsb",
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tcaptions\tx\t2012\t0001\tnone\tnone\tA man runs.\tA man is running.\t5.000\n"
        "1\tcaptions\tx\t2012\t0002\tnone\tnone\tA cat.\tA \"dog.\t0.500\n",
        [
            {"sentence1": "A man runs.", "sentence2": "A man is running.", "label": 5.0},
            {"sentence1": "A cat.", "sentence2": 'A "dog.', "label": 0.5},
        ],
        [
            TextExample(("A man runs.", "A man is running."), 5.0),
            TextExample(("A cat.", 'A "dog.'), 0.5),
        ],
        metric="pearson_spearman",
    ),
    Case(
        "qnli",
        "index\tquestion\tsentence\tlabel\n"
        "0\tWhen did Ann sell?\tAnn sold it in May.\tentailment\n"
        "1\tWho sat?\tIt rained.\tnot_entailment\n",
        [
            {"question": "When did Ann sell?", "sentence": "Ann sold it in May.", "label": 0},
            {"question": "Who sat?", "sentence": "It rained.", "label": 1},
        ],
        classified(
            ("entailment", "not_entailment"),
            (("When did Ann sell?", "Ann sold it in May."), 0),
            (("Who sat?", "It rained."), 1),
        ),
    ),
    Case(
        "qqp",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
        "7\t1\t2\tHow do I run?\tHow does one run?\t1\n"
        "8\t3\t4\tNone?\tWhy \"rain\t0\n",
        [
            {"question1": "How do I run?", "question2": "How does one run?", "label": 1},
            {"question1": "None?", "question2": 'Why "rain', "label": 0},
        ],
        classified(
            ("different", "duplicate"),
            (("How do I run?", "How does one run?"), 1),
            (("None?", 'Why "rain'), 0),
        ),
    ),
    Case("mnli", *MNLI, "dev_matched.tsv", "validation_matched"),
    Case("mnli_mm", *MNLI, "dev_mismatched.tsv", "validation_mismatched"),
    Case(
        "rte",
        "index\tsentence1\tsentence2\tlabel\n"
        "0\tAnn sold the mill.\tAnn owned a mill.\tentailment\n"
        "1\tBo \"ran.\tBo sat.\tnot_entailment\n",
        [
            {"premise": "Ann sold the mill.", "hypothesis": "Ann owned a mill.", "label": 0},
            {"premise": 'Bo "ran.', "hypothesis": "Bo sat.", "label": 1},
        ],
        classified(
            ("entailment", "not_entailment"),
            (("Ann sold the mill.", "Ann owned a mill."), 0),
            (('Bo "ran.', "Bo sat."), 1),
        ),
    ),
]  # fmt: skip
of_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def write(folder: Path, case: Case, train: str | None = None) -> Path:
    folder.joinpath("train.tsv").write_text(train or case.file, encoding="utf-8", newline="")
    folder.joinpath(case.dev).write_text(case.file, encoding="utf-8", newline="")
    return folder


def by_text(task: Task) -> list[Any]:
    found = {example for split in ("train", "dev", "test") for example in task.split(split)}
    return sorted(found, key=lambda example: example.shown)


@pytest.mark.parametrize("layout", ["official", "parquet", "hub"])
@of_case
@pytest.mark.filterwarnings("ignore:expected splits")
def test_all_layouts_load_the_same_texts_and_classes(
    case: Case, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if layout == "official":
        write(tmp_path, case)
    elif layout == "parquet":
        for name in ("train", case.validation):
            parquet_file(tmp_path / f"{name}-00000-of-00001.parquet", case.hub)
    else:
        asked = rows_on_the_hub(monkeypatch, {"train": case.hub, case.validation: case.hub})
    task = load_task(
        case.name, source=None if layout == "hub" else tmp_path, head=True,
        num_train=len(case.examples) - 1, num_dev=1,
    )  # fmt: skip
    assert by_text(task) == sorted(case.examples, key=lambda example: example.shown)
    assert task.metric == case.metric
    assert task.loss == ("regression" if case.name == "stsb" else "classification")
    if layout == "hub":
        config = case.name.removesuffix("_mm")
        wanted = "aps/super_glue" if case.name == "rte" else "nyu-mll/glue"
        assert asked == [(wanted, config)]


def test_rows_of_qqp_that_lack_a_question_or_the_label_are_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case,) = (case for case in CASES if case.name == "qqp")
    lacking = "9\t5\t6\tWhy?\n10\t7\t8\t \tWhy?\t0\n11\t7\t8\tWho?\tWhy?\n12\t7\t8\tWho?\tWhy?\t\n"
    write(tmp_path, case, case.file + lacking)
    sizes = {"num_train": 1, "num_dev": 1}
    with pytest.warns(UserWarning, match="without common examples"):
        task = load_task("qqp", source=tmp_path, **sizes)
    assert by_text(task) == sorted(case.examples, key=lambda example: example.shown)
    assert task.source["left_out"] == {"train.tsv": 4}
    hub = [*case.hub, {"question1": "Why?", "question2": None, "label": 0}]
    rows_on_the_hub(monkeypatch, {"train": case.hub, "validation": hub})
    with pytest.warns(UserWarning, match="without common examples"):
        assert load_task("qqp", **sizes).source["left_out"] == {"nyu-mll/glue qqp, validation": 1}
    write(tmp_path, case)
    with pytest.warns(UserWarning, match="without common examples"):
        assert "left_out" not in load_task("qqp", source=tmp_path, **sizes).source


def test_tasks_without_a_prompt_of_the_papers_are_for_a_head_alone(tmp_path: Path) -> None:
    heads = [case.name for case in CASES if DATASETS[case.name].prompts is None]
    assert heads == ["cola", "mrpc", "stsb", "qnli", "qqp", "mnli", "mnli_mm"]
    (case,) = (case for case in CASES if case.name == "cola")
    with pytest.raises(UserError, match="cola with a head, which is all that it has, got head=Fal"):
        load_task("cola", source=write(tmp_path, case), head=False)


def test_pairs_are_dealt_by_numpys_legacy_permutations(tmp_path: Path) -> None:
    header = "index\tquestion\tsentence\tlabel\n"
    for name, size in (("train", 12), ("dev", 5)):
        lines = [f"{i}\t{name} {i}?\tIt is {i}.\tentailment\n" for i in range(size)]
        tmp_path.joinpath(f"{name}.tsv").write_text(header + "".join(lines), encoding="utf-8")
    task = load_task("qnli", source=tmp_path, num_train=7, num_dev=3, num_test=4, seed=5)
    np.random.seed(5)
    order = np.random.permutation(12)
    np.random.seed(5)
    tested = np.random.permutation(5)
    assert [e.texts[0] for e in task.train + task.dev] == [f"train {i}?" for i in order[:10]]
    assert [e.texts[0] for e in task.test] == [f"dev {i}?" for i in tested[:4]]
