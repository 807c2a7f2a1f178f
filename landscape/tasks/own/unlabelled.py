"""Rows without labels as examples, made as those of a task were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.example import AnyExample
from landscape.tasks.own.recipe import Recipe
from landscape.tasks.own.rows import Own, read_own
from landscape.tasks.task import Task


def examples_from(data: Own, like: Task | Mapping[str, Any]) -> list[AnyExample]:
    """Make examples of rows without labels, for `landscape.predict`.

        examples = ls.examples_from("new.csv", like=task)
        for row in ls.predict(model, tokenizer, examples): print(row.answer)

    Args:
        data: as of `landscape.task_from`; the columns of the text are named as there.
        like: a task of `landscape.task_from`, or its ``task.source["recipe"]``, which a delta of
            ``landscape finetune`` holds: ``landscape.deltas.files.read_about(path)["recipe"]``.

    Returns:
        One example a row, in their order; its label, which nobody knows, is 0.

    Raises:
        UserError: a task of another kind, or rows that cannot be read; the sentence names the
            place.

    >>> from landscape import task_from
    >>> rows = [{"text": f"film {i}", "label": ("bad", "good")[i % 2]} for i in range(20)]
    >>> examples_from([{"text": "a film"}], task_from(rows, text="text", label="label"))[0].prompt
    'a film\\nlabel:'
    """
    checks.instance("like", like, (Task, Mapping), "give a task of task_from")
    told = like.source.get("recipe") if isinstance(like, Task) else like
    if told is None:
        raise UserError(
            "expected a task of task_from, which knows how a row becomes an example, got "
            f"{like!r}; make the examples of its kind yourself"
        )
    return Recipe.of(told, "like").examples(read_own(data), labelled=False)
