"""Which places of a layer's inputs hold tokens, and which padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from landscape.models.kinds import without_wrappers


class Tokens:
    """Tell tokens from padding in what linear layers are given, while a loss calls their model.

    By the masks that the model is called with, not those of the batch: a loss may move rows and
    cut them. In an encoder-decoder a layer of the encoder sees what the encoder was given, one that
    reads the encoder's output (the keys and values of cross-attention) what the model was, any
    other the decoder's tokens.

    Args:
        model: watched until `close`.
    """

    def __init__(self, model: nn.Module) -> None:
        base: Any = without_wrappers(model)
        two = getattr(getattr(base, "config", None), "is_encoder_decoder", False)
        encoder: nn.Module | None = base.get_encoder() if two else None
        self._inside = set() if encoder is None else {id(m) for m in encoder.modules()}
        self._batch: Mapping[str, Any] = {}
        self._called: Tensor | None = None
        self._encoded: Tensor | None = None
        self._states = 0
        self._handles = [model.register_forward_pre_hook(self._note_call, with_kwargs=True)]
        if encoder is not None:
            self._handles += [
                encoder.register_forward_pre_hook(self._note_encoder, with_kwargs=True),
                encoder.register_forward_hook(self._note_states),
            ]

    def close(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()

    def begin(self, batch: object) -> None:
        """Forget the batch before this one."""
        self._batch = batch if isinstance(batch, Mapping) else {}
        self._called, self._encoded, self._states = None, None, 0

    def of(self, module: nn.Module, x: Tensor) -> Bool[Tensor, " places"] | None:
        """Return which places of a layer's inputs, (..., d), hold tokens; None where all do."""
        if id(module) in self._inside:
            mask = self._encoded
        elif x.data_ptr() == self._states or "target_mask" not in self._batch or not self._inside:
            mask = self._called
        else:
            lengths = self._batch["target_mask"].sum(1, keepdim=True).to(x.device)
            mask = torch.arange(x.shape[1], device=x.device) < lengths
        mask = self._batch.get("attention_mask") if mask is None else mask
        if not isinstance(mask, Tensor):
            return None
        if mask.dim() == 2 and x.dim() == 3 and mask.shape[1] > x.shape[1]:
            mask = mask[:, -x.shape[1] :]  # it speaks of cached tokens as well
        fits = mask.numel() * x.shape[-1] == x.numel()
        return mask.reshape(-1).bool().to(x.device) if fits else None

    def _note_call(self, _: nn.Module, args: Any, given: dict[str, Any]) -> None:
        self._called = given.get("attention_mask")
        if given.get("encoder_outputs") is not None:
            self._states = given["encoder_outputs"][0].data_ptr()

    def _note_encoder(self, _: nn.Module, args: Any, given: dict[str, Any]) -> None:
        self._encoded = given.get("attention_mask")

    def _note_states(self, _: nn.Module, args: Any, output: Any) -> None:
        self._states = output[0].data_ptr()
