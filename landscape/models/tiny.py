"""Tiny random models of each architecture and a tokenizer without a download, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from landscape import checks, seeds
from landscape.errors import UserError
from landscape.models.architectures import ARCHITECTURES, POSITIONS, SPECIAL, WORDS
from landscape.models.kinds import HEADS, Head, reader

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def tiny_model(
    architecture: str, *, seed: int = 0, head: Head | None = None, **overrides: Any
) -> PreTrainedModel:
    """Build a random model of two layers and width 32, in eval mode and without dropout.

    Args:
        architecture: "opt" (tied head), "llama" (grouped-query attention, 4 query heads on 2
            key-value heads), "qwen2" (as Llama, biases on queries, keys and values, tied head),
            "gpt2" (tied head, ``Conv1D`` weights), "t5" (encoder and decoder, relative positions);
            "bert", "roberta", "mpnet", "deberta-v2" (classify a sequence); "vit", "resnet"
            (classify a 16 x 16 image, "resnet" by convolutions, most of them 1 x 1, and batch
            norms), or "clip" (compares texts with 16 x 16 images; of a text it keeps what it knows
            at the first full stop, as its kin at their end token).
        seed: of the weights; the global random state is left alone.
        head: "sequence" or "tokens" for a classifier of either in place of what the architecture
            ends with here.
        overrides: entries of the architecture's ``transformers`` configuration to change.

    Returns:
        A float32 model on the CPU.

    Raises:
        UserError: an unknown architecture, or one without such a head.
    """
    checks.text("architecture", architecture)
    seed = checks.seed(seed)
    if head is not None:
        checks.choice("head", head, HEADS)
    import transformers

    if architecture not in ARCHITECTURES:
        raise UserError(
            f"expected an architecture among {', '.join(ARCHITECTURES)}, got {architecture!r}; "
            "check the spelling"
        )
    config_name, model_name, entries = ARCHITECTURES[architecture]
    config = getattr(transformers, config_name)(**{**entries, **overrides})
    with seeds.drawing(seed):
        if head is None:
            return getattr(transformers, model_name)(config).eval()
        try:
            return reader(HEADS[head]).from_config(config).eval()
        except ValueError as error:
            raise UserError(
                f"expected an architecture that transformers gives a {HEADS[head]}, got "
                f"{architecture}; choose another one, or leave head out"
            ) from error


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Build a byte-level tokenizer that starts every text with its bos token, as OPT's does.

    Any text is representable: the vocabulary is pad (0), bos (1), eos (2), the 256 bytes, and the
    words " terrible" and " great", so that those are single-token candidates.

    Returns:
        A tokenizer that ``save_pretrained`` can store.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=tokens, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokens["<s>"])]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in WORDS])
    pad, bos, eos = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        model_max_length=POSITIONS,
    )
