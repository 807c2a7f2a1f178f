"""A pretrained model with a delta, as ``lm_eval`` wants a model: ``--model landscape``."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM

from landscape import checks
from landscape.deltas.files import load_delta
from landscape.errors import UserError
from landscape.identity import base_digests, fingerprint, precision
from landscape.models import load_model
from landscape.models.kinds import kind
from landscape.models.tensors import num_parameters
from landscape.sources.carriers import sha256

logger = logging.getLogger(__name__)

OWN = ("pretrained", "delta", "force", "dtype", "device", "revision")
"""Arguments that mean what they mean in this library."""

OF_HFLM = (
    "batch_size", "max_batch_size", "max_length", "truncation", "logits_cache", "softmax_dtype",
    "mixed_precision_dtype", "add_bos_token", "prefix_token_id", "think_end_token",
    "enable_thinking", "chat_template_args",
)  # fmt: skip
"""Arguments that mean what ``lm_eval`` says of its own models."""

_SPEED = ("batch_size", "max_batch_size", "logits_cache")
"""Those of them that change no answer but by rounding."""

_WRITERS = ("causal language model", "encoder-decoder language model")

_WHOSE = "landscape"
"""Beside a cache's answers, which have hashes for names: the model that gave them."""


class DeltaLM(HFLM):
    """Score and write text with a pretrained model and the delta attached to it.

    Everything but the loading is ``lm_eval``'s own: what it measures of this model is what it
    measures of the merged model, ``--model hf``, to rounding. Its ``acc`` is this library's
    accuracy where every candidate is one token and every prompt fits: of longer candidates it
    compares the sums of log-probabilities, in ``acc_norm`` divided by the number of characters,
    this library their means over the tokens; and of a prompt that is too long it drops the first
    token too.

    Args:
        pretrained: a packaged model, a folder of ``save_pretrained``, or a model on the hub, as
            for `landscape.load_model`. Code shipped with a model is never run.
        delta: a file of `landscape.save_delta`; the pretrained model itself if absent.
        force: load the delta onto another base of the same shapes.
        dtype: of the weights, the one that the delta was made in: it knows its base by its bits.
        device: of torch; a GPU of CUDA if absent, where there is one, else the CPU.
        revision: branch, tag or commit on the hub.
        options: those of `OF_HFLM`.

    Raises:
        UserError: no model, one that is no language model, an unknown argument, a missing or
            damaged delta, or one of another base.
    """

    def __init__(
        self,
        pretrained: str | Path | None = None,
        *,
        delta: str | Path | None = None,
        force: bool = False,
        dtype: str | torch.dtype = "float32",
        device: str | torch.device | None = None,
        revision: str | None = None,
        **options: Any,
    ) -> None:
        _check_names(options)
        if pretrained is None:
            raise UserError(
                "expected pretrained=, the model to evaluate, got none; give a packaged model's "
                "name, a folder, or a name on the hub"
            )
        name, force = checks.path("pretrained", pretrained), checks.flag("force", force)
        place = str(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._asked = sorted((k, v) for k, v in options.items() if k not in _SPEED)
        self._model, self._given = _language_model(name, dtype, place, revision)
        self._revision = revision or ""
        super().__init__(name, device=place, **options)
        self._delta = None if delta is None else Path(checks.path("delta", delta))
        if self._delta is not None:  # after HFLM has tied the weights, which a mask would forbid
            logger.info("%s", load_delta(self._model, self._delta, force=force))

    def _get_config(self, *_: Any, **__: Any) -> None:
        self._config = self._model.config

    def _create_tokenizer(self, *_: Any, **__: Any) -> None:
        self.tokenizer = self._given

    def _create_model(self, *_: Any, **__: Any) -> None:
        self._model.to(self.device)

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Keep answers in a file of ``--use_cache``, which knows questions but not whose answers.

        Raises:
            UserError: the file holds the answers of another model or delta, or to another setting.
        """
        answers = cache_hook.dbdict
        if answers is not None:
            mine = str((self.get_model_info(), self._asked))
            if len(answers) and answers.get(_WHOSE) != mine:
                raise UserError(
                    f"expected this model's own answers in the cache {answers.filename}, got those "
                    "of another model, delta or setting; name another file with --use_cache"
                )
            answers[_WHOSE] = mine
        super().set_cache_hook(cache_hook)

    def get_model_info(self) -> dict[str, Any]:
        """Say which model was evaluated, by hashes; nothing is asked of the hub.

        Returns:
            The size, precision and fingerprint of the base, and the delta's SHA-256.
        """
        return {
            "model_num_parameters": num_parameters(self._model),
            "model_dtype": precision(self._model),
            "model_revision": self._revision,
            "model_sha": fingerprint(base_digests(self._model)),
            "delta_sha": "" if self._delta is None else sha256(self._delta),
        }


def _check_names(options: dict[str, Any]) -> None:
    known = (*OWN, *OF_HFLM)
    for name in options.keys() - set(OF_HFLM):
        close = difflib.get_close_matches(name, known, n=1)
        raise UserError(
            f"expected model_args among {', '.join(known)}, got {name}; "
            + (f"write {close[0]}" if close else "leave it out")
        )


def _language_model(
    name: str, dtype: str | torch.dtype, device: str, revision: str | None
) -> tuple[Any, Any]:
    """Load a model that scores and writes text, and its tokenizer."""
    model, tokenizer = load_model(name, dtype=dtype, device=device, revision=revision)
    if kind(model) not in _WRITERS:
        raise UserError(
            f"expected a language model, which scores and writes text, in {name}, got "
            f"{type(model).__name__}; give one, or judge a classifier with this library's evaluate"
        )
    return model, tokenizer
