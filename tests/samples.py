"""Inputs of the tests: data files in their official layout, a small model folder, tiny tasks."""

from __future__ import annotations

import bz2
import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

import landscape as ls
from landscape.models import tiny_model, tiny_tokenizer
from landscape.sources.hub import HubAnswer
from landscape.tasks import dataset


def review_file(path: Path, films: int = 40, per_film: int = 6) -> Path:
    rows = [
        (
            ("fresh", "rotten")[(film + i) % 2],
            f'Snippet {i} of film {film}, "so-so"',
            f"film {film}",
        )
        for film in range(films)
        for i in range(per_film)
    ]
    rows += [("plot", "A long plot,\nin two lines", "film 0"), ("fresh", "", "film 1")]
    rows += [("fresh", rows[0][1], "film 39")]
    with bz2.open(path, "wt", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("category", "text", "movie_name"), *rows])
    return path


def glue_folder(folder: Path, train: int = 30, dev: int = 12) -> Path:
    folder.mkdir(exist_ok=True)
    for name, size in (("train", train), ("dev", dev)):
        lines = [f'{name} "{i} is fine \t{i % 2}' for i in range(size)]
        text = "\ufeffsentence\tlabel\n" + "\n".join(lines) + "\n"
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")
    return folder


def model_folder(
    folder: Path, architecture: str = "opt", head: Literal["sequence", "tokens"] | None = None
) -> Path:
    """Save a tiny random model as a user would, with its tokenizer, image processor, or both."""
    tiny_model(architecture, head=head).save_pretrained(folder)
    if architecture not in ("vit", "resnet"):
        tiny_tokenizer().save_pretrained(folder)
    if architecture in ("vit", "resnet", "clip"):
        image_processor(architecture).save_pretrained(folder)
    return folder


def image_processor(architecture: str) -> Any:
    """Make a processor of images for a tiny model, which takes 16 x 16 pixels."""
    import transformers

    size = {"height": 16, "width": 16}
    if architecture == "vit":
        return transformers.ViTImageProcessorPil(size=size)
    if architecture == "clip":
        return transformers.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size)
    return transformers.ConvNextImageProcessorPil(size={"shortest_edge": 16}, crop_pct=1.0)


def tiny_task(count: int = 24) -> ls.Task:
    """A task a tiny model can learn: the last word of the prompt decides the candidate."""
    words = ("bad", "good")
    examples = tuple(
        ls.Example(
            prompt=f"film {i % 5} is {words[i % 2]}" + " and" * (i % 3),
            candidates=(" no", " yes"),
            label=i % 2,
        )
        for i in range(count)
    )
    return ls.Task(
        name="tiny", train=examples, dev=examples[:8], test=examples[8:16],
        metric="accuracy", loss="classification", source={"kind": "made for the test"},
    )  # fmt: skip


def uneven_examples(count: int = 7) -> list[ls.Example]:
    """Examples of very different lengths, some with candidates of more tokens than others."""
    return [
        ls.Example(
            prompt="a film" + " of no great length" * (i % 4),
            candidates=(" terrible", " great", " so so")[: 2 + i % 2],
            label=i % 2,
        )
        for i in range(count)
    ]


def short_task() -> ls.Task:
    """Sixteen examples of the same kind, four of them for dev and test."""
    words = ("bad", "good")
    examples = tuple(
        ls.Example(
            prompt=f"film {i % 5} is {words[i % 2]}", candidates=(" no", " yes"), label=i % 2
        )
        for i in range(16)
    )
    return ls.Task(
        name="tiny", train=examples, dev=examples[:4], test=examples[:4],
        metric="accuracy", loss="classification", source={"kind": "made for the test"},
    )  # fmt: skip


def real_rows(*place: str) -> Path:
    """Return a folder or file of real rows, or skip the test where there are none."""
    folder = os.environ.get("LANDSCAPE_TEST_DATA")
    if not folder:
        pytest.skip("real rows are not here: LANDSCAPE_TEST_DATA names no folder of them")
    path = Path(folder, *place)
    if not path.exists():
        pytest.skip(f"LANDSCAPE_TEST_DATA has no {'/'.join(place)}")
    return path


def jsonl_file(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def parquet_file(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def rows_on_the_hub(
    monkeypatch: pytest.MonkeyPatch, splits: Mapping[str, Sequence[Mapping[str, object]]]
) -> list[tuple[str | None, ...]]:
    """Let the hub answer with these rows; the list tells what it was asked for."""
    pytest.importorskip("datasets", reason="the optional package datasets is not installed")
    asked: list[tuple[str | None, ...]] = []

    def load(*names: str | None, revision: str) -> Mapping[str, object]:
        asked.append(names)
        return splits

    monkeypatch.setattr(dataset, "ask_hub", lambda *_, **__: HubAnswer(True, revision="abc"))
    monkeypatch.setattr("datasets.load_dataset", load)
    return asked
