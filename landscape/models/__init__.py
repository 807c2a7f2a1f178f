"""Models: pretrained ones by name or path, and tiny random ones of each architecture for tests."""

from landscape.models.gguf import plain_model
from landscape.models.load import load_model
from landscape.models.registry import PACKAGED, num_labels_for
from landscape.models.tiny import tiny_model, tiny_tokenizer

__all__ = [
    "PACKAGED",
    "load_model",
    "num_labels_for",
    "plain_model",
    "tiny_model",
    "tiny_tokenizer",
]
