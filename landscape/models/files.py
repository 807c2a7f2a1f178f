"""The files of a model's folder, before anything of them is read."""

from __future__ import annotations

import json
from pathlib import Path

from landscape.errors import UserError

_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def refuse_files(name: str) -> None:
    """Refuse a folder whose weights are said to lie in several files and do not.

    Args:
        name: a folder; what is none passes.

    Raises:
        UserError: an index that is none, a file that is missing, or one outside of the folder.
    """
    folder = Path(name)
    for index in _INDICES:
        path = folder / index
        if not path.is_file():
            continue
        try:
            parts = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"expected a JSON object with a weight_map in {path}, got what cannot be read "
                f"({error}); fetch the file again"
            ) from error
        for part in sorted(map(str, parts)):
            if part in ("", ".", "..") or Path(part).name != part or "\\" in part:
                raise UserError(
                    f"expected {path} to name files beside it, got {part!r}, which is elsewhere; "
                    "fetch the model again from whom you trust"
                )
            if not (folder / part).is_file():
                raise UserError(
                    f"expected the file {part} beside {path}, which says that weights lie in it, "
                    "found none; fetch the file again"
                )
