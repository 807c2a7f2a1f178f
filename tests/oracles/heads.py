"""Slow heads, kept simple: one example at a time, no padding, losses written out in numbers."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import torch
from PIL import Image

from landscape.tasks import ImageExample, TaggedExample, TextExample


def logits(model: Any, reader: Any, example: Any) -> list[list[float]]:
    """Return the logits of each label that an example has: one row, or one a word."""
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        if isinstance(example, ImageExample):
            bare = np.asarray(Image.open(io.BytesIO(example.image)).convert("RGB"))
            scaled = torch.tensor(bare).permute(2, 0, 1)[None].to(dtype) / 255
            return model(pixel_values=(scaled - 0.5) / 0.5).logits.tolist()
        if isinstance(example, TaggedExample):
            tokens, starts = words(reader, example)
            found = model(input_ids=torch.tensor([tokens])).logits[0]
            return [found[i].tolist() for i in starts]
        return text_logits(model, reader, example).tolist()


def text_logits(model: Any, reader: Any, example: TextExample) -> torch.Tensor:
    ids = [reader(text, add_special_tokens=False)["input_ids"] for text in example.texts]
    row, segments = framed(reader, ids)
    given: dict[str, Any] = {"input_ids": torch.tensor([row])}
    if hasattr(model, "score"):  # a decoder: its head reads the last token
        return model.score(model.base_model(**given).last_hidden_state[:, -1])
    if getattr(model.config, "type_vocab_size", 0) > 1:
        given["token_type_ids"] = torch.tensor([segments])
    return model(**given).logits


def framed(reader: Any, ids: list[list[int]]) -> tuple[list[int], list[int]]:
    """Put the special tokens around one text or two, as each family does."""
    if reader.cls_token is not None:  # BERT and its kin
        first = [reader.cls_token_id, *ids[0], reader.sep_token_id]
        second = [*ids[1], reader.sep_token_id] if len(ids) == 2 else []
        segments = [0] * len(first) + [1] * len(second)
        return first + second, segments
    if len(reader("")["input_ids"]) == 2:  # RoBERTa
        start, end = reader.bos_token_id, reader.eos_token_id
        row = [start, *ids[0], end] + ([end, *ids[1], end] if len(ids) == 2 else [])
        return row, [0] * len(row)
    row = [reader.bos_token_id, *(token for text in ids for token in text)]
    return row, [0] * len(row)


def words(reader: Any, example: TaggedExample) -> tuple[list[int], list[int]]:
    """Return the tokens of a sentence, each word's on its own, and where words begin."""
    row, starts = [reader("").input_ids[0]], []
    for word in example.words:
        starts.append(len(row))
        row += reader(f" {word}", add_special_tokens=False)["input_ids"]
    return [*row, reader("").input_ids[1]], starts


def terms(example: Any, rows: list[list[float]]) -> list[float]:
    """Return the loss terms of an example from its logits."""
    if isinstance(example, TextExample) and not example.classes:
        return [(rows[0][0] - example.label) ** 2]
    if isinstance(example, TaggedExample):
        labels = [example.classes.index(tag) for tag in example.tags]
    else:
        labels = [int(example.label)]
    return [
        math.log(sum(math.exp(z) for z in row)) - row[label]
        for row, label in zip(rows, labels, strict=True)
    ]


def mean_loss(model: Any, reader: Any, examples: Any) -> float:
    """Return the mean of all terms of examples."""
    found = [t for e in examples for t in terms(e, logits(model, reader, e))]
    return sum(found) / len(found)


def predicted(example: Any, rows: list[list[float]]) -> Any:
    """Return what an example is predicted to be: a number, a class, or tags."""
    if isinstance(example, TextExample) and not example.classes:
        return rows[0][0]
    best = [row.index(max(row)) for row in rows]
    return [example.classes[i] for i in best] if isinstance(example, TaggedExample) else best[0]
