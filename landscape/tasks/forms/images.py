"""Images whose class a head predicts; the model's image processor stands in for a tokenizer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from landscape import checks
from landscape.errors import UserError
from landscape.models.kinds import quiet
from landscape.tasks.example import ImageExample
from landscape.tasks.forms.form import Encoding, Form, Judged, Judging
from landscape.tasks.forms.heads import refuse_bos
from landscape.tasks.metrics import Metric, Prediction
from landscape.tasks.outputs.labelled import labelled_split
from landscape.tasks.padding import Batch
from landscape.tasks.task import Loss


@dataclass(frozen=True)
class EncodedImage:
    """Hold an image file's bytes, decoded when a batch is made, and the label."""

    image: bytes
    label: int

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


def decoded(image: bytes) -> Any:
    """Return an image file's bytes as an image of PIL with three channels.

    Raises:
        UserError: they are no image that PIL reads, or one of more than 8 bits a channel, which
            would be cut.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        opened = Image.open(io.BytesIO(image))
        deep = opened.mode.startswith(("I", "F"))
        if not deep:
            return opened.convert("RGB")
    except (
        Image.DecompressionBombError, OSError, SyntaxError, UnidentifiedImageError, ValueError
    ) as error:  # fmt: skip
        raise UserError(
            f"expected the bytes of an image, got {len(image):,} bytes that cannot be read "
            f"({error}); check the data source"
        ) from error
    raise UserError(
        f"expected an image of 8 bits a channel, got PIL's mode {opened.mode}, whose values would "
        "be cut; convert the images first"
    )


def _judge(
    model: nn.Module,
    encoded: Sequence[EncodedImage],
    examples: Sequence[ImageExample],
    judging: Judging,
) -> Judged:
    logits, loss = labelled_split(model, _collate(encoded, judging.tokenizer, judging.loss))
    terms, count = loss(logits)
    lost = logits.isnan().any(1).tolist()
    best = [None if nan else i for nan, i in zip(lost, logits.argmax(1).tolist(), strict=True)]
    return Judged(best, terms.tolist(), count, logits.log_softmax(1).tolist())


def _answers(metric: Metric, example: ImageExample) -> list[Prediction]:
    return [example.label]


IMAGES = Form(ImageExample, _encode, _collate, _judge, _answers)
