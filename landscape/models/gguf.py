"""A GGUF file as a plain float32 model: converted once, then reused from the user's cache folder.

Any quantisation that the gguf package can undo is read. Reading the packaged SmolLM2 takes 25 s,
nearly all of it in Python: its 49,152 vocabulary entries are parsed one by one, three times, and
the table of tensor names is rebuilt for every module. Reading the converted folder takes half a
second.
"""

import contextlib
import io
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from landscape.folders import draft_of
from landscape.models.placement import Placement
from landscape.sources import cache_folder
from landscape.sources.carriers import sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

FORMAT = 1
"""Number of the conversion's recipe: a change of the recipe must not reuse an older result."""

MANIFEST = "landscape.json"


def plain_model(model: "PreTrainedModel") -> "PreTrainedModel":
    """Rebuild a model that was read from a GGUF file as an ordinary one with the same weights.

    A model read from GGUF stays flagged as quantised though its weights are dequantised, and
    ``save_pretrained`` refuses it. Cost: twice the model's memory for a moment.

    Args:
        model: a causal language model.

    Returns:
        A model of the same class, configuration (less its quantisation) and bitwise equal weights,
        in eval mode.
    """
    entries = model.config.to_dict()
    entries.pop("quantization_config", None)
    plain = type(model)(type(model.config).from_dict(entries))
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain.to(model.dtype).eval()


def load_gguf(gguf: Path, *, cache: Path | None, place: Placement) -> tuple["PreTrainedModel", Any]:
    """Load a causal language model and its tokenizer from a GGUF file.

    Args:
        gguf: the file.
        cache: folder that keeps the converted model (as large as the model in float32); the
            user's cache folder if absent. It is written atomically and checked by the file's
            SHA-256, so a changed file is converted anew.
        place: where the weights go, and their type; the cache holds float32.

    Returns:
        The model (plain: it can be saved) in eval mode and its tokenizer.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    digest = sha256(gguf)
    folder = (cache or cache_folder() / "models") / f"{gguf.stem}-{digest[:16]}"
    wanted = {"format": FORMAT, "gguf": gguf.name, "sha256": digest}
    if _manifest(folder) == wanted:
        logger.info("reusing the converted model in %s", folder)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, use_safetensors=True, **place.options
            )
            return model.eval(), AutoTokenizer.from_pretrained(folder)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a file was damaged after it was stored
            logger.warning("%s cannot be read (%s) and is made anew", folder, error)
            shutil.rmtree(folder, ignore_errors=True)
    logger.info("converting %s, once (half a minute to two)", gguf.name)
    # The progress bar of the conversion cannot be switched off, only sent elsewhere.
    with contextlib.redirect_stderr(io.StringIO()):
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = plain_model(loaded)
    try:
        _store(folder, model, tokenizer, wanted)
        logger.info("kept the converted model in %s", folder)
    except OSError as error:
        logger.warning("the converted model is not kept, the next load is slow too: %s", error)
    if place.device_map is not None and _manifest(folder) == wanted:
        return load_gguf(gguf, cache=cache, place=place)
    place.refuse_a_map(f"{gguf.name}, whose conversion could not be kept")
    return model.to(place.device, place.dtype), tokenizer


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest


def _store(folder: Path, model: Any, tokenizer: Any, manifest: dict[str, Any]) -> None:
    with draft_of(folder) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        (draft / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        if folder.exists() and _manifest(folder) != manifest:
            shutil.rmtree(folder)
        try:
            draft.rename(folder)
        except OSError:
            # Another process may have stored the same model since; theirs serves as well.
            if _manifest(folder) != manifest:
                raise
