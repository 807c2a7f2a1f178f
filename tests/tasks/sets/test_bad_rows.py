"""Bad rows of GLUE's and SuperGLUE's files: one sentence each, with the file and the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from samples import jsonl_file

from landscape.errors import UserError
from landscape.tasks import load_task

ONE = {"num_train": 1, "num_dev": 1, "num_test": 1}
RTE = {"premise": "Ann sold the mill.", "hypothesis": "Ann owned it.", "label": "entailment"}

BAD_ROWS = [
    ("rte", {"premise": "a", "label": "entailment"}, "column 'hypothesis' or 'sentence2' in"),
    ("rte", {"premise": " ", "hypothesis": "b", "label": 0}, "a text that is not blank in the"),
    ("rte", {"premise": "a", "hypothesis": "b", "label": "neutral"}, "among entailment, .*'neut"),
    ("rte", {"premise": "a", "hypothesis": "b", "label": -1}, "got '-1'"),
    ("cb", {"premise": ["a"], "hypothesis": "b", "label": 0}, "a text in the column 'premise'"),
    ("cb", {"premise": "a", "hypothesis": "b", "label": True}, "got 'True'"),
    ("boolq", {"passage": "a", "question": "b"}, "column 'label' or 'answer' in"),
    ("boolq", {"passage": "a", "question": "", "label": True}, "column 'question' of"),
    ("wic", {"word": "a", "sentence1": "b", "sentence2": None, "label": 1}, "got None"),
    ("multirc", {"passage": "a"}, "an object in the column 'passage'"),
    ("multirc", {"passage": {"text": "a", "questions": ["b"]}}, "a list of objects in the column"),
    (
        "multirc",
        {"passage": {"text": "a", "questions": [{"question": "b", "answers": [{"text": "c"}]}]}},
        r"column 'label' in train.jsonl, line 2, passage, questions\[0\], answers\[0\], got",
    ),
    (
        "copa",
        {"premise": "a", "choice1": "b", "choice2": "c", "question": "why", "label": 0},
        "among effect, cause .* got 'why'",
    ),
    (
        "wsc",
        {"text": "a b", "span1_text": "c", "span1_index": 1, "span2_text": "b", "span2_index": 1,
         "label": 0},
        "expected span1_text to be in the text of .* got 'c' and 1",
    ),
    (
        "wsc",
        {"text": "a b", "span1_text": "a", "span1_index": 0, "span2_text": "B.", "span2_index": 2,
         "label": 0},
        "expected span2_text to be in the text of .* got 'B.' and 2",
    ),
    (
        "wsc",
        {"text": "a b", "target": {"span1_text": "A", "span1_index": "0"}, "label": 0},
        "a whole number of at least 0 in the column 'span1_index' of .* target, got '0'",
    ),
    (
        "wsc",
        {"text": "a b", "target": {"span1_text": "A", "span1_index": False}, "label": 0},
        "a whole number of at least 0 in the column 'span1_index' of .* target, got False",
    ),
    (
        "record",
        {"passage": "a", "query": "b @placeholder", "entities": ["c"], "answers": []},
        r"an answer among them in .* got 'b @placeholder', \['c'\] and \[\]",
    ),
    (
        "record",
        {"passage": "a", "query": "b", "entities": ["c"], "answers": ["c"]},
        "a query with @placeholder",
    ),
    (
        "record",
        {"passage": {"text": "a", "entities": [{"start": 5, "end": 6}]},
         "qas": [{"query": "@placeholder", "answers": [{"text": ""}]}]},
        "entities that are not empty",
    ),
    ("record", {"passage": "a", "query": "b", "entities": "c"}, "a list of texts in the column"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "message"), BAD_ROWS)
def test_a_bad_row_of_superglue_is_refused_by_file_and_line(
    name: str, row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = jsonl_file(tmp_path / "train.jsonl", [row])
    path.write_text(f"\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    jsonl_file(tmp_path / "val.jsonl", [row])
    with pytest.raises(UserError, match=message) as caught:
        load_task(name, source=tmp_path, **ONE)
    assert "train.jsonl, line 2" in str(caught.value)


def test_a_corrupt_line_is_refused_by_its_number(tmp_path: Path) -> None:
    for name in ("train", "val"):
        jsonl_file(tmp_path / f"{name}.jsonl", [RTE] * 3)
    with (tmp_path / "val.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"premise": "a", "hypo')
    with pytest.raises(UserError, match=r"a JSON object in val\.jsonl, line 4"):
        load_task("rte", source=tmp_path, **ONE)


HEADERS = {
    "cola": "ab12\t1\t\tThe mill stands.",
    "mrpc": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "stsb": "index\tgenre\tfilename\tyear\told\tsource1\tsource2\tsentence1\tsentence2\tscore",
    "qnli": "index\tquestion\tsentence\tlabel",
    "qqp": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
    "mnli": "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label",
    "sst2": "sentence\tlabel",
}
"""First lines; that of CoLA, which names no columns, is a row."""
BAD_LINES = [
    ("cola", "ab12\t2\t\tThe mill stands.", "among unacceptable, acceptable, 0, 1 in"),
    ("cola", "ab12\t1\tThe mill stands.", r"4 values \(source, label, .*got 3"),
    ("cola", "ab12\t1\t\t ", "a text that is not blank in the column 'sentence'"),
    ("mrpc", "1\t10\t11\tAnn left .", "5 values .* got 4"),
    ("mrpc", "1\t10\t11\t\tAnn left .", "not blank in the column 'sentence1'"),
    ("stsb", "1\tx\tx\t2012\t2\tx\tx\tA cat.\tA dog.\t5.2", "a number from 0 to 5 .* got '5.2'"),
    ("stsb", "1\tx\tx\t2012\t2\tx\tx\tA cat.\tA dog.\tnan", "a number from 0 to 5 .* got 'nan'"),
    ("stsb", "1\tx\tx\t2012\t2\tx\tx\tA cat.\tA dog.\tclose", "from 0 to 5 .* got 'close'"),
    ("qnli", "1\tWho sat?\tIt rained.\tneutral", "among entailment, not_entailment, .*'neutral'"),
    ("qqp", "8\t3\t4\tWho?\tWhy?\t0\t0", "6 values .* got 7"),
    ("qqp", "8\t3\t4\tWho?\tWhy?\tyes", "among different, duplicate, 0, 1 .* got 'yes'"),
    ("mnli", "2\t3\t3n\tx\tIt rained.\tIt was dry.\tneutral\t-", "got '-'"),
    ("sst2", " \t1", "a text that is not blank in the column 'sentence'"),
]


@pytest.mark.parametrize(("name", "line", "message"), BAD_LINES)
def test_a_bad_line_of_glue_is_refused_by_file_and_number(
    name: str, line: str, message: str, tmp_path: Path
) -> None:
    for file in ("train.tsv", "dev.tsv", "dev_matched.tsv"):
        tmp_path.joinpath(file).write_text(f"{HEADERS[name]}\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        load_task(name, source=tmp_path, **ONE)
    assert "train.tsv, line 2" in str(caught.value)


def test_a_file_without_the_columns_of_its_task_is_refused_with_both_names(tmp_path: Path) -> None:
    for file in ("train.tsv", "dev.tsv"):
        tmp_path.joinpath(file).write_text("label\ttext_a\ttext_b\n1\ta\tb\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"'sentence1' or '#1 String' in train\.tsv, line 2, got"):
        load_task("mrpc", source=tmp_path, **ONE)
