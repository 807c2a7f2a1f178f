"""Images whose class a head predicts; the model's image processor stands in for a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from landscape import checks
from landscape.models.kinds import quiet
from landscape.tasks.example import ImageExample
from landscape.tasks.files.image import decoded
from landscape.tasks.forms.form import Encoding, Form, Judged, Judging
from landscape.tasks.forms.heads import judged_classes, refuse_bos
from landscape.tasks.metrics import Metric, Prediction
from landscape.tasks.padding import Batch
from landscape.tasks.task import Loss


@dataclass(frozen=True)
class EncodedImage:
    """Hold an image file's bytes, decoded when a batch is made, and the label."""

    image: bytes
    label: int
    truncated: bool = False

    @property
    def length(self) -> int:
        """Return 0: a model's images are all of one size."""
        return 0

    @property
    def contents(self) -> tuple[bytes, int]:
        """Return what orders examples."""
        return self.image, self.label


def _encode(
    examples: Sequence[ImageExample], processor: Any, encoding: Encoding
) -> list[EncodedImage]:
    checks.has("tokenizer", processor, "an image processor", "preprocess", do="load an image model")
    refuse_bos(encoding)
    return [EncodedImage(example.image, example.label) for example in examples]


def _collate(encoded: Sequence[EncodedImage], processor: Any, loss: Loss) -> Batch:
    with quiet():  # of what else could decode
        read = processor(images=[decoded(e.image) for e in encoded], return_tensors="pt")
    return {
        "pixel_values": read["pixel_values"], "labels": torch.tensor([e.label for e in encoded])
    }  # fmt: skip


def _judge(
    model: nn.Module,
    encoded: Sequence[EncodedImage],
    examples: Sequence[ImageExample],
    judging: Judging,
) -> Judged:
    return judged_classes(model, _collate(encoded, judging.tokenizer, judging.loss))


def _answers(metric: Metric, example: ImageExample) -> list[Prediction]:
    return [example.label]


IMAGES = Form(ImageExample, _encode, _collate, _judge, _answers)
