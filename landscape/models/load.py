"""Pretrained models by name: packaged (no network), a local folder, or the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from landscape import checks
from landscape.errors import UserError
from landscape.models.gguf import load_gguf
from landscape.models.kinds import HEADS, Head, quiet
from landscape.models.placement import DeviceMap, Placement, placement
from landscape.models.reading import Loaded, read_from_hub, read_pretrained
from landscape.models.registry import PACKAGED, Packaged
from landscape.models.vision import converted
from landscape.models.wanted import Wanted


def load_model(
    name: str | Path,
    *,
    dtype: torch.dtype | str = torch.float32,
    device: torch.device | str | None = None,
    device_map: DeviceMap | None = None,
    revision: str | None = None,
    cache: str | Path | None = None,
    source: str | Path | None = None,
    num_labels: int | None = None,
    head: Head = "sequence",
    new_head: bool = False,
    classes: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[nn.Module, Any]:
    """Load a pretrained model and its tokenizer.

    Args:
        name: a packaged model (a name of ``landscape.models.PACKAGED``: "smollm2-135m", a causal
            language model, "minilm-l6", an encoder, and others), the path of a folder that
            ``save_pretrained`` wrote, or a model on the hub such as "facebook/opt-125m". Code
            shipped with a model is never run. Without num_labels and classes it is what its files
            hold: a classifier with its head, CLIP, an encoder-decoder such as T5, or else a causal
            language model.
        dtype: floating type of the weights, or its name, such as "bfloat16"; they are read into it
            without another copy.
        device: where the weights go, such as "cuda"; the CPU if absent.
        device_map: which module goes where, as accelerate takes it: "auto" spreads the model over
            the devices of this machine; or module -> device, "" for all.
        revision: branch, tag or commit on the hub.
        cache: folder that keeps what a packaged model is converted to; the user's cache folder
            (``landscape.sources.cache_folder()``) if absent.
        source: where the files of a packaged model lie, if not in its package or the cache folder:
            their folder, or the one file. Their hashes decide.
        num_labels: load a classifier with this many labels instead of a language model, of images
            where the model sees images; label j stands for an example's candidate j. 1 is a
            regression head. Needed to fine-tune an encoder. The classifier's padding token becomes
            the tokenizer's, or the tokenizer's end of text where it has none. Without it a packaged
            encoder comes bare.
        head: what a classifier of texts gives its labels to: "sequence", a whole text, or "tokens",
            each of its tokens.
        new_head: leave out the head that the files hold, and draw another.
        classes: load CLIP as a classifier of images into classes of these names, with a fixed head
            of their texts' embeddings; see ``landscape.zero_shot_classifier``.
        templates: texts around the classes' names, each with ``{}`` in its place; "a photo of a
            {}." if absent.
        seed: of the classifier's head, where the files hold none or are not asked for it.

    Returns:
        The model, in eval mode, and its tokenizer; of an image classifier its image processor; of
        CLIP itself the processor of both, with ``tokenizer`` and ``image_processor``.

    Raises:
        UserError: a missing package, files of another hash, an unknown name, no hub and no earlier
            download, files that ``transformers`` cannot read as such a model or that lack weights,
            an encoder without num_labels, another number of labels than the files' head has, or a
            type or device that is not here.
    """
    name = checks.path("name", name)
    place = placement(dtype, device, device_map)
    wanted = _wanted(num_labels, head, new_head, classes, templates, checks.seed(seed))
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
        return _load_packaged(name, PACKAGED[name], wanted, place, source=source, cache=cache)
    if source is not None:
        raise UserError(
            f"expected source= with a packaged model ({', '.join(PACKAGED)}), got {name}; leave "
            "it out: name is the folder"
        )
    if Path(name).is_dir():
        loaded = read_pretrained(wanted, name, place, local_files_only=True)
    elif name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise UserError(f"expected a folder at {name}, found none; check the path")
    else:
        loaded = read_from_hub(wanted, name, place, revision)
    return loaded if classes is None else _zero_shot(*loaded, classes, templates)


def _wanted(
    num_labels: object,
    head: object,
    new_head: object,
    classes: object,
    templates: object,
    seed: int,
) -> Wanted:
    """Check what says which model is meant."""
    labels = None if num_labels is None else checks.whole("num_labels", num_labels, least=1)
    checks.choice("head", head, HEADS)
    if (checks.flag("new_head", new_head) or head != "sequence") and labels is None:
        what = "new_head" if head == "sequence" else f"head={head!r}"
        raise UserError(
            f"expected num_labels= with {what}, got none; say how many labels there are"
        )
    if classes is None and templates is not None:
        checks.refuse("templates", "None without classes", templates, "name the classes")
    if classes is not None:
        from landscape.models.zero_shot import checked_classes, checked_templates

        names = checked_classes(classes)
        if templates is not None:
            checked_templates(templates)
        if labels is not None:
            checks.refuse("num_labels", "None with classes, which make a fixed head", labels,
                          f"leave it out: there are {len(names)} classes")  # fmt: skip
    return Wanted(
        labels, seed, head=cast(Head, head), new_head=bool(new_head), zero_shot=classes is not None
    )


def _zero_shot(
    model: nn.Module, processor: Any, classes: Sequence[str], templates: Sequence[str] | None
) -> Loaded:
    from landscape.models.zero_shot import TEMPLATES, zero_shot_classifier

    given = TEMPLATES if templates is None else templates
    made = zero_shot_classifier(model, processor.tokenizer, classes, given)
    return made, processor.image_processor


def _load_packaged(
    name: str,
    packaged: Packaged,
    wanted: Wanted,
    place: Placement,
    *,
    source: str | None,
    cache: str | None,
) -> Loaded:
    if wanted.zero_shot:
        checks.refuse("classes", f"None for {name}, which is no CLIP model", "some",
                      "give num_labels= for a classifier")  # fmt: skip
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
            return load_gguf(first, cache=folder, place=place)
    where = converted(first, cache=folder) if packaged.reader == "onnx" else first.parent
    model, processor = read_pretrained(
        replace(wanted, bare=True), str(where), place, local_files_only=True
    )
    if packaged.pixels is not None:
        side = packaged.pixels
        processor.size, processor.crop_size = (
            {"shortest_edge": side},
            {"height": side, "width": side},
        )
    return model, processor
