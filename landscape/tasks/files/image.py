"""An image file's bytes as an image: whole, and of a depth that a model's processor keeps."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from landscape.errors import UserError


def decoded(image: bytes) -> Any:
    """Return an image file's bytes as an image of PIL with three channels.

    Raises:
        UserError: as `check_image`.
    """
    with _opened(image, "") as opened:
        return opened.convert("RGB")


def check_image(image: bytes, where: str) -> None:
    """Look whether an image file's bytes are whole, without decoding them.

    Args:
        image: the bytes.
        where: what sentences call the file.

    Raises:
        UserError: they are no image that PIL reads, or one of more than 8 bits a channel, which
            would be cut.
    """
    with _opened(image, f" in {where}") as opened:
        opened.verify()


@contextmanager
def _opened(image: bytes, place: str) -> Iterator[Any]:
    from PIL import Image

    try:
        opened = Image.open(io.BytesIO(image))
        if not opened.mode.startswith(("I", "F")):
            yield opened
            return
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"expected an image{place}, got {len(image):,} bytes that cannot be read as one "
            f"({error}); fetch it again, or remove it"
        ) from error
    raise UserError(
        f"expected an image of 8 bits a channel{place}, got PIL's mode {opened.mode}, whose "
        "values would be cut; convert it first"
    )
