"""SuperGLUE: prompts for language models as in the papers' code, to the blank.

Columns are taken as they stand: MultiRC's paragraphs, say, keep the space that ends each of them.
Only blanks before a prompt, after it, and after a candidate are left out, which the papers' code
does to every prompt and to every prompt with its candidate.

Test is the official validation split, whose labels are public. Where a row asks several questions
(MultiRC, ReCoRD), each is an example, and the split deals examples, as in the papers: a paragraph
may be in train and in dev. Test has other paragraphs.

Source: Malladi et al. 2023 (MeZO) for the prompts, whose code Xu & Zhang 2024 take; Wang et al.
2019 for the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from landscape.errors import UserError
from landscape.tasks.dataset import Dataset, Hub
from landscape.tasks.example import Example
from landscape.tasks.files.row import Row
from landscape.tasks.sets.glue import ENTAILMENT, PAIR, classified
from landscape.tasks.splits import Sizes

HUB = "aps/super_glue"
FILES = ("train.jsonl",), ("val.jsonl",)

NO_YES = {"False": 0, "True": 1, "false": 0, "true": 1, "0": 0, "1": 1}
YES_NO = {label: 1 - number for label, number in NO_YES.items()}
TWO_WAYS = {"entailment": 0, "not_entailment": 1, "0": 0, "1": 1}
THREE_WAYS = {"entailment": 0, "contradiction": 1, "neutral": 2, "0": 0, "1": 1, "2": 2}

APART = ("Kamenev and Zinoviev", "Kamenev, Zinoviev, and Stalin")
"""Spans of WSC that name what its text names in two places."""


def _example(
    prompt: str, candidates: Sequence[str], label: int, also_right: tuple[int, ...] = ()
) -> Example:
    kept = tuple(candidate.rstrip(" ") for candidate in candidates)
    return Example(prompt.strip(" "), kept, label, also_right=also_right)


def _rte(row: Row) -> Iterator[Example]:
    premise, hypothesis = (row.sentence(column) for column in PAIR)
    prompt = f'{premise}\nDoes this mean that "{hypothesis}" is true? Yes or No?\n'
    yield _example(prompt, ("Yes", "No"), row.choice("label", TWO_WAYS))


def _cb(row: Row) -> Iterator[Example]:
    premise, hypothesis = row.sentence("premise"), row.sentence("hypothesis")
    prompt = f'Suppose {premise} Can we infer that "{hypothesis}"? Yes, No, or Maybe?\n'
    yield _example(prompt, ("Yes", "No", "Maybe"), row.choice("label", THREE_WAYS))


def _boolq(row: Row) -> Iterator[Example]:
    """Read a row of SuperGLUE, whose label is ``label``, or of BoolQ itself: ``answer``.

    The passages of SuperGLUE begin with a title, "Title -- ", which the papers' do not have.
    """
    passage, question = row.sentence("passage"), row.sentence("question")
    if "label" in row.values:
        title, mark, rest = passage.partition(" -- ")
        passage = rest if mark else title
    asked = question if question.endswith("?") else f"{question}?"
    prompt = f"{passage} {asked[0].upper()}{asked[1:]}\n"
    yield _example(prompt, ("Yes", "No"), row.choice(("label", "answer"), YES_NO))


def _wsc(row: Row) -> Iterator[Example]:
    text, spans = row.sentence("text"), row.part("target") if "target" in row.values else row
    noun, pronoun = (_span(text, spans, f"span{i}") for i in (1, 2))
    prompt = (
        f'{text}\nIn the previous sentence, does the pronoun "{pronoun.lower()}" refer to {noun}? '
        "Yes or No?\n"
    )
    yield _example(prompt, ("No", "Yes"), row.choice("label", NO_YES))


def _span(text: str, spans: Row, name: str) -> str:
    """Return a span of WSC, repaired as in the hub's ``wsc.fixed`` where the text lacks it.

    The case of its first letter follows the word that it is said to start at, dots that end it are
    left out, and newlines in it become blanks.
    """
    span = spans.sentence(f"{name}_text")
    if span in text or span in APART:
        return span
    words, index = text.split(), spans.whole(f"{name}_index")
    at = words[index] if index < len(words) else ""
    first = span[0].lower() if at[:1].islower() else span[0].upper()
    repaired = f"{first}{span[1:]}".rstrip(".").replace("\n", " ")
    if not at or repaired not in text:
        raise UserError(
            f"expected {name}_text to be in the text of {spans.where}, at word {name}_index of "
            f"it, got {span!r} and {index}; correct the row or remove it"
        )
    return repaired


def _wic(row: Row) -> Iterator[Example]:
    prompt = (
        f'Does the word "{row.sentence("word")}" have the same meaning in these two sentences? '
        f"Yes, No?\n{row.sentence('sentence1')}\n{row.sentence('sentence2')}\n"
    )
    yield _example(prompt, ("No", "Yes"), row.choice("label", NO_YES))


def _multirc(row: Row) -> Iterator[Example]:
    """Read a passage of the official release, with all its answers, or an answer of the hub."""
    if "passage" not in row.values:
        yield _answer(row.sentence("paragraph"), row.sentence("question"), row, "answer")
        return
    passage = row.part("passage")
    paragraph = passage.sentence("text")
    for question in passage.parts("questions"):
        for answer in question.parts("answers"):
            yield _answer(paragraph, question.sentence("question"), answer, "text")


def _answer(paragraph: str, question: str, answer: Row, column: str) -> Example:
    prompt = (
        f"{paragraph}\nQuestion: {question}\nI found this answer "
        f'"{answer.sentence(column)}". Is that correct? Yes or No?\n'
    )
    return _example(prompt, ("No", "Yes"), answer.choice("label", NO_YES))


def _copa(row: Row) -> Iterator[Example]:
    premise = row.sentence("premise").rstrip().removesuffix(".")
    word = ("so", "because")[row.choice("question", {"effect": 0, "cause": 1})]
    candidates = [f" {_continued(row.sentence(name))}" for name in ("choice1", "choice2")]
    label = row.choice("label", {"0": 0, "1": 1, "choice1": 0, "choice2": 1})
    yield _example(f"{premise} {word}", candidates, label)


def _continued(choice: str) -> str:
    first, *rest = choice.split(" ")
    return " ".join([first if first == "I" else first.lower(), *rest])


def _record(row: Row) -> Iterator[Example]:
    """Read a passage of the official release, with all its queries, or a query of the hub."""
    if isinstance(row.get("passage"), str):
        prompt, entities = _passage(row.sentence("passage")), row.texts("entities")
        yield _query(prompt, entities, row.texts("answers"), row)
        return
    passage = row.part("passage")
    text = passage.sentence("text")
    prompt = _passage(text)
    places = [(e.whole("start"), e.whole("end")) for e in passage.parts("entities")]
    entities = [text[start : end + 1] for start, end in places]
    for query in row.parts("qas"):
        answers = [answer.text("text") for answer in query.parts("answers")]
        yield _query(prompt, entities, answers, query)


def _passage(text: str) -> str:
    return text.replace("@highlight\n", "- ") + "\n-"


def _query(prompt: str, entities: Sequence[str], answers: Sequence[str], row: Row) -> Example:
    """Return a query with each entity in its gap; the right one that sorts first is trained on."""
    names, query = sorted(set(entities)), row.sentence("query")
    right = [i for i, name in enumerate(names) if name in answers]
    if not right or "" in names or "@placeholder" not in query:
        raise UserError(
            "expected a query with @placeholder, entities that are not empty, and an answer among "
            f"them in {row.where}, got {query!r:.60}, {names!r:.60} and {list(answers)!r:.60}; "
            "correct the row or remove it"
        )
    candidates = [f" {query.replace('@placeholder', name)}" for name in names]
    return _example(prompt, candidates, right[0], tuple(right[1:]))


SUPERGLUE = (
    Dataset(
        "rte", "does a text entail a sentence (RTE, SuperGLUE and GLUE)", _rte,
        classified(PAIR, ENTAILMENT),
        ("train.jsonl", "train.tsv"), ("val.jsonl", "dev.tsv"), Hub(HUB, "rte"),
    ),
    Dataset(
        "cb", "does a text commit to a sentence (CommitmentBank, SuperGLUE)", _cb, None,
        *FILES, Hub(HUB, "cb"), sizes=Sizes(200, 50, 56), micro_batch=4,
    ),
    Dataset(
        "boolq", "yes-no questions about a passage (BoolQ)", _boolq, None,
        ("train.jsonl",), ("val.jsonl", "dev.jsonl"), Hub("google/boolq"),
    ),
    Dataset(
        "wsc", "what a pronoun refers to (Winograd schemas, SuperGLUE)", _wsc, None,
        *FILES, Hub(HUB, "wsc.fixed"), sizes=Sizes(504, 50, 104),
    ),
    Dataset(
        "wic", "does a word mean the same in two sentences (WiC, SuperGLUE)", _wic, None,
        *FILES, Hub(HUB, "wic"),
    ),
    Dataset(
        "multirc", "is an answer about a paragraph right (MultiRC, SuperGLUE)", _multirc, None,
        *FILES, Hub(HUB, "multirc"), micro_batch=2,
    ),
    Dataset(
        "copa", "which of two causes or effects is likelier (COPA, SuperGLUE)", _copa, None,
        *FILES, Hub(HUB, "copa"), loss="language modelling", sizes=Sizes(300, 100, 100),
    ),
    Dataset(
        "record", "which entity of an article fits a gap (ReCoRD, SuperGLUE)", _record, None,
        *FILES, Hub(HUB, "record"), loss="language modelling", micro_batch=1,
    ),
)  # fmt: skip
"""The data sets of SuperGLUE."""
