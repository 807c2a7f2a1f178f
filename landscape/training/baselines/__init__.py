"""Baselines: other ways to give a model trainable parameters, one file a method, one interface.

Each function takes a plain model and returns one whose `trainable` parameters are the method's,
ready for `finetune`, `HessianOperator` or a mask on top (``targets="*adapter*"``,
``targets="*lora_*"``). `method_of` says what training has to do for it besides its updates.

A new method is a file here and a line in `BASELINES`; one with a penalty, or a state beside its
parameters, is a `Method` that `method_of` recognises.
"""

from collections.abc import Callable

from torch import nn

from landscape.training.baselines._adalora import AdaLora, adalora
from landscape.training.baselines._adapter import AFTER_BLOCKS, Adapter, AdapterStart, adapter
from landscape.training.baselines._bitfit import bitfit
from landscape.training.baselines._full import full
from landscape.training.baselines._lora import lora
from landscape.training.baselines._prefix import prefix
from landscape.training.baselines.method import Method, Stateless, method_of

BASELINES: dict[str, Callable[..., nn.Module]] = {
    make.__name__: make for make in (full, bitfit, adapter, lora, adalora, prefix)
}
"""Method name -> the function that gives a model its trainable parameters."""

__all__ = [
    "AFTER_BLOCKS",
    "BASELINES",
    "AdaLora",
    "Adapter",
    "AdapterStart",
    "Method",
    "Stateless",
    "adalora",
    "adapter",
    "bitfit",
    "full",
    "lora",
    "method_of",
    "prefix",
]
