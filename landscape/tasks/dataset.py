"""A data set: where its rows lie, and how a row becomes examples; a record each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landscape.errors import UserError
from landscape.sources.carriers import Carrier, optional
from landscape.sources.hub import ask_hub
from landscape.tasks.example import AnyExample, Example, ImageExample, TextExample
from landscape.tasks.files.release import Part, digests, part_of
from landscape.tasks.files.row import Row
from landscape.tasks.files.rows import Reader, read_rows
from landscape.tasks.splits import PAPERS, Sizes, split_one_file, split_rows
from landscape.tasks.task import Generation, Loss, Task, label_shares, normal

Examples = Callable[[Row], Iterable[AnyExample]]
"""From a row to its examples: one as a rule, several where a row asks several questions, none
where the official code leaves the row out, which `Task.source` then counts."""

SHARD = "{}-00000-of-00001.parquet"
"""The name of a split's file in a folder of the hub, which a local folder may hold instead."""


@dataclass(frozen=True)
class Hub:
    """Name a data set on the hub, in parquet: repository, configuration, and its two splits.

    The revision is the branch that holds the parquet, where the default one does not.
    """

    repository: str
    config: str | None = None
    train: str = "train"
    validation: str = "validation"
    revision: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Describe a data set.

    Args:
        name: what `landscape.load_task` calls it.
        about: one line, for lists and help.
        prompts: a row's examples for a language model; None where it takes a head.
        heads: a row's examples for a model with a head; None where none can answer.
        train, validation: parts of its official release, the first that is there being read;
            where both are the same, or there is but one, it is dealt to train, dev and test.
        read: the rows of a part: of its file, or of its files in order.
        hub: where it is on the hub.
        metric: what the papers judge it by.
        loss: what language models are trained with.
        sizes: of train, dev and test in the papers' protocol.
        generation: how its completions are generated.
        micro_batch: examples a forward in the code of Xu & Zhang (2024), whose batch is mostly 8.
        package: that carries the release, and the folder in it.
    """

    name: str
    about: str
    prompts: Examples | None
    heads: Examples | None
    train: tuple[Part, ...]
    validation: tuple[Part, ...]
    hub: Hub | None = None
    read: Reader = read_rows
    metric: str = "accuracy"
    loss: Loss | None = None
    sizes: Sizes = PAPERS
    generation: Generation = field(default_factory=Generation)
    micro_batch: int = 8
    package: tuple[Carrier, str] | None = None


def load(
    dataset: Dataset,
    *,
    source: Path | None,
    sizes: Sizes,
    seed: int,
    head: bool | None,
    loss: Loss | None = None,
) -> Task:
    """Load a data set as a task, with the one split of `landscape.tasks.splits`.

    Args:
        dataset: which.
        source: folder with its official files; the package or the hub if absent.
        sizes: of the splits.
        seed: of the split.
        head: examples for a model with a head (True), or for a language model (False); None takes
            a language model's where there are any.
        loss: instead of the data set's.

    Raises:
        UserError: no hub, a missing file or column, an unknown label, sizes that do not fit, or
            no examples of the wanted form.
    """
    examples = _examples(dataset, head)
    if source is not None:
        training, validation, provenance = _from_folder(dataset, examples, source)
    elif dataset.package is not None:
        training, validation, provenance = _from_package(dataset, examples, *dataset.package)
    else:
        training, validation, provenance = _from_hub(dataset, examples)
    if training is validation:
        train, dev, test = split_one_file(dataset.name, training, sizes, seed)
    else:
        train, dev, test = split_rows(dataset.name, training, validation, sizes, seed)
    splits = {"train": train, "dev": dev, "test": test}
    told = {
        "name": dataset.name,
        **provenance,
        "seed": seed,
        "rows": {"train": len(training), "validation": len(validation)},
        "sizes": {split: len(found) for split, found in splits.items()},
    }
    if _share_choices(train):
        told["label_shares"] = {split: label_shares(found) for split, found in splits.items()}
    usual = dataset.loss if examples is dataset.prompts else None
    return Task(
        name=dataset.name, train=tuple(train), dev=tuple(dev), test=tuple(test),
        metric=dataset.metric, loss=loss or usual,  # type: ignore[arg-type]
        source=told, generation=dataset.generation,
    )  # fmt: skip


def _share_choices(examples: Iterable[AnyExample]) -> bool:
    """Return whether all examples have the same few answers to choose one from."""
    found: set[tuple[str, ...]] = set()
    for example in examples:
        if isinstance(example, Example):
            found.add(example.candidates)
        else:
            found.add(example.classes if isinstance(example, TextExample | ImageExample) else ())
    return len(found) == 1 and 1 < len(*found) < 100


def _examples(dataset: Dataset, head: bool | None) -> Examples:
    wanted = dataset.heads if head or dataset.prompts is None else dataset.prompts
    if wanted is None or (head is False and dataset.prompts is None):
        kinds = "a language model's prompts" if dataset.prompts else "a head"
        raise UserError(
            f"expected {dataset.name} with {kinds}, which is all that it has, got head={head}; "
            "leave head out"
        )
    return wanted


Loaded = tuple[list[AnyExample], list[AnyExample], dict[str, Any]]


def _from_folder(dataset: Dataset, examples: Examples, folder: Path) -> Loaded:
    hub = dataset.hub or Hub("")
    named = ((dataset.train, hub.train), (dataset.validation or dataset.train, hub.validation))
    parts = [part_of(folder, (*names, SHARD.format(split))) for names, split in named]
    told: dict[str, Any] = {"kind": "folder", "folder": folder.name}
    told["sha256"] = digests(folder, [path for paths in parts for path in paths])
    files = [(dataset.read(*paths), paths[0].name) for paths in dict.fromkeys(parts)]
    (train, *validation), left_out = _both(examples, files)
    if validation:
        return train, validation[0], told | left_out
    unique = list({normal(example.shown): example for example in reversed(train)}.values())[::-1]
    told["split"] = "train, dev and test are parts of the one file, each text once"
    return unique, unique, told | left_out


def _from_package(dataset: Dataset, examples: Examples, carrier: Carrier, inside: str) -> Loaded:
    train, validation, told = _from_folder(dataset, examples, carrier.file(inside))
    return train, validation, told | carrier.told()


def _both(
    examples: Examples, files: Iterable[tuple[Iterable[Row], str]]
) -> tuple[list[list[AnyExample]], dict[str, Any]]:
    """Return the examples of each file's rows, and how many rows gave none, if any."""
    found: list[list[AnyExample]] = []
    left_out: dict[str, int] = {}
    for rows, name in files:
        of_rows = [list(examples(row)) for row in rows]
        found.append([example for of_row in of_rows for example in of_row])
        if not found[-1]:
            raise UserError(f"expected rows in {name}, got none; check the file")
        if empty := sum(not of_row for of_row in of_rows):
            left_out[name] = empty
    return found, {"left_out": left_out} if left_out else {}


