"""Tasks: examples in three splits, from a data package, a local folder, the hub or your files."""

from pathlib import Path
from typing import get_args

from landscape import checks
from landscape.tasks.dataset import load
from landscape.tasks.example import (
    Completion,
    Example,
    ImageExample,
    TaggedExample,
    TextExample,
)
from landscape.tasks.own.task import task_from
from landscape.tasks.sets import DATASETS
from landscape.tasks.sets.reviews import NAME as REVIEWS
from landscape.tasks.sets.reviews import load_reviews
from landscape.tasks.splits import PAPERS, Sizes
from landscape.tasks.task import Generation, Loss, Task

__all__ = [
    "DATASETS", "REVIEWS", "TASKS", "Completion", "Example", "Generation", "ImageExample",
    "TaggedExample", "Task", "TextExample", "load_task", "task_from",
]  # fmt: skip

TASKS = (REVIEWS, *DATASETS)
"""The names that ``load_task`` knows."""


def load_task(
    name: str,
    *,
    source: str | Path | None = None,
    num_train: int | None = None,
    num_dev: int | None = None,
    num_test: int | None = None,
    seed: int = 0,
    head: bool | None = None,
    loss: Loss | None = None,
) -> Task:
    """Load a task by name, split deterministically.

    Args:
        name: of ``landscape.tasks.TASKS``: "rotten_tomatoes" (packaged reviews, no network) or a
            data set of the papers.
        source: where the rows lie if not in the default place: for "rotten_tomatoes" a CSV file,
            else a folder with the files of the official release. The default place is the hub, or
            the package that carries the data.
        num_train: number of training examples, >= 1; by default the papers' (1000 as a rule).
        num_dev: number of examples to choose a learning rate and a checkpoint with, >= 1 (500).
        num_test: number of examples to report on, >= 1 (1000); all where there are fewer.
        seed: of the split, not of the training.
        head: True for examples of a model with a head, such as an encoder: raw sentences, or a
            pair of them, and a class. False for a language model: a prompt and candidates, or a
            text to generate. None takes the language model's where the task has them.
        loss: what to train with, "classification" or "language modelling", instead of the task's
            own. COPA's own is MeZO's, language modelling; the script of Xu & Zhang 2024 trains it
            as classification.

    Returns:
        The task; ``task.source`` tells where it comes from.

    Raises:
        UserError: an unknown name, absent data, malformed rows, sizes that do not fit, examples of
            a form that the task does not have, or a loss that they do not allow.
    """
    checks.choice("name", name, TASKS)
    usual = DATASETS[name].sizes if name in DATASETS else PAPERS
    asked = {"num_train": num_train, "num_dev": num_dev, "num_test": num_test}
    sizes = Sizes(*(
        default if size is None else checks.whole(key, size, least=1)
        for (key, size), default in zip(asked.items(), usual, strict=True)
    ))  # fmt: skip
    seed = checks.seed(seed)
    if head is not None:
        head = checks.flag("head", head)
    if loss is not None:
        checks.choice("loss", loss, get_args(Loss))
    if source is not None:
        source = checks.path("source", source)
    if name == REVIEWS:
        return load_reviews(source=source, sizes=sizes, seed=seed, head=bool(head), loss=loss)
    place = None if source is None else Path(source)
    return load(DATASETS[name], source=place, sizes=sizes, seed=seed, head=head, loss=loss)
