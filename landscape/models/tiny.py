"""Tiny random models of each architecture and a tokenizer without a download, for tests."""

from typing import TYPE_CHECKING, Any

from landscape import checks, seeds
from landscape.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<s>", "</s>")
WORDS = (" terrible", " great")
VOCABULARY = len(SPECIAL) + 256 + len(WORDS)
"""Tokens of ``tiny_tokenizer``: pad, bos and eos, the 256 bytes, and two whole words."""

HIDDEN = 32
LAYERS = 2
HEADS = 4
POSITIONS = 512

_TEXT = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_SIZE = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 2 * HIDDEN,
}
_SHAPES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "opt": (
        "OPTConfig",
        "OPTForCausalLM",
        {
            **_TEXT,
            "hidden_size": HIDDEN,
            "word_embed_proj_dim": HIDDEN,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "ffn_dim": 2 * HIDDEN,
            "max_position_embeddings": POSITIONS,
            "dropout": 0.0,
        },
    ),
    "llama": (
        "LlamaConfig",
        "LlamaForCausalLM",
        {**_TEXT, **_SIZE, "num_key_value_heads": 2, "max_position_embeddings": POSITIONS},
    ),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {
            **_TEXT,
            "n_embd": HIDDEN,
            "n_layer": LAYERS,
            "n_head": HEADS,
            "n_positions": POSITIONS,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
        },
    ),
    "bert": (
        "BertConfig",
        "BertForSequenceClassification",
        {
            "vocab_size": VOCABULARY,
            "pad_token_id": 0,
            **_SIZE,
            "max_position_embeddings": POSITIONS,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "num_labels": 2,
        },
    ),
    "vit": (
        "ViTConfig",
        "ViTForImageClassification",
        {**_SIZE, "image_size": 16, "patch_size": 4, "num_channels": 3, "num_labels": 3},
    ),
}


def tiny_model(architecture: str, *, seed: int = 0, **overrides: Any) -> "PreTrainedModel":
    """Build a random model of two layers and width 32, in eval mode and without dropout.

    Args:
        architecture: "opt" (tied head), "llama" (grouped-query attention, 4 query heads on 2
            key-value heads), "gpt2" (tied head, ``Conv1D`` weights), "bert" (classifies a
            sequence) or "vit" (classifies a 16 x 16 image).
        seed: of the weights; the global random state is left alone.
        overrides: entries of the architecture's ``transformers`` configuration to change.

    Returns:
        A float32 model on the CPU.

    Raises:
        UserError: an unknown architecture.
    """
    checks.text("architecture", architecture)
    seed = checks.seed(seed)
    import transformers

    if architecture not in _SHAPES:
        raise UserError(
            f"expected an architecture among {', '.join(_SHAPES)}, got {architecture!r}; "
            "check the spelling"
        )
    config_name, model_name, entries = _SHAPES[architecture]
    config = getattr(transformers, config_name)(**{**entries, **overrides})
    with seeds.drawing(seed):
        model = getattr(transformers, model_name)(config)
    return model.eval()


def tiny_tokenizer() -> "PreTrainedTokenizerFast":
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
