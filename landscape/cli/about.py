"""What a delta file says of the model and the task it was made for, and what a command makes of it.

Whoever wrote the file wrote this: every field is checked where it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from landscape.errors import UserError
from landscape.tasks.sets.reviews import NAME as REVIEWS
from landscape.tasks.sets.reviews import recipe

if TYPE_CHECKING:
    from landscape.tasks import Generation, Task
    from landscape.tasks.encoding import Bos
    from landscape.tasks.own.recipe import Recipe


@dataclass(frozen=True)
class About:
    """Hold what a delta says of itself.

    Args:
        model: name of its base, as it was given.
        head: of its classifier, as of `landscape.cli.shared.head_for`.
        dtype: of its weights, as ``--dtype``.
        asked: its task, as of `landscape.cli.task.open_task`.
        recipe: how a row of one's own becomes an example; None for a task known by name.
        metric, loss: of the task.
        sha256: of the files that it was made of; of a data set of the hub its revision.
        max_length, bos: how its rows were made.
        max_new_tokens, stop: how its answers are generated.
    """

    model: str
    head: dict[str, Any]
    dtype: str
    asked: dict[str, Any]
    recipe: dict[str, Any] | None
    metric: str
    loss: str
    sha256: dict[str, Any] | str | None = None
    max_length: int | None = None
    bos: Bos = "tokenizer"
    max_new_tokens: int = 50
    stop: list[str] = field(default_factory=lambda: ["\n"])

    @property
    def generation(self) -> Generation:
        """How its answers are generated."""
        from landscape.tasks import Generation

        return Generation(self.max_new_tokens, tuple(self.stop))

    def read_recipe(self, path: str) -> Recipe:
        """Return how a row becomes an example.

        Raises:
            UserError: the file does not say it, or says something else.
        """
        from landscape.tasks.own.recipe import Recipe

        if self.recipe is None:
            name = self.asked.get("task", "its task")
            raise UserError(
                f"expected a delta that says how a row becomes an example, got {path}, which was "
                f"made for {name}; "
                + ("train on rows of your own with --data" if self.head else
                   "say it with --prompt and --verbaliser")
            )  # fmt: skip
        return Recipe.of(self.recipe, path)


def about_run(
    model: str, dtype: str, head: Mapping[str, Any], asked: Mapping[str, Any], task: Task,
    settings: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Return what a delta shall say of the run that made it, as JSON.

    Args:
        model, dtype: the name it was loaded by, and the type of its weights.
        head: of `landscape.cli.shared.head_for`.
        asked: of `landscape.cli.task.asked_task`.
        task: what it made.
        settings: of the run.
    """
    known = task.source.get("recipe")
    if known is None and task.name == REVIEWS:
        known = recipe(head=bool(head)).as_dict()
    return {
        "model": model, "dtype": dtype, "head": dict(head), "asked": dict(asked),
        "recipe": known, "metric": task.metric, "loss": task.loss,
        "sha256": files_of(task),
        "max_length": settings["max_length"], "bos": settings["bos"],
        "max_new_tokens": task.generation.max_new_tokens, "stop": list(task.generation.stop),
    }  # fmt: skip


def files_of(task: Task) -> Any:
    """Return what tells the files of a task from others; None where nothing does."""
    revision = task.source.get("revision")
    return task.source.get("sha256", None if revision == "cached" else revision)


def about_delta(path: str) -> About | None:
    """Read what a delta file says of itself; None where no command has written it.

    Raises:
        UserError: it is no delta, or a field is of another type.
    """
    from landscape.deltas.files import read_about

    told = read_about(path)
    if "asked" not in told:  # nothing, or what a user of the library has said
        return None
    wrong = [name for name, kinds in _KINDS.items() if not isinstance(told.get(name), kinds)]
    wrong += sorted(told.keys() - _KINDS.keys())
    wrong += [] if wrong else sorted(told["head"].keys() - {"num_labels", "head", "new_head"})
    if wrong or not all(isinstance(one, str) for one in told["stop"]):
        raise UserError(
            f"expected {path} to say its model and task as landscape finetune writes them, got "
            f"another {(wrong or ['stop'])[0]!r}; train it again, or save it again"
        )
    return About(**told)


_NONE = type(None)
_KINDS: dict[str, type | tuple[type, ...]] = {
    "model": str, "dtype": str, "head": dict, "asked": dict, "recipe": (dict, _NONE),
    "metric": str, "loss": str, "sha256": (dict, str, _NONE),
    "max_length": (int, _NONE), "bos": (str, int, _NONE),
    "max_new_tokens": int, "stop": list,
}  # fmt: skip
