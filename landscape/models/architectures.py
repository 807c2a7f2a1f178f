"""The architectures of tiny models: for each its configuration, its class and its sizes."""

from __future__ import annotations

from typing import Any

SPECIAL = ("<pad>", "<s>", "</s>")
WORDS = (" terrible", " great")
VOCABULARY = len(SPECIAL) + 256 + len(WORDS)
"""Tokens of ``tiny_tokenizer``: pad, bos and eos, the 256 bytes, and two whole words."""

FULL_STOP = 16
"""Token of "." in ``tiny_tokenizer``."""

HIDDEN = 32
LAYERS = 2
HEADS = 4
POSITIONS = 512

_TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 0}
_TEXT = {**_TOKENS, "bos_token_id": 1, "eos_token_id": 2}
_SIZE = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 2 * HIDDEN,
}
_IMAGE = {"image_size": 16, "patch_size": 4, "num_channels": 3}
_LONG = {"max_position_embeddings": POSITIONS}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_ENCODER = {**_TOKENS, **_SIZE, **_LONG, **_NO_DROPOUT, "num_labels": 2}

ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "opt": (
        "OPTConfig",
        "OPTForCausalLM",
        {
            **_TEXT,
            **_LONG,
            "hidden_size": HIDDEN,
            "word_embed_proj_dim": HIDDEN,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "ffn_dim": 2 * HIDDEN,
            "dropout": 0.0,
        },
    ),
    "llama": ("LlamaConfig", "LlamaForCausalLM", {**_TEXT, **_SIZE, **_LONG,
                                                  "num_key_value_heads": 2}),
    "qwen2": (
        "Qwen2Config",
        "Qwen2ForCausalLM",
        {**_TEXT, **_SIZE, **_LONG, "num_key_value_heads": 2, "tie_word_embeddings": True},
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
    "t5": (
        "T5Config",
        "T5ForConditionalGeneration",
        {
            **_TOKENS,
            "eos_token_id": 2,
            "decoder_start_token_id": 0,
            "d_model": HIDDEN,
            "d_kv": HIDDEN // HEADS,
            "d_ff": 2 * HIDDEN,
            "num_layers": LAYERS,
            "num_heads": HEADS,
            "dropout_rate": 0.0,
        },
    ),
    "bert": ("BertConfig", "BertForSequenceClassification", _ENCODER),
    # RoBERTa counts from behind its padding token, MPNet from behind token 1
    "roberta": ("RobertaConfig", "RobertaForSequenceClassification",
                {**_ENCODER, **_TEXT, "max_position_embeddings": POSITIONS + 1}),
    "mpnet": ("MPNetConfig", "MPNetForSequenceClassification",
              {**_ENCODER, "max_position_embeddings": POSITIONS + 2}),
    "deberta-v2": (
        "DebertaV2Config",
        "DebertaV2ForSequenceClassification",
        {
            **_ENCODER,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
            "type_vocab_size": 0,
            "pooler_hidden_size": HIDDEN,
            "pooler_dropout": 0.0,
        },
    ),
    "vit": ("ViTConfig", "ViTForImageClassification", {**_SIZE, **_IMAGE, "num_labels": 3}),
    "clip": (
        "CLIPConfig",
        "CLIPModel",
        {
            "text_config": {**_TEXT, **_SIZE, **_LONG, "eos_token_id": FULL_STOP},
            "vision_config": {**_SIZE, **_IMAGE},
            "projection_dim": HIDDEN // 2,
        },
    ),
    "resnet": (
        "ResNetConfig",
        "ResNetForImageClassification",
        {
            "embedding_size": 8,
            "hidden_sizes": [HIDDEN // 2, HIDDEN],
            "depths": [1, 1],
            "layer_type": "bottleneck",
            "num_labels": 3,
        },
    ),
}  # fmt: skip
"""Name -> the names of the configuration and of the class in ``transformers``, and the sizes."""
