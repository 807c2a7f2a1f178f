"""GLUE: prompts for language models as in the papers, and raw sentences for a model with a head.

The papers have no prompt for CoLA, MRPC, STS-B, QNLI, QQP and MNLI: those are for a head alone.
RTE is in `landscape.tasks.sets.superglue`, where it has a prompt. Labels are in the hub's order.

Source: Wang et al. 2019 for the data and the metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from landscape.errors import UserError
from landscape.tasks.dataset import Dataset, Examples, Hub
from landscape.tasks.example import AnyExample, Example, TextExample
from landscape.tasks.files.row import Column, Row
from landscape.tasks.files.rows import by_format, read_rows
from landscape.tasks.files.table import read_tsv, records

HUB = "nyu-mll/glue"
TRAIN, DEV = ("train.tsv",), ("dev.tsv",)
COLA = ("source", "label", "author's label", "sentence")
"""The columns of CoLA's files, which do not name them."""
PAIR: tuple[Column, ...] = (("premise", "sentence1"), ("hypothesis", "sentence2"))
"""Two sentences, as MNLI and RTE call them on the hub and in their files."""
QUESTIONS: tuple[Column, ...] = ("question1", "question2")
ENTAILMENT = ("entailment", "not_entailment")
THREE_WAYS = ("entailment", "neutral", "contradiction")


def _sst2_prompts(row: Row) -> Iterator[Example]:
    prompt = f"{row.sentence('sentence').strip()} It was"
    yield Example(prompt, (" terrible", " great"), row.choice("label", {"0": 0, "1": 1}))


def _sst2_texts(row: Row) -> Iterator[TextExample]:
    label = row.choice("label", {"0": 0, "1": 1})
    yield TextExample((row.sentence("sentence").strip(),), label, ("negative", "positive"))


def classified(
    texts: tuple[Column, ...], classes: tuple[str, ...], label: Column = "label"
) -> Examples:
    """Return how a row becomes texts and a class, which files give by name, the hub by number."""
    labels = {name: i for i, name in enumerate(classes)}
    labels |= {str(i): i for i in range(len(classes))}

    def read(row: Row) -> Iterator[TextExample]:
        found = tuple(row.sentence(column) for column in texts)
        yield TextExample(found, row.choice(label, labels), classes)

    return read


def _stsb(row: Row) -> Iterator[TextExample]:
    score = row.number(("label", "score"), least=0, most=5)
    yield TextExample((row.sentence("sentence1"), row.sentence("sentence2")), score)


DUPLICATE: Column = ("label", "is_duplicate")
_of_questions = classified(QUESTIONS, ("different", "duplicate"), DUPLICATE)


def _qqp(row: Row) -> Iterable[AnyExample]:
    """Leave out a row that lacks a question or the label: the official files have a few."""
    values = [row.get(column) for column in (*QUESTIONS, DUPLICATE)]
    whole = all(value is not None and str(value).strip() for value in values)
    return _of_questions(row) if whole else ()


def _read_qqp(path: Path) -> Iterator[Row]:
    """Yield the rows of QQP, with empty texts for what a row is too short to have."""
    rows = list(read_tsv(path))
    width = len(rows[0][1]) if rows else 0
    filled = ((line, row + [""] * (width - len(row))) for line, row in rows)
    return records(filled, path)


def _read_cola(path: Path) -> Iterator[Row]:
    for line, row in read_tsv(path):
        if len(row) != len(COLA):
            raise UserError(
                f"expected {len(COLA)} values ({', '.join(COLA)}) in {path.name}, line {line}, "
                f"got {len(row)}; correct the row or remove it"
            )
        yield Row(dict(zip(COLA, row)), f"{path.name}, line {line}")


GLUE = (
    Dataset(
        "sst2", "sentiment of film review sentences (SST-2, GLUE)", _sst2_prompts, _sst2_texts,
        TRAIN, DEV, Hub(HUB, "sst2"),
    ),
    Dataset(
        "cola", "is a sentence acceptable English (CoLA, GLUE)", None,
        classified(("sentence",), ("unacceptable", "acceptable")),
        TRAIN, DEV, Hub(HUB, "cola"), read=by_format({".tsv": _read_cola}, read_rows),
        metric="matthews",
    ),
    Dataset(
        "mrpc", "do two sentences mean the same (MRPC, GLUE)", None,
        classified(
            (("sentence1", "#1 String"), ("sentence2", "#2 String")),
            ("different", "equivalent"), ("label", "Quality"),
        ),
        TRAIN, DEV, Hub(HUB, "mrpc"),
    ),
    Dataset(
        "stsb", "how alike two sentences are, from 0 to 5 (STS-B, GLUE)", None, _stsb,
        TRAIN, DEV, Hub(HUB, "stsb"), metric="pearson_spearman",
    ),
    Dataset(
        "qnli", "does a sentence answer a question (QNLI, GLUE)", None,
        classified(("question", "sentence"), ENTAILMENT), TRAIN, DEV, Hub(HUB, "qnli"),
    ),
    Dataset(
        "qqp", "do two questions ask the same (QQP, GLUE)", None, _qqp,
        TRAIN, DEV, Hub(HUB, "qqp"), read=by_format({".tsv": _read_qqp}, read_rows),
    ),
    *(
        Dataset(
            name, f"does a text entail a sentence, {of} genres (MNLI, GLUE)", None,
            classified(PAIR, THREE_WAYS, ("label", "gold_label")), TRAIN,
            (f"dev_{kind}.tsv",), Hub(HUB, "mnli", validation=f"validation_{kind}"),
        )
        for name, kind, of in (("mnli", "matched", "seen"), ("mnli_mm", "mismatched", "unseen"))
    ),
)  # fmt: skip
"""The data sets of GLUE."""
