"""GLUE: prompts for language models as in the papers, and raw sentences for a model with a head."""

from __future__ import annotations

from collections.abc import Iterator

from landscape.tasks.dataset import Dataset, Hub
from landscape.tasks.example import Example, TextExample
from landscape.tasks.rows import Row

HUB = "nyu-mll/glue"


def _sst2_prompts(row: Row) -> Iterator[Example]:
    prompt = f"{row.text('sentence').strip()} It was"
    yield Example(prompt, (" terrible", " great"), row.choice("label", {"0": 0, "1": 1}))


def _sst2_texts(row: Row) -> Iterator[TextExample]:
    label = row.choice("label", {"0": 0, "1": 1})
    yield TextExample((row.text("sentence").strip(),), label, ("negative", "positive"))


GLUE = (
    Dataset(
        "sst2", "sentiment of film review sentences (SST-2, GLUE)", _sst2_prompts, _sst2_texts,
        ("train.tsv",), ("dev.tsv",), Hub(HUB, "sst2"),
    ),
)  # fmt: skip
"""The data sets of GLUE."""
