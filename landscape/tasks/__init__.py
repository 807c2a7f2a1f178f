"""Tasks: real text with scored candidates, from a data package, a local folder or the hub."""

from pathlib import Path

from landscape import checks
from landscape.tasks.glue import TEMPLATES, load_glue
from landscape.tasks.reviews import NAME, load_reviews
from landscape.tasks.task import Example, Task

__all__ = ["TASKS", "Example", "Task", "load_task"]

TASKS = (NAME, *TEMPLATES)
"""The names that ``load_task`` knows."""


def load_task(
    name: str,
    *,
    source: str | Path | None = None,
    num_train: int = 1000,
    num_dev: int = 500,
    num_test: int = 1000,
    seed: int = 0,
) -> Task:
    """Load a task by name, split deterministically.

    Args:
        name: "rotten_tomatoes" (packaged reviews, no network) or "sst2" (hub or folder).
        source: where the text lies if not in the default place: for "rotten_tomatoes" a CSV file,
            for "sst2" a folder with train.tsv and dev.tsv as GLUE ships them.
        num_train: number of training examples, >= 1.
        num_dev: number of examples to choose hyper-parameters with, >= 1.
        num_test: number of examples to report on, >= 1.
        seed: of the split, not of the training.

    Returns:
        The task; ``task.source`` tells where it comes from.

    Raises:
        UserError: an unknown name, absent data, malformed rows, or sizes that do not fit.
    """
    checks.choice("name", name, TASKS)
    sizes = {"num_train": num_train, "num_dev": num_dev, "num_test": num_test}
    sizes = {key: checks.whole(key, size, least=1) for key, size in sizes.items()}
    sizes["seed"] = checks.seed(seed)
    if source is not None:
        source = checks.path("source", source)
    if name == NAME:
        return load_reviews(source=source, **sizes)
    return load_glue(name, source=source, **sizes)
