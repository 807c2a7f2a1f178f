"""Forwards of the layers in which lanes differ: each row is computed with its own lane's tensors.

The rows of a chunk are ordered by lane. A layer with a mask in some lane multiplies lane by lane
(`landscape.training.packed.products`); vectors (biases, scales of norms) are stacked and picked by
row; a matrix that a lane trains whole, or has for itself, is that lane's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.subspace.beside import autocast
from landscape.training.packed.chunks import Chunk
from landscape.training.packed.course import Course
from landscape.training.packed.products import MaskedWeight, Piece, lane_products
from landscape.training.packed.stacked import Stack


class Layers:
    """Hold the layers of a model in which some lanes differ.

    Args:
        model: the frozen one.
        courses: lane -> what it has of its own.
    """

    def __init__(self, model: nn.Module, courses: Mapping[int, Course]) -> None:
        self._model = model
        self._layers: dict[str, _Layer] = {}
        self._checked = False
        self.sizes: Mapping[int, int] = {}
        """Lane -> its rows in the chunk at hand, in their order."""
        self.length = 0
        """Tokens of a row."""
        self.stack: Stack | None = None
        """Of the lanes' masked weights, where they are multiplied at once."""
        for lane, course in courses.items():
            for name, masked in course.masked.items():
                self._at(model, name).masked[lane] = masked
            for name, value in {**course.own, **course.dense}.items():
                layer = self._at(model, name)
                held = layer.biases if name.endswith("bias") else layer.weights
                held[lane] = value

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the layers compute each row with its lane's tensors inside; the model is frozen."""
        trained = [p for p in self._model.parameters() if p.requires_grad]
        self._model.requires_grad_(False)
        for layer in self._layers.values():
            layer.module.__dict__["forward"] = partial(layer.forward, self)
        try:
            yield
        finally:
            for p in trained:
                p.requires_grad_(True)
            for layer in self._layers.values():
                layer.module.__dict__.pop("forward", None)

    def begin(self, chunk: Chunk) -> None:
        """Begin a chunk, whose rows the layers see until another is begun."""
        for layer in self._layers.values():
            for masked in layer.masked.values():
                masked.forget()  # an optimizer may have written theta since
        self.sizes, self.length = chunk.sizes(), chunk.batch["input_ids"].shape[1]

    def refuse_uncalled(self) -> None:
        """Refuse masked layers that the first forward has not called.

        Raises:
            UserError: there is one; theta would stay at 0, whoever else reads its weight.
        """
        if self._checked:
            return
        for name, layer in self._layers.items():
            if not layer.called and any(m.theta.numel() for m in layer.masked.values()):
                raise UserError(
                    f"expected masked layers that the model calls, got {name}, whose weight is "
                    "read elsewhere or never; train such a model's runs one at a time with "
                    "finetune"
                )
        self._checked = True

    def pieces(self, x: Tensor) -> list[Piece]:
        """Return which of a tensor's first dimension is whose.

        Raises:
            UserError: it is neither the chunk's rows nor their tokens.
        """
        rows, first = sum(self.sizes.values()), x.shape[0]
        each = 1 if first == rows else self.length
        if first != rows * each or (each != 1 and x.dim() != 2):
            raise UserError(
                f"expected layers that see the {rows} rows of a batch of {self.length} tokens, got "
                f"one that sees {tuple(x.shape)}; train these runs one at a time"
            )
        found, start = [], 0
        for lane, size in self.sizes.items():
            found.append(Piece(lane, start * each, (start + size) * each))
            start += size
        return found

    def _at(self, model: nn.Module, name: str) -> _Layer:
        path = name.rpartition(".")[0]
        if path not in self._layers:
            module = model.get_submodule(path)
            self._layers[path] = _Norm(module) if type(module) is nn.LayerNorm else _Matrix(module)
        return self._layers[path]


class _Layer:
    """One module, and what lanes have of their own in it."""

    def __init__(self, module: nn.Module) -> None:
        self.module: Any = module
        self.masked: dict[int, MaskedWeight] = {}
        self.weights: dict[int, Tensor] = {}
        self.biases: dict[int, Tensor] = {}
        self.called = False

    def forward(self, layers: Layers, x: Tensor) -> Tensor:
        raise NotImplementedError


class _Norm(_Layer):
    """A LayerNorm."""

    def forward(self, layers: Layers, input: Tensor) -> Tensor:
        module, pieces = self.module, layers.pieces(input)
        if not self.weights:
            out = F.layer_norm(input, module.normalized_shape, module.weight, None, module.eps)
        else:
            out = F.layer_norm(input, module.normalized_shape, None, None, module.eps)
            out = out * _picked(self.weights, module.weight, pieces, out)
        if module.bias is None and not self.biases:
            return out
        return out + _picked(self.biases, module.bias, pieces, out)


class _Matrix(_Layer):
    """An nn.Linear, or GPT-2's Conv1D, whose matrix is the other way round."""

    def forward(self, layers: Layers, x: Tensor) -> Tensor:
        self.called = True
        module, pieces = self.module, layers.pieces(x)
        transpose = isinstance(module, nn.Linear)
        shared = None if self.biases else module.bias
        if layers.stack is not None and self.masked:
            out = layers.stack.product(module, x, shared)
        elif not self.weights:
            out = self._products(x, shared, pieces, transpose)
        else:
            parts = [self._of_one(x[p.start : p.stop], shared, p, transpose) for p in pieces]
            out = torch.cat(parts)
        if not self.biases:
            return out
        return out + _picked(self.biases, module.bias, pieces, out)

    def _of_one(self, x: Tensor, bias: Tensor | None, piece: Piece, transpose: bool) -> Tensor:
        weight = self.weights.get(piece.lane)
        if weight is None:
            own = Piece(piece.lane, 0, len(x))
            return self._products(x, bias, [own], transpose)
        return F.linear(x, weight if transpose else weight.t(), bias)

    def _products(
        self, x: Tensor, bias: Tensor | None, pieces: Sequence[Piece], transpose: bool
    ) -> Tensor:
        weight = self.module.weight
        if not any(piece.lane in self.masked for piece in pieces):
            return F.linear(x, weight if transpose else weight.t(), bias)
        flat = autocast(x.reshape(-1, x.shape[-1]))
        tokens = flat.shape[0] // x.shape[0]
        spans = [Piece(p.lane, p.start * tokens, p.stop * tokens) for p in pieces]
        out = lane_products(flat, weight, bias, spans, self.masked, transpose=transpose)
        return out.view(*x.shape[:-1], out.shape[-1])


def _picked(
    own: Mapping[int, Tensor], shared: Tensor | None, pieces: Sequence[Piece], like: Tensor
) -> Tensor:
    """Return each row's vector: its lane's own, or the one that all share; of x's dimensions."""
    each = []
    for piece in pieces:
        vector = own.get(piece.lane, shared)
        assert vector is not None
        each.append(vector)
    sizes = torch.tensor([p.stop - p.start for p in pieces], device=like.device)
    stacked = torch.stack(each).to(like.dtype).repeat_interleave(sizes, 0)
    return stacked.view(len(stacked), *(1,) * (like.dim() - 2), stacked.shape[-1])
