"""CoNLL-2003: sentences of both ways to tag, and one sentence for every malformed line."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from landscape.errors import UserError
from landscape.sources.hub import HubAnswer
from landscape.tasks import TaggedExample, dataset, load_task
from landscape.tasks.sets.conll import CLASSES
from landscape.tasks.sets.conll import CONLL as SETS

#: IOB1, as the release has it: B- only where an entity follows another of its type at once
RELEASE = """-DOCSTART- -X- O O

Ann NNP I-NP I-PER
Lee NNP I-NP I-PER
Bo NNP B-NP B-PER
left VBD I-VP O
Acme NNP I-NP I-ORG
Oslo NNP I-NP I-LOC

-DOCSTART- -X- -X- O

Norse JJ I-NP I-MISC
myths NNS I-NP O
"""
SIZES = {"num_train": 1, "num_dev": 1, "num_test": 1}
FIRST = ("Ann", "Lee", "Bo", "left", "Acme", "Oslo")
FIRST_TAGS = ("B-PER", "I-PER", "B-PER", "O", "B-ORG", "B-LOC")
SECOND = TaggedExample(("Norse", "myths"), ("B-MISC", "O"), CLASSES)


def folder(path: Path, train: str = RELEASE, *, names=("train.txt", "valid.txt")) -> Path:
    for name, text in zip(names, (train, RELEASE)):
        (path / name).write_text(text, encoding="utf-8")
    return path


def sentences(path: Path, **names) -> set[TaggedExample]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both files hold the same
        task = load_task("conll2003", source=path, **SIZES)
    assert (task.metric, task.loss) == ("entity_f1", "classification")
    return {*task.train, *task.dev}


def test_entities_of_the_release_begin_with_b_and_documents_are_left_out(tmp_path: Path) -> None:
    assert sentences(folder(tmp_path)) == {TaggedExample(FIRST, FIRST_TAGS, CLASSES), SECOND}


def test_tags_that_begin_with_b_already_stay(tmp_path: Path) -> None:
    again = RELEASE
    for word, tag in zip(FIRST, FIRST_TAGS):
        line = next(line for line in again.split("\n") if line.startswith(word))
        again = again.replace(line, f"{line.rsplit(' ', 1)[0]} {tag}")
    again = again.replace("I-MISC", "B-MISC").replace("\n", "\r\n")
    names = ("eng.train", "eng.testa")
    found = sentences(folder(tmp_path, again, names=names))
    assert found == {TaggedExample(FIRST, FIRST_TAGS, CLASSES), SECOND}


def test_classes_are_in_the_order_of_the_hubs_numbers() -> None:
    assert CLASSES == (
        "O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Oslo NNP I-LOC", r"4 columns .* in train\.txt, line 8, got 3"),
        ("Oslo NNP I-NP I-LOC ?", r"4 columns .* in train\.txt, line 8, got 5"),
        ("Oslo NNP I-NP I-GPE", r"tag among O, B-PER.* in train\.txt, line 8, got 'I-GPE'"),
        ("Oslo NNP I-NP S-LOC", r"train\.txt, line 8, got 'S-LOC'"),
    ],
)
def test_a_malformed_line_is_refused_by_file_and_line(
    tmp_path: Path, line: str, message: str
) -> None:
    text = RELEASE.replace("Oslo NNP I-NP I-LOC", line)
    with pytest.raises(UserError, match=message):
        load_task("conll2003", source=folder(tmp_path, text), **SIZES)


def test_a_language_models_prompts_of_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="conll2003 with a head"):
        load_task("conll2003", source=folder(tmp_path), head=False, **SIZES)


def hub_rows(tags: list[int]) -> dict[str, list[dict[str, object]]]:
    row = {"id": "0", "tokens": ["Ann", "left"], "ner_tags": tags}
    empty = {"id": "1", "tokens": [], "ner_tags": []}
    other = {"id": "2", "tokens": ["Oslo"], "ner_tags": [5]}
    return {"train": [row, empty, other], "validation": [other]}


def from_hub(monkeypatch: pytest.MonkeyPatch, tags: list[int]):
    pytest.importorskip("datasets", reason="the optional package datasets is not installed")
    asked = {}

    def answer(*names: str, **options: object) -> HubAnswer:
        asked.update(names=names, **options)
        return HubAnswer(True, revision="abc")

    monkeypatch.setattr(dataset, "ask_hub", answer)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: hub_rows(tags))
    task = load_task("conll2003", **SIZES)
    assert asked == {"names": ("eriktks/conll2003", "dataset"), "revision": SETS[0].hub.revision}
    return task


@pytest.mark.filterwarnings("ignore:expected splits")
def test_numbers_of_the_hub_become_tags_and_rows_without_words_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = from_hub(monkeypatch, [1, 0])
    assert {e.tags for e in task.train + task.dev} == {("B-PER", "O"), ("B-LOC",)}


@pytest.mark.parametrize(
    ("tags", "message"), [([1], "a tag for each word .*row 0"), ([9, 0], "row 0, got '9'")]
)
def test_a_malformed_row_of_the_hub_is_refused_by_its_number(
    monkeypatch: pytest.MonkeyPatch, tags: list[int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        from_hub(monkeypatch, tags)


@pytest.mark.filterwarnings("ignore:expected splits")  # reports repeat headings
def test_every_sentence_of_a_real_file_is_read() -> None:
    place = os.environ.get("LANDSCAPE_TEST_DATA")
    if not place or not (Path(place) / "conll2003" / "train.txt").is_file():
        pytest.skip("LANDSCAPE_TEST_DATA names no folder with conll2003/train.txt")
    file = Path(place) / "conll2003" / "train.txt"
    lines = file.read_text(encoding="utf-8").split("\n")
    task = load_task("conll2003", source=file.parent, num_train=1000, num_dev=1000)
    found = [*task.train, *task.dev]
    assert task.source["rows"]["train"] == 2000
    assert sum(len(e.words) for e in found) == sum(bool(line.strip()) for line in lines)
    begun = sum(tag.startswith("B-") for e in found for tag in e.tags)
    assert begun == sum(
        line.split(" ")[-1].startswith("B-") for line in lines
    )  # this file is IOB2 already
