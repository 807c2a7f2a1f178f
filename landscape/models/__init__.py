"""Models: pretrained ones by name or path, and tiny random ones of each architecture for tests."""

from landscape.models.gguf import plain_model
from landscape.models.load import PACKAGED, load_model
from landscape.models.tiny import tiny_model, tiny_tokenizer

__all__ = ["PACKAGED", "load_model", "plain_model", "tiny_model", "tiny_tokenizer"]
