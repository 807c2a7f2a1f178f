"""Problems in mathematics, answered by a generated solution that ends with a number or an option.

Prompts are instructions in Alpaca's frame, as in the code of Hu et al. 2023 (LLM-Adapters), which
paper 2 takes its problems from; that code indents the frame's lines by sixteen blanks, by accident
of its source, which is left out here. A solution may take 256 tokens and several lines: it ends
with the tokenizer's end-of-text token, which training appends, and at no newline.

Rows are read in the layouts of that code (``instruction``, ``output``, ``answer``) and of the
problems' own releases. Solutions in that code were written by a language model, and a fifth of
SVAMP's end with a wrong number: such a row is trained on with its answer alone.

Only GSM8K and AQuA have training rows of their own. Paper 2 trains one model on a mixture
(``math_10k.json``), which may lie beside any ``test.json``, and tests on each set. Where a folder
has neither the mixture nor a ``train.json``, the one file is dealt to train, dev and test.

Source: Cobbe et al. 2021 (GSM8K), Patel et al. 2021 (SVAMP), Roy & Roth 2015 (MultiArith),
Hosseini et al. 2014 (AddSub), Koncel-Kedziorski et al. 2015 (SingleEq), Ling et al. 2017 (AQuA).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from landscape.errors import UserError
from landscape.tasks.dataset import Dataset, Hub
from landscape.tasks.example import Completion
from landscape.tasks.files.row import Row
from landscape.tasks.final_answers import ends_right, is_option
from landscape.tasks.splits import Sizes
from landscape.tasks.task import Generation

FRAME = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{}\n\n### Response:\n"
)
"""Alpaca's frame of an instruction without an input (Taori et al. 2023)."""

_CALCULATED = re.compile(r"<<.*?>>")
_CHOICE = re.compile(r"\(?([A-E])\)\s*(.*)", re.DOTALL)


def _problem(row: Row) -> Iterator[Completion]:
    """Read a problem in any of the layouts."""
    columns = row.values
    if "instruction" in columns:
        problem, solution = row.sentence("instruction"), row.text("output")
        answer = _answer(row, "answer")
        if str(columns.get("input") or "").strip():
            problem = f"{problem}\n{row.text('input')}"
    elif "options" in columns:
        problem, solution, answer = _with_choices(row)
    elif "sQuestion" in columns:  # MultiArith's, AddSub's and SingleEq's releases
        problem, solution, answer = row.sentence("sQuestion"), "", _answer(row, "lSolutions")
    elif "Body" in columns:  # SVAMP's release
        problem = f"{row.sentence('Body').strip()} {row.sentence('Question').strip()}"
        solution, answer = "", _answer(row, "Answer")
    else:
        problem, solution, answer = _with_marked_answer(row)
    solution = solution.strip().removeprefix("A:").strip()
    if not ends_right(solution, answer):
        solution = f"The answer is {answer}."
    yield Completion(FRAME.format(problem.strip()), (answer,), solution)


def _with_marked_answer(row: Row) -> tuple[str, str, str]:
    """Read GSM8K's release: a solution, and behind "####" its number.

    Notes to a calculator in the solution (<<48/2=24>>) are left out: none reads them here.
    """
    solution, mark, number = row.sentence("answer").rpartition("####")
    if not mark:
        raise UserError(
            f"expected a solution that ends with #### and a number in {row.where}, got none; "
            "correct the row or remove it"
        )
    answer = _plain(number, row)
    return row.sentence("question"), f"{_CALCULATED.sub('', solution)}#### {answer}", answer


def _with_choices(row: Row) -> tuple[str, str, str]:
    """Read AQuA's release: options such as "A)21", a rationale, the right letter."""
    choices = [_CHOICE.fullmatch(option.strip()) for option in row.texts("options")]
    if not choices or not all(choices):
        raise UserError(
            f'expected options such as "A)21" in {row.where}, got {row.get("options")!r:.60}; '
            "correct the row or remove it"
        )
    answer = _plain(row.text("correct"), row)
    listed = " ".join(f"({m[1]}) {m[2]}" for m in choices if m)
    problem = f"{row.sentence('question').strip()} Answer Choices: {listed}"
    return problem, f"{row.text('rationale').strip()}\nThe answer is {answer}.", answer


def _answer(row: Row, column: str) -> str:
    """Return a row's answer, the last of a list of them."""
    value: Any = row.get(column)
    return _plain(value[-1] if isinstance(value, list) and value else value, row)


def _plain(value: object, row: Row) -> str:
    """Return a number without commas and needless zeros, or the letter of an option.

    >>> _plain("1,080.0", Row({}, "")), _plain(0.5, Row({}, "")), _plain(" C ", Row({}, ""))
    ('1080', '0.5', 'C')
    """
    text = str(value).strip()
    if is_option(text):
        return text
    try:
        number = float(text.replace(",", "").removeprefix("$"))
        return f"{number:.0f}" if number.is_integer() else f"{number}"
    except ValueError:
        raise UserError(
            f"expected an answer that is a number, or a letter from A to E, in {row.where}, got "
            f"{value!r:.60}; correct the row or remove it"
        ) from None


MIXTURE = ("train.json", "math_10k.json")
"""Files of problems to train on."""

TWO_FILES = ("train.jsonl", *MIXTURE), ("test.jsonl", "test.json")


def _set(
    name: str,
    about: str,
    sizes: Sizes,
    files: tuple[tuple[str, ...], tuple[str, ...]],
    hub: Hub | None = None,
) -> Dataset:
    return Dataset(
        name, about, _problem, None, *files, hub, metric="final_answer", sizes=sizes,
        generation=Generation(256, ()),
    )  # fmt: skip


def _one_file(name: str, about: str, sizes: Sizes, *own: str) -> Dataset:
    files = ("test.json", *own)
    return _set(name, about, sizes, ((*MIXTURE, *files), files))


MATH = (
    _set(
        "gsm8k", "problems of grade school in several steps (GSM8K)", Sizes(1000, 500, 1000),
        TWO_FILES, Hub("openai/gsm8k", "main", "train", "test"),
    ),
    _set(
        "aqua", "problems in algebra with five options (AQuA-RAT)", Sizes(1000, 500, 254),
        TWO_FILES, Hub("deepmind/aqua_rat", "raw", "train", "test"),
    ),
    _one_file(
        "svamp", "problems of one step, varied in their wording (SVAMP)", Sizes(400, 100, 500),
        "SVAMP.json",
    ),
    _one_file(
        "multiarith", "problems of two steps (MultiArith)", Sizes(200, 100, 280), "MultiArith.json"
    ),
    _one_file(
        "addsub", "problems of adding and subtracting (AddSub)", Sizes(150, 50, 195), "AddSub.json"
    ),
    _one_file(
        "singleeq", "problems that are one equation (SingleEq)", Sizes(200, 100, 208),
        "SingleEq.json", "questions.json",
    ),
)  # fmt: skip
"""Problems in mathematics."""
