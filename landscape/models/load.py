"""Pretrained models by name: packaged (no network), a local folder, or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape import checks
from landscape.errors import UserError
from landscape.models.gguf import load_gguf
from landscape.models.kinds import quiet
from landscape.models.reading import Loaded, Wanted, read_from_hub, read_pretrained
from landscape.models.registry import PACKAGED, Packaged
from landscape.models.vision import converted


def load_model(
    name: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    cache: str | Path | None = None,
    source: str | Path | None = None,
    num_labels: int | None = None,
    seed: int = 0,
) -> tuple[nn.Module, Any]:
    """Load a pretrained model and its tokenizer.

    Args:
        name: a packaged model (a name of ``landscape.models.PACKAGED``: "smollm2-135m", a causal
            language model, "minilm-l6", an encoder, and others), the path of a folder that
            ``save_pretrained`` wrote, or a causal language model on the hub such as
            "facebook/opt-125m". Code shipped with a model is never run.
        dtype: floating type of the weights.
        revision: branch, tag or commit on the hub.
        cache: folder that keeps what a packaged model is converted to; the user's cache folder
            (``landscape.sources.cache_folder()``) if absent.
        source: where the files of a packaged model lie, if not in its package or the cache folder:
            their folder, or the one file. Their hashes decide.
        num_labels: load a classifier with this many labels, at least 2, instead of a causal
            language model; label j stands for an example's candidate j. Needed to fine-tune an
            encoder. The classifier's padding token becomes the tokenizer's, or the tokenizer's end
            of text where it has none. Without it a packaged encoder comes bare.
        seed: of the classifier's head, where the files hold none.

    Returns:
        The model, in eval mode on the CPU, and its tokenizer; of an image model its image
        processor.

    Raises:
        UserError: a missing package, files of another hash, an unknown name, no hub and no earlier
            download, files that ``transformers`` cannot read as such a model, an encoder without
            num_labels, or fewer than two.
    """
    name = checks.path("name", name)
    checks.instance("dtype", dtype, torch.dtype, "give torch.float32 or another floating type")
    if not dtype.is_floating_point:
        checks.refuse("dtype", "a floating type", str(dtype), "give torch.float32")
    seed = checks.seed(seed)
    if num_labels is not None:
        num_labels = checks.whole("num_labels", num_labels, least=2)
    if revision is not None:
        checks.text("revision", revision)
    if cache is not None:
        cache = checks.path("cache", cache)
    if source is not None:
        source = checks.path("source", source)
    if revision is not None and (name in PACKAGED or Path(name).is_dir()):
        raise UserError(
            f"expected no revision for {name}, which is not on the hub, got {revision!r}; leave "
            "it out"
        )
    if name in PACKAGED:
        wanted = Wanted(num_labels, seed, bare=True)
        return _load_packaged(name, PACKAGED[name], wanted, dtype, source=source, cache=cache)
    if source is not None:
        raise UserError(
            f"expected source= with a packaged model ({', '.join(PACKAGED)}), got {name}; leave "
            "it out: name is the folder"
        )
    wanted = Wanted(num_labels, seed)
    if Path(name).is_dir():
        return read_pretrained(wanted, name, dtype, local_files_only=True)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise UserError(f"expected a folder at {name}, found none; check the path")
    return read_from_hub(wanted, name, dtype, revision)


def _load_packaged(
    name: str,
    packaged: Packaged,
    wanted: Wanted,
    dtype: torch.dtype,
    *,
    source: str | None,
    cache: str | None,
) -> Loaded:
    if packaged.head == "language model" and wanted.num_labels is not None:
        encoders = [other for other, one in PACKAGED.items() if one.head == "classifier"]
        raise UserError(
            f"expected no num_labels for {name}, which scores candidates as a language model, "
            f"got {wanted.num_labels}; leave it out, or use an encoder ({', '.join(encoders)})"
        )
    files = packaged.pinned.locate(source)
    first, folder = next(iter(files.values())), None if cache is None else Path(cache)
    if packaged.reader == "gguf":
        with quiet():
            return load_gguf(first, cache=folder, dtype=dtype)
    place = converted(first, cache=folder) if packaged.reader == "onnx" else first.parent
    return read_pretrained(wanted, str(place), dtype, local_files_only=True)
