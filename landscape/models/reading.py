"""A folder or a hub repository as a model: what is read, and what is refused in a sentence."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape import seeds
from landscape.errors import UserError
from landscape.models.kinds import quiet, sees_all_tokens, sees_images
from landscape.models.registry import PACKAGED
from landscape.sources.hub import ask_hub

logger = logging.getLogger(__name__)

OFFLINE = (
    f"without the hub, use a packaged model ({', '.join(PACKAGED)}) or the path of a folder "
    "written by save_pretrained"
)
WRITTEN = "give a folder written by save_pretrained of the model and of the tokenizer"

Loaded = tuple[nn.Module, Any]
"""A model and its tokenizer, or its image processor."""


@dataclass(frozen=True)
class Wanted:
    """Say what to read: a causal language model, or a classifier whose head has a seed.

    Args:
        num_labels: of the classifier; None for a language model or, if ``bare``, for no head.
        seed: of the head, where the files hold none.
        bare: read an encoder without a head where no number of labels is given.
    """

    num_labels: int | None
    seed: int
    bare: bool = False

    def read(self, name: str, *, images: bool, **options: Any) -> Any:
        """Read a model's files with the class of ``transformers`` that they are wanted as."""
        import transformers

        if self.num_labels is None:
            reads = transformers.AutoModel if self.bare else transformers.AutoModelForCausalLM
            return reads.from_pretrained(name, **options)
        reads = (
            transformers.AutoModelForImageClassification
            if images
            else transformers.AutoModelForSequenceClassification
        )
        with seeds.drawing(self.seed):
            return reads.from_pretrained(name, num_labels=self.num_labels, **options)

    def refuse_missing(self, name: str, missing: list[str]) -> None:
        """Refuse a language model that the files hold a part of; the rest would be random.

        A classifier's head may be missing, for it has a seed.

        Raises:
            UserError: weights of a language model are missing.
        """
        if missing and self.num_labels is None and not self.bare:
            raise UserError(
                f"expected all weights of a {self} in {name}, got none for {missing[0]}"
                f"{f' and {len(missing) - 1} others' if len(missing) > 1 else ''}; fetch the files "
                "again or, for an encoder, give num_labels= (--num-labels) for a classifier"
            )

    def __str__(self) -> str:
        if self.num_labels is not None:
            return "sequence classifier"
        return "encoder" if self.bare else "causal language model"


def read_from_hub(wanted: Wanted, name: str, dtype: torch.dtype, revision: str | None) -> Loaded:
    """Read a model from the hub, or from an earlier download of it where the hub is not reachable.

    Args:
        wanted: what to read it as.
        name: repository, as in ``facebook/opt-125m``.
        dtype: of its weights.
        revision: branch, tag or commit; the default branch if absent.

    Returns:
        As `read_pretrained`.

    Raises:
        UserError: neither is there, or as `read_pretrained`.
    """
    answer = ask_hub(name, "model", revision=revision)
    if answer.reachable:
        return read_pretrained(wanted, name, dtype, revision=revision)
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
    return read_pretrained(wanted, str(Path(earlier).parent), dtype, local_files_only=True)


def read_pretrained(wanted: Wanted, name: str, dtype: torch.dtype, **where: Any) -> Loaded:
    """Read a model, from safetensors if there are any, else from a .bin file.

    ``transformers`` reads a .bin file with ``torch.load(weights_only=True)``: tensors, no code.

    Args:
        wanted: what to read it as.
        name: a folder, or a repository of the hub.
        dtype: of its weights.
        where: revision and local_files_only, as ``from_pretrained`` takes them.

    Returns:
        The model in eval mode, and its tokenizer or image processor.

    Raises:
        UserError: the files are not such a model with its tokenizer.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

    options = {"dtype": dtype, "trust_remote_code": False, "output_loading_info": True, **where}
    try:
        with quiet():
            config = AutoConfig.from_pretrained(name, trust_remote_code=False, **where)
            images = sees_images(config)
            try:
                model, report = wanted.read(name, images=images, use_safetensors=True, **options)
            except OSError as no_safetensors:
                try:
                    model, report = wanted.read(
                        name, images=images, use_safetensors=False, **options
                    )
                except OSError:
                    raise no_safetensors from None
            reader = AutoImageProcessor if images else AutoTokenizer
            tokenizer = reader.from_pretrained(name, trust_remote_code=False, **where)
    except MemoryError:
        raise
    except Exception as error:  # damaged files make each of their readers fail in its own way
        raise UserError(
            f"expected a {wanted} with its tokenizer in {name}, got what cannot be "
            f"read: {_first_line(error)}; {WRITTEN}"
        ) from error
    if wanted.num_labels is None and not wanted.bare and sees_all_tokens(model.config):
        raise UserError(
            f"expected a causal language model in {name}, got {model.config.model_type}, an "
            "encoder, which sees the tokens that it should predict; load it with num_labels= "
            "(--num-labels) as a sequence classifier"
        )
    wanted.refuse_missing(name, sorted(report["missing_keys"]))
    if not images:
        _check_tokenizer(tokenizer, name)
        if wanted.num_labels is not None:
            _pad_as(model, tokenizer)
    return model.eval(), tokenizer


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UserError(
            f"expected a tokenizer in {name}, got none: what is there knows no token of text; "
            f"{WRITTEN}"
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
