"""GLUE sentence tasks: from the hub, or from a folder of tab-separated files as GLUE ships them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import UserError
from landscape.sources.carriers import optional, sha256
from landscape.sources.hub import ask_hub
from landscape.tasks.table import read_tsv, records
from landscape.tasks.task import Example, Task, label_shares

HUB = "nyu-mll/glue"
OFFLINE = (
    'use the packaged reviews (task "rotten_tomatoes"), or give source= (--source) a folder with '
    "train.tsv and dev.tsv as GLUE ships them"
)


@dataclass(frozen=True)
class Template:
    """Say how the rows of one GLUE task become prompts and candidates.

    Args:
        config: name of the task within the hub's GLUE.
        prompt: format string over the row's columns.
        candidates: the verbaliser, one text a class.
        labels: what the label column holds, for each class.
        strip: columns that lose white space at both ends, as in the papers' code; the others are
            kept as they are.
    """

    config: str
    prompt: str
    candidates: tuple[str, ...]
    labels: Mapping[str, int]
    strip: tuple[str, ...] = ()

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """Return the example of one row.

        Args:
            row: column name -> value.
            where: file and line, for messages.

        Raises:
            UserError: a missing column, or a label outside the verbaliser.
        """
        try:
            label = str(row["label"])
            texts = {k: str(v).strip() if k in self.strip else str(v) for k, v in row.items()}
            prompt = self.prompt.format_map(texts).strip(" ")
        except KeyError as error:
            raise UserError(
                f"expected a column {error} in {where}, got the columns {', '.join(row)}; "
                f"check that the file is GLUE's {self.config}"
            ) from None
        if label not in self.labels:
            raise UserError(
                f"expected a label among {', '.join(self.labels)} in {where}, got {label!r}; "
                "the verbaliser has no word for it: correct the row or remove it"
            )
        return Example(prompt, self.candidates, self.labels[label])


TEMPLATES = {
    "sst2": Template(
        config="sst2",
        prompt="{sentence} It was",
        candidates=(" terrible", " great"),
        labels={"0": 0, "1": 1},
        strip=("sentence",),
    ),
}


def load_glue(
    name: str,
    *,
    source: str | Path | None,
    num_train: int,
    num_dev: int,
    num_test: int,
    seed: int,
) -> Task:
    """Load a GLUE task with the papers' protocol of splits.

    One permutation of the training split with ``seed`` gives train (its first ``num_train``) and
    dev (the ``num_dev`` after them); test is the first ``num_test`` of a permutation of the
    validation split with the same seed, or all of it where it is smaller. The permutation is
    numpy's legacy one, as in the papers' code; the global random state is left alone.

    Args:
        name: a key of ``TEMPLATES``.
        source: folder with train.tsv and dev.tsv; the hub if absent.
        num_train: number of training examples, >= 1.
        num_dev: number of examples to choose hyper-parameters with, >= 1.
        num_test: number of examples to report on, >= 1.
        seed: of the two permutations.

    Returns:
        The task.

    Raises:
        UserError: no hub, a missing file or column, an unknown label, an empty split, or more
            training and dev examples than there are rows.
    """
    template = TEMPLATES[name]
    if source is None:
        train_rows, test_rows, provenance = _from_hub(template)
    else:
        train_rows, test_rows, provenance = _from_folder(template, Path(source))
    if num_train + num_dev > len(train_rows):
        raise UserError(
            f"expected at most {len(train_rows)} training and dev examples together, the rows of "
            f"the training split of {name}, got {num_train} + {num_dev}: some would be in both; "
            "ask for fewer"
        )
    order = np.random.RandomState(seed).permutation(len(train_rows))
    splits = {
        "train": tuple(train_rows[i] for i in order[:num_train]),
        "dev": tuple(train_rows[i] for i in order[num_train : num_train + num_dev]),
        "test": tuple(
            test_rows[i] for i in np.random.RandomState(seed).permutation(len(test_rows))[:num_test]
        ),
    }
    return Task(
        name=name,
        train=splits["train"],
        dev=splits["dev"],
        test=splits["test"],
        source={
            "name": name,
            **provenance,
            "seed": seed,
            "rows": {"train": len(train_rows), "validation": len(test_rows)},
            "sizes": {split: len(examples) for split, examples in splits.items()},
            "label_shares": {s: label_shares(examples) for s, examples in splits.items()},
        },
    )


Loaded = tuple[list[Example], list[Example], dict[str, Any]]


def _from_folder(template: Template, folder: Path) -> Loaded:
    files = {"train": folder / "train.tsv", "validation": folder / "dev.tsv"}
    for path in files.values():
        if not path.is_file():
            raise UserError(
                f"expected train.tsv and dev.tsv in the folder {folder}, found no {path.name}; "
                "give the folder of the task as GLUE ships it"
            )
    train, test = (_read_tsv(template, path) for path in files.values())
    hashes = {path.name: sha256(path) for path in files.values()}
    return train, test, {"kind": "folder", "folder": folder.name, "sha256": hashes}


def _read_tsv(template: Template, path: Path) -> list[Example]:
    """Read tab-separated rows; GLUE's files quote nothing, and a quote is part of the sentence."""
    examples = [
        template.example(row, f"{path.name}, line {line}")
        for line, row in records(read_tsv(path), path)
    ]
    if not examples:
        raise UserError(f"expected rows in {path.name}, got none; check the file")
    return examples


def _from_hub(template: Template) -> Loaded:
    datasets: Any = optional("datasets")
    answer = ask_hub(HUB, "dataset")
    cache = Path(datasets.config.HF_DATASETS_CACHE) / HUB.replace("/", "___") / template.config
    if not answer.reachable and not cache.exists():
        raise UserError(
            f"expected GLUE's {template.config} from the hub, but {answer.reason} and there is no "
            f"earlier download of it; {OFFLINE}"
        )
    try:
        data = datasets.load_dataset(HUB, template.config, revision=answer.revision)
    except (OSError, ValueError) as error:
        raise UserError(
            f"expected GLUE's {template.config} from the hub, but loading it failed: {error}; "
            f"try again, or {OFFLINE}"
        ) from error
    train, test = (
        [
            template.example(row, f"{HUB} {template.config}, {split} row {number}")
            for number, row in enumerate(data[split])
        ]
        for split in ("train", "validation")
    )
    return (
        train,
        test,
        {"kind": "hub", "hub": f"{HUB}/{template.config}", "revision": answer.revision or "cached"},
    )
