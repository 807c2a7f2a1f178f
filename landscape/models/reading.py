"""A folder or a hub repository as a model: what is read, and what is refused in a sentence."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape.errors import UserError
from landscape.models.files import refuse_files
from landscape.models.kinds import CLASSIFIERS, Kind, quiet, sees_all_tokens
from landscape.models.placement import Placement
from landscape.models.registry import PACKAGED
from landscape.models.wanted import Wanted
from landscape.sources.hub import ask_hub

logger = logging.getLogger(__name__)

OFFLINE = (
    f"without the hub, use a packaged model ({', '.join(PACKAGED)}) or the path of a folder "
    "written by save_pretrained"
)

Loaded = tuple[nn.Module, Any]
"""A model and its tokenizer, or its image processor, or both in one."""


def read_from_hub(wanted: Wanted, name: str, place: Placement, revision: str | None) -> Loaded:
    """Read a model from the hub, or from an earlier download of it where the hub is not reachable.

    Args:
        wanted: what to read it as.
        name: repository, as in ``facebook/opt-125m``.
        place: where its weights go, and their type.
        revision: branch, tag or commit; the default branch if absent.

    Returns:
        As `read_pretrained`.

    Raises:
        UserError: neither is there, or as `read_pretrained`.
    """
    answer = ask_hub(name, "model", revision=revision)
    if answer.reachable:
        model, beside = read_pretrained(wanted, name, place, revision=revision)
        note_revision(model.config, answer.revision)
        return model, beside
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    # The folder of an earlier download, not its name: transformers asks the hub about a name even
    # when it is told not to, and takes 46 s to give up.
    try:
        earlier = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:
        earlier = None
    if not isinstance(earlier, str):
        raise UserError(
            f"expected the model {name} on the hub, but {answer.reason} and there is no earlier "
            f"download of it; {OFFLINE}"
        )
    logger.info("%s: using an earlier download of %s", answer.reason, name)
    folder = Path(earlier).parent  # the hub's cache names it by the revision
    model, beside = read_pretrained(wanted, str(folder), place, local_files_only=True)
    note_revision(model.config, folder.name)
    return model, beside


def note_revision(config: Any, revision: str | None) -> None:
    """Note the commit on the hub that a configuration is of, which transformers 5.23 does not."""
    if getattr(config, "_commit_hash", None) is None:
        config._commit_hash = revision


def read_pretrained(wanted: Wanted, name: str, place: Placement, **where: Any) -> Loaded:
    """Read a model, from safetensors if there are any, else from a .bin file.

    ``transformers`` reads a .bin file with ``torch.load(weights_only=True)``: tensors, no code.

    Args:
        wanted: what to read it as.
        name: a folder, or a repository of the hub.
        place: where its weights go, and their type.
        where: revision and local_files_only, as ``from_pretrained`` takes them.

    Returns:
        The model in eval mode, and its tokenizer or image processor.

    Raises:
        UserError: the files are not such a model with its tokenizer.
    """
    refuse_files(name)
    with quiet():
        config = _read(f"{wanted.given} with its tokenizer", name, _config, name, where)
        kind = wanted.kind(config, name)
        wanted.refuse_other_labels(config, kind, name)
        what = f"{kind} with its {_beside(kind)}"
        model, report = _read(what, name, _model, wanted, kind, config, name, place, where)
        if kind == "causal language model" and sees_all_tokens(model.config):
            raise UserError(
                f"expected a causal language model in {name}, got {model.config.model_type}, an "
                "encoder, which sees the tokens that it should predict; load it with num_labels= "
                "(--num-labels) as a sequence classifier"
            )
        wanted.refuse_missing(kind, model, name, sorted(report["missing_keys"]))
        processor = _read(what, name, _processor, kind, name, where)
    if _beside(kind) == "tokenizer":
        _check_tokenizer(processor, name)
        if kind in CLASSIFIERS:
            _pad_as(model, processor)
    return model.eval(), processor


def _read(what: str, name: str, function: Any, *given: Any) -> Any:
    try:
        return function(*given)
    except (MemoryError, torch.OutOfMemoryError, UserError):
        raise
    except Exception as error:  # damaged files make each of their readers fail in its own way
        if "trust_remote_code" in str(error):
            raise UserError(
                f"expected a {what} in {name} of an architecture that transformers knows, got one "
                "whose repository ships code of its own, which is never run; choose another "
                "model, or build it yourself and pass it to the library"
            ) from error
        if "tiktoken" in str(error) or "sentencepiece" in str(error):
            raise UserError(
                f"expected a {what} in {name}, got one whose tokenizer is a SentencePiece model, "
                f"which was not read ({_first_line(error)}); install what reads it with: pip "
                "install sentencepiece protobuf; or give a folder with its tokenizer.json"
            ) from error
        raise UserError(
            f"expected a {what} in {name}, got what cannot be read: {_first_line(error)}; give a "
            f"folder written by save_pretrained of the model and of the {_beside(what)}"
        ) from error


def _config(name: str, where: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(name, trust_remote_code=False, **where)


def _model(
    wanted: Wanted, kind: Kind, config: Any, name: str, place: Placement, where: dict[str, Any]
) -> Any:
    options = {
        **place.options, "trust_remote_code": False, "output_loading_info": True, **where
    }  # fmt: skip
    try:
        return wanted.read(kind, config, name, use_safetensors=True, **options)
    except OSError as no_safetensors:
        try:
            return wanted.read(kind, config, name, use_safetensors=False, **options)
        except OSError:
            raise no_safetensors from None


def _processor(kind: Kind, name: str, where: dict[str, Any]) -> Any:
    import transformers

    reads = {
        "tokenizer": transformers.AutoTokenizer,
        "image processor": transformers.AutoImageProcessor,
        "processor": transformers.AutoProcessor,
    }[_beside(kind)]
    return reads.from_pretrained(name, trust_remote_code=False, **where)


def _beside(kind: str) -> str:
    """Return what a kind of model comes with."""
    if "images and texts" in kind:
        return "processor"
    return "image processor" if "image" in kind else "tokenizer"


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UserError(
            f"expected a tokenizer in {name}, got none: what is there knows no token of text; "
            "give a folder written by save_pretrained of the model and of the tokenizer"
        )


def _pad_as(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a classifier the tokenizer's padding token: decoders read the last other token."""
    token: Any = tokenizer.pad_token_id
    token = tokenizer.eos_token_id if token is None else token
    if token is not None:
        model.config.get_text_config().pad_token_id = int(token)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
