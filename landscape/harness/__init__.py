"""Anyone's evaluation: a model of `lm_eval`, the lm-evaluation-harness, that takes a delta.

``lm_eval`` is imported when the model is asked for, never with the library.
"""

from __future__ import annotations

from landscape.sources.carriers import optional

NAME = "landscape"
"""What ``lm_eval --model`` calls the model."""

TARGET = "landscape.harness.model:DeltaLM"
"""Where it is: the value of the entry point in ``pyproject.toml``."""


def register() -> None:
    """Make ``landscape`` a model's name in ``lm_eval``, for this process.

    Versions of ``lm_eval`` after 0.4.13 find the entry point of the group ``lm_eval.models``
    themselves; up to that one a name is known where a program says it, as here, or where the
    command is ``python -m landscape.harness`` in the place of ``lm_eval``.

    Raises:
        UserError: ``lm_eval`` is not installed.
    """
    registry = optional("lm_eval.api.registry").model_registry
    optional("lm_eval.models")  # its own models, which it lists only while there are no others
    if NAME not in registry:
        registry.register(NAME, target=TARGET)


__all__ = ["NAME", "TARGET", "register"]
