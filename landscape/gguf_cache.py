"""Former place of ``plain_model``, which is now in ``landscape.models``."""

from landscape.models.gguf import plain_model

__all__ = ["plain_model"]
