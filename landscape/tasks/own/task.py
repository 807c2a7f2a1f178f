"""A task from data of one's own, in one call."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.example import AnyExample
from landscape.tasks.own.asking import recipe_for
from landscape.tasks.own.dealing import deal
from landscape.tasks.own.recipe import Recipe
from landscape.tasks.own.rows import Own, Rows, read_own
from landscape.tasks.task import Generation, Loss, Task, label_shares, normal

_METRIC = {"candidates": "accuracy", "classes": "accuracy", "images": "accuracy",
           "number": "pearson_spearman", "answers": "exact_match"}  # fmt: skip
_SPLITS = ("train", "dev", "test")


def task_from(
    data: Own,
    *,
    text: str | Sequence[str] | None = None,
    label: str | None = None,
    answer: str | None = None,
    prompt: str | None = None,
    verbaliser: Mapping[str, str] | None = None,
    head: bool = False,
    regression: bool = False,
    separator: str = "",
    dev: Own | float = 0.1,
    test: Own | float = 0.1,
    group: str | None = None,
    seed: int = 0,
    num_train: int | None = None,
    num_dev: int | None = None,
    num_test: int | None = None,
    metric: str | None = None,
    loss: Loss | None = None,
    generation: Generation | None = None,
    name: str | None = None,
) -> Task:
    """Make a task of your own data.

        ls.task_from("reviews.csv", text="text", label="label")

    All rows are used: a tenth for dev, a tenth for test, the others for train, unless you say
    otherwise. Rows of one group, and rows whose text is the same but for case and spaces, are in
    one split. Rows are dealt at random, not stratified.

    Args:
        data: a csv, tsv, jsonl, json or parquet file (packed or not), a pandas frame, a list of
            dicts, or a folder of images with a folder for every class.
        text: the column with the text; for a model with a head, also a pair of columns.
        label: the column with the class (of texts, whole numbers, truth values), or the number of
            a regression. The classes are in sorted order, numbers by their value.
        answer: in the place of label, the column with the text to generate, or with a list of
            right ones.
        prompt: what a language model is shown, columns in braces: ``"{text}\\nIs it good?"``. By
            default the text and, in a new line, the label's column and a colon.
        verbaliser: class -> word that follows the prompt, such as ``{"good": " great"}``; the
            classes themselves by default. Words get the space before them.
        head: make examples for a model with a head, such as an encoder: the bare text and a class.
        regression: the label is a number that a head predicts; implies head.
        separator: what stands between several answers in one text.
        dev, test: a share of the rows of data, above 0 and below 1, or rows of their own.
        group: the column that says which rows belong together.
        seed: of the split.
        num_train, num_dev, num_test: take so many of a split's rows only, the first in its order.
        metric: of ``landscape.tasks.metrics.METRICS``: "accuracy" of classes, "exact_match" of
            answers and "pearson_spearman" of numbers by default; "f1" is that of the second of
            two labels, "macro_f1" the mean over all.
        loss: "language modelling" trains a language model on the right word alone; by default
            on the best of all, "classification".
        generation: how answers are generated.
        name: of the task; the file's by default.

    Returns:
        The task; ``task.source`` names files with their SHA-256, and all that was asked for.

    Raises:
        UserError: a file or row that cannot be read, a wrong column (the nearest is offered), an
            empty text or label, other than 2 to 100 classes, a class with a single row, a label
            of dev or test that data does not have, or no row for a split; the sentence names the
            file and the line.

    Cost: all rows are held in memory.

    >>> rows = [{"text": f"film {i}", "label": ("bad", "good")[i % 2]} for i in range(20)]
    >>> task_from(rows, text="text", label="label").train[0].candidates
    (' bad', ' good')
    """
    shares, others = _shares({"test": test, "dev": dev})
    seed = checks.seed(seed)
    for key, value in {"head": head, "regression": regression}.items():
        checks.flag(key, value)
    sizes = {
        split: None if size is None else checks.whole(f"num_{split}", size, least=1)
        for split, size in zip(_SPLITS, (num_train, num_dev, num_test), strict=True)
    }
    sources = {"train": read_own(data)}
    sources |= {split: read_own(rows, split) for split, rows in others.items()}
    recipe = recipe_for(
        sources["train"], text=text, label=label, answer=answer, prompt=prompt,
        verbaliser=verbaliser, head=head or regression, regression=regression,
        separator=checks.text("separator", separator),
    )  # fmt: skip
    if metric == "f1" and len(recipe.classes) > 2:
        raise UserError(
            f"expected two labels for the metric f1, which is that of the second one, got "
            f"{len(recipe.classes)} in {sources['train'].name}; take macro_f1, or accuracy"
        )
    splits = _splits(sources, recipe, group, shares, seed)
    for split, size in sizes.items():
        splits[split] = _first(splits[split], size, split, sources["train"].name)
    found = Path(sources["train"].name).stem if name is None else name
    return Task(
        name=found, train=splits["train"], dev=splits["dev"], test=splits["test"],
        metric=_METRIC[recipe.kind] if metric is None else metric,
        loss=loss,  # type: ignore[arg-type]  # None becomes a name
        generation=Generation() if generation is None else generation,
        source=_source(sources, recipe, splits, shares, group, seed),
    )  # fmt: skip


def _shares(given: Mapping[str, Own | float]) -> tuple[dict[str, float], dict[str, Own]]:
    shares: dict[str, float] = {}
    others: dict[str, Own] = {}
    for split, value in given.items():
        if isinstance(value, int | float):
            shares[split] = checks.number(split, value, above=0, below=1)
        else:
            others[split] = value
    if sum(shares.values()) >= 1:
        raise UserError(
            f"expected dev and test to leave rows for train, got shares of "
            f"{' and '.join(f'{share:g}' for share in shares.values())}; make them smaller"
        )
    return shares, others


Splits = dict[str, tuple[AnyExample, ...]]


def _splits(
    sources: Mapping[str, Rows], recipe: Recipe, group: str | None, shares: Mapping[str, float],
    seed: int,
) -> Splits:  # fmt: skip
    """Make the examples of every source, and deal those of the first."""
    read = {
        split: recipe.examples(rows, group=group, name=split) for split, rows in sources.items()
    }
    own = sources["train"]
    if shares:
        _refuse_single(own, read["train"])
    keys: list[tuple[Hashable, ...]] = [
        (("text", normal(e.shown)), *([("group", e.group)] if e.group else ()))
        for e in read["train"]
    ]
    dealt = deal(keys, shares, seed, own.name)
    found = {split: tuple(read["train"][i] for i in rows) for split, rows in dealt.items()}
    found |= {split: tuple(rows) for split, rows in read.items() if split != "train"}
    _warn_of_unseen(own, recipe, found["train"], seed)
    for split in sources.keys() - {"train"}:
        _warn_of_known(own, sources[split], read["train"], read[split])
    return found


def _refuse_single(rows: Rows, examples: Sequence[AnyExample]) -> None:
    """Refuse a class with one row, which cannot be both learned and judged."""
    if examples[0].num_labels < 2:
        return
    labels = [example.label for example in examples]  # type: ignore[union-attr]
    counts = Counter(labels)
    for label in sorted(counts):
        if counts[label] == 1:
            row = rows.rows[labels.index(label)]
            raise UserError(
                f"expected at least two rows of every label, got one of "
                f"{_class(examples[0], label)!r}, {row.where}: it cannot be both learned and "
                "judged; correct the label, remove the row, or give files for dev and test"
            )


def _class(example: AnyExample, label: float) -> str:
    names = getattr(example, "classes", ()) or getattr(example, "candidates", ())
    return str(names[int(label)]).strip()


def _warn_of_unseen(
    rows: Rows, recipe: Recipe, train: Sequence[AnyExample], seed: int
) -> None:  # fmt: skip
    if not recipe.classes:
        return
    seen = {example.label for example in train}  # type: ignore[union-attr]
    unseen = [name for label, name in enumerate(recipe.classes) if label not in seen]
    if unseen:
        warnings.warn(
            f"expected every label of {rows.name} in train, got none of {', '.join(unseen)} with "
            f"the seed {seed}: the model cannot learn it; take another seed, or smaller shares",
            stacklevel=4,
        )


def _warn_of_known(
    own: Rows, others: Rows, train: Sequence[AnyExample], held: Sequence[AnyExample]
) -> None:
    """Warn of rows of a file for dev or test that are among the first file's too."""
    known = {normal(e.shown): row.where for e, row in zip(train, own.rows, strict=True)}
    both = [
        (row.where, known[normal(e.shown)])
        for e, row in zip(held, others.rows, strict=True)
        if normal(e.shown) in known
    ]
    if both:
        warnings.warn(
            f"expected rows of {others.name} that are not in {own.name}, got {len(both):,} that "
            f"are, the first {both[0][0]}, which is {both[0][1]}: scores on them say little of "
            "new text; remove them from one of the two",
            stacklevel=4,
        )


def _first(
    examples: tuple[AnyExample, ...], size: int | None, split: str, name: str
) -> tuple[AnyExample, ...]:
    if size is not None and size > len(examples):
        raise UserError(
            f"expected at most {len(examples):,} examples for {split} of {name}, which are all "
            f"that it has, got num_{split}={size:,}; ask for fewer, or leave it out"
        )
    return examples[:size]


def _source(
    sources: Mapping[str, Rows], recipe: Recipe, splits: Splits, shares: Mapping[str, float],
    group: str | None, seed: int,
) -> dict[str, Any]:  # fmt: skip
    told: dict[str, Any] = {
        "kind": "own data",
        "files": {split: rows.name for split, rows in sources.items()},
        "sha256": {split: rows.sha256 for split, rows in sources.items()},
        "recipe": recipe.as_dict(), "shares": dict(shares), "group": group, "seed": seed,
        "sizes": {split: len(splits[split]) for split in _SPLITS},
    }  # fmt: skip
    if recipe.classes:
        told["label_shares"] = {split: label_shares(splits[split]) for split in _SPLITS}
    return told