def _from_hub(dataset: Dataset, examples: Examples) -> Loaded:
    hub, offline = dataset.hub, _offline(dataset)
    if hub is None:
        raise UserError(
            f"expected source=, the folder of {dataset.name}, which is not on the hub in a form "
            f"that loads without code, got none; {offline}"
        )
    datasets: Any = optional("datasets")
    answer = ask_hub(hub.repository, "dataset", revision=hub.revision)
    cache = Path(datasets.config.HF_DATASETS_CACHE) / hub.repository.replace("/", "___")
    cache = cache / (hub.config or "default")
    if not answer.reachable and not cache.exists():
        raise UserError(
            f"expected {dataset.name} from the hub, but {answer.reason} and there is no earlier "
            f"download of it; {offline}"
        )
    try:
        data: Mapping[str, Any] = datasets.load_dataset(
            hub.repository, hub.config, revision=answer.revision or hub.revision
        )
        splits = [_encoded(data[name]) for name in (hub.train, hub.validation)]
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"expected {dataset.name} from the hub, but loading it failed: {error}; try again, "
            f"or {offline}"
        ) from error
    where = f"{hub.repository} {hub.config or ''}".strip()
    names = [f"{where}, {split}" for split in (hub.train, hub.validation)]
    (train, validation), left_out = _both(
        examples,
        (
            ((Row(row, f"{name} row {i}") for i, row in enumerate(rows)), name)
            for name, rows in zip(names, splits, strict=True)
        ),
    )
    told = {"kind": "hub", "hub": where.replace(" ", "/"), "revision": answer.revision or "cached"}
    return train, validation, told | left_out


def _encoded(split: Any) -> Any:
    """Return a split of the hub with its images as the bytes that they are stored in."""
    for name, feature in (getattr(split, "features", None) or {}).items():
        if type(feature).__name__ == "Image":
            split = split.cast_column(name, type(feature)(decode=False))
    return split


def _offline(dataset: Dataset) -> str:
    one_file = set(dataset.train) & set(dataset.validation)
    named = (dataset.validation,) if one_file else (dataset.train, dataset.validation)
    firsts = [names[0] for names in named if names]
    files = " and ".join(name if isinstance(name, str) else name[0] for name in firsts)
    return (
        'use the packaged reviews (task "rotten_tomatoes"), or give source= (--source) a folder '
        f"with {files} of the official release"
    )
