"""Questions about passages, answered by generated text: SQuAD and DROP, as in the papers' code.

Both are judged by SQuAD's F1 over all right answers of a question, of which training takes the
first. For DROP that is the papers' measure and not its own F1, which compares sets of spans and
bags of numbers: figures of the two are not to be set side by side.

Source: Rajpurkar et al. 2016, Dua et al. 2019 for the data; Malladi et al. 2023 (MeZO) for the
prompts, whose code Xu & Zhang 2024 take.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from landscape.errors import UserError
from landscape.tasks.dataset import Dataset, Hub
from landscape.tasks.example import Completion
from landscape.tasks.files.row import Row
from landscape.tasks.files.rows import by_format, read_object, read_rows


def _squad(row: Row) -> Iterator[Completion]:
    """Read a question; the title may be empty, and has underscores for blanks in the release."""
    prompt = (
        f"Title: {row.text('title')}\nContext: {row.sentence('context')}\n"
        f"Question: {row.sentence('question').strip()}\nAnswer:"
    )
    if isinstance(row.get("answers"), Mapping):
        answers = row.part("answers").texts("text")
    else:
        answers = [answer.text("text") for answer in row.parts("answers")]
    if not answers:
        raise UserError(
            f"expected at least one answer in {row.where}, got none; leave the question out: "
            "questions without an answer are SQuAD 2.0's"
        )
    yield Completion(prompt, tuple(answers))


def _drop(row: Row) -> Iterator[Completion]:
    answers = row.part("answers_spans").texts("spans")
    if answers:
        prompt = (
            f"Passage: {row.sentence('passage')}\n"
            f"Question: {row.sentence('question').strip()}\nAnswer:"
        )
        yield Completion(prompt, tuple(answers))


def _read_squad(path: Path) -> Iterator[Row]:
    """Yield the questions of the official file: articles with paragraphs."""
    for article in read_object(path).parts("data"):
        for paragraph in article.parts("paragraphs"):
            shared = {"title": article.text("title"), "context": paragraph.text("context")}
            for question in paragraph.parts("qas"):
                asked = {name: question.get(name) for name in ("question", "answers")}
                yield Row({**shared, **asked}, question.where)


def _read_drop(path: Path) -> Iterator[Row]:
    """Yield the questions of the official file: passages with pairs.

    The answers become the hub's: in the training file that of ``answer``, in another those of
    ``validated_answers`` and no more; that of ``answer`` where a file has no such list, as the
    contrast sets. A question with an answer that cannot be read has none.
    """
    passages = read_object(path)
    for section in passages.values:
        passage = passages.part(section)
        for question in passage.parts("qa_pairs"):
            validated = "train" not in path.name and "validated_answers" in question.values
            given = question.parts("validated_answers") if validated else [question.part("answer")]
            read = [_answer(answer) for answer in given]
            spans = [span for answer in read for span in answer] if all(read) else []
            yield Row(
                {
                    "passage": passage.text("passage"), "question": question.text("question"),
                    "answers_spans": {"spans": spans},
                },
                question.where,
            )  # fmt: skip


def _answer(answer: Row) -> list[str]:
    """Return a number, or a date "day month year", or each span; nothing if not one of them."""
    number = str(answer.get("number")).strip()
    date = answer.part("date").values
    parts = [str(date.get(name, "")) for name in ("day", "month", "year")]
    spans = answer.texts("spans")
    kinds = [[number] if number else [], [" ".join(parts).strip()] if any(parts) else [], spans]
    found = [kind for kind in kinds if kind]
    return found[0] if len(found) == 1 else []


READING = (
    Dataset(
        "squad", "questions about Wikipedia, answered by a span (SQuAD 1.1)", _squad, None,
        ("train-v1.1.json", "train.jsonl"), ("dev-v1.1.json", "validation.jsonl"),
        Hub("rajpurkar/squad", "plain_text"),
        read=by_format({".json": _read_squad}, read_rows), metric="token_f1",
    ),
    Dataset(
        "drop", "questions that need counting and sorting over passages (DROP)", _drop, None,
        ("drop_dataset_train.json", "train.jsonl"), ("drop_dataset_dev.json", "validation.jsonl"),
        Hub("ucinlp/drop"), read=by_format({".json": _read_drop}, read_rows), metric="token_f1",
        micro_batch=1,
    ),
)  # fmt: skip
"""Questions about passages."""
