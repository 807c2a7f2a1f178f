"""Dropout of a pack: every lane's rows get the masks that its solo run draws.

A solo run draws the masks of a step one after another from one generator, each in the shape of its
own batch. Here each lane has a generator of its own; at the first chunk the mask of each call is
drawn in that shape and kept, and every chunk of the step gets its rows of it, cut to its own length
or filled up where it is longer, with padding that nobody sees. On a CPU these are the masks of the
solo run. On a GPU that draws them inside its kernels, by the shape of the whole batch; there a lane
has masks of its own, the same whichever lanes are with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from landscape.errors import UserError
from landscape.training.packed.chunks import Chunk

DRAWING = frozenset({
    torch.dropout, torch.feature_dropout, torch.alpha_dropout, torch.feature_alpha_dropout,
    F.alpha_dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.feature_alpha_dropout,
    F.multi_head_attention_forward, F.gumbel_softmax, torch.bernoulli, torch.rand_like,
    torch.randn_like, Tensor.bernoulli_, Tensor.uniform_, Tensor.normal_,
})  # fmt: skip
"""What draws and is not replaced; on a CPU `nothing_drawn` sees whatever draws."""
DRAWN = (
    "expected a model whose dropout is torch's, got one that draws random numbers otherwise; train "
    "these runs one at a time"
)


class Solo(NamedTuple):
    """The shape of a lane's solo batch.

    heights: of each of its examples, the rows that the model sees: 1, or its candidates.
    length: tokens of a row.
    """

    heights: tuple[int, ...]
    length: int

    def rows(self, place: int) -> range:
        """Return which rows of the batch are an example's."""
        first = sum(self.heights[:place])
        return range(first, first + self.heights[place])


class LaneDropout(TorchFunctionMode):
    """Replace a model's dropout by that of the solo runs.

    Args:
        seeds: lane -> the seed of its step.
        left: whether rows are padded on the left.
        device: of the model, which draws: a CPU takes 10 ns an entry, longer than a GPU's step.
    """

    def __init__(self, seeds: Mapping[int, int], *, left: bool, device: torch.device) -> None:
        super().__init__()
        self._generators = {
            lane: torch.Generator(device).manual_seed(seed) for lane, seed in seeds.items()
        }
        self._device = device
        self._left = left
        self._solo: dict[int, Solo] = {}
        self._drawn: list[dict[int, Tensor]] = []
        self._places: list[tuple[int, int]] = []
        self._chosen: dict[int, dict[int, int]] = {}
        self._length = self._call = 0

    def begin_batch(self, chunks: Sequence[Chunk]) -> None:
        """Begin the next of each lane's batches, whose rows are in some chunks: draw anew."""
        self._solo, self._drawn = _solo(chunks), []

    def begin_chunk(self, chunk: Chunk) -> None:
        """Begin one of the batch's chunks."""
        self._places = [
            (row.lane, at) for row in chunk.rows for at in self._solo[row.lane].rows(row.place)
        ]
        self._chosen = {}
        for i, (lane, at) in enumerate(self._places):
            self._chosen.setdefault(lane, {})[i] = at
        self._length, self._call = chunk.batch["input_ids"].shape[1], 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Replace what drops out; refuse what draws otherwise."""
        kwargs = kwargs or {}
        if func is F.dropout:
            return self._dropout(*args, **kwargs)
        if func is F.scaled_dot_product_attention and _probability(args, kwargs):
            return self._attention(*args, **kwargs)
        if self._device.type != "cpu" and func in DRAWING:
            raise UserError(DRAWN)
        return func(*args, **kwargs)

    def _dropout(
        self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or p == 0:
            return input
        if p == 1:
            return input * 0
        return input * self._scale(input, p)

    def _attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
        dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        """Attend as torch's own mathematics does where it drops out."""
        if enable_gqa:
            times = query.shape[-3] // key.shape[-3]
            key, value = (t.repeat_interleave(times, -3) for t in (key, value))
        factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        scores = (query * factor) @ key.transpose(-2, -1)
        if is_causal:
            seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
            attn_mask = seen if attn_mask is None else attn_mask
        weights = _weights(scores, attn_mask)
        return self._dropout(weights, dropout_p) @ value

    @torch.no_grad()
    def _scale(self, input: Tensor, p: float) -> Tensor:
        """Return 1 / (1 - p) where an entry stays and 0 where it is dropped, as `input` is."""
        if self._call == len(self._drawn):
            self._drawn.append({lane: self._draw(lane, input, p) for lane in self._solo})
        drawn = self._drawn[self._call]
        self._call += 1
        size = [len(self._places), *self._rows(input)]
        kept = torch.ones(size, dtype=torch.bool, device=self._device)
        for lane, places in self._chosen.items():
            self._put(drawn[lane], kept, places)
        return kept.reshape(input.shape).to(input.device, input.dtype).div_(1 - p)

    def _draw(self, lane: int, input: Tensor, p: float) -> Tensor:
        """Draw a mask in the shape of a lane's solo batch, and in the order of its memory."""
        rows, length = sum(self._solo[lane].heights), self._solo[lane].length
        axes = self._axes(input)
        shape = [length if axis else size for size, axis in zip(input.shape, axes, strict=True)]
        flattened = len(input) != len(self._places)
        shape[0] = rows * length if flattened else rows
        strides = input.stride()
        order = sorted(range(input.dim()), key=lambda i: -strides[i])
        size = [shape[i] for i in order]
        memory = torch.empty(size, dtype=input.dtype, device=self._device)
        mask = memory.bernoulli_(1 - p, generator=self._generators[lane])
        mask = mask.permute([order.index(i) for i in range(input.dim())])
        mask = mask.reshape(rows, length, *shape[1:]) if flattened else mask
        return mask != 0

    def _rows(self, input: Tensor) -> list[int]:
        """Return the shape of one row of an input."""
        if len(input) == len(self._places):
            return list(input.shape[1:])
        return [self._length, *input.shape[1:]]

    def _axes(self, input: Tensor) -> list[bool]:
        """Tell which of a tensor's dimensions count tokens.

        Raises:
            UserError: it is none of (rows, d), (rows, t, d), (rows, heads, t, t), (rows t, d).
        """
        shape, rows, t = tuple(input.shape), len(self._places), self._length
        if shape[0] == rows:
            if len(shape) == 2:
                return [False, False]
            if len(shape) == 3 and shape[1] == t:
                return [False, True, False]
            if len(shape) == 4 and shape[2:] == (t, t):
                return [False, False, True, True]
        elif len(shape) == 2 and shape[0] == rows * t:
            return [False, False]
        raise UserError(
            f"expected dropout of {rows} rows of {t} tokens, got it of a tensor {shape}; train "
            "these runs one at a time"
        )

    def _put(self, drawn: Tensor, kept: Tensor, rows: Mapping[int, int]) -> None:
        """Write a lane's masks into its rows of a chunk's, of which padding stays.

        Args:
            drawn: (solo rows, ...).
            kept: (rows, ...).
            rows: of the chunk -> those of the lane's solo batch.
        """
        for axis, (have, want) in enumerate(zip(drawn.shape[1:], kept.shape[1:], strict=True), 1):
            size = min(have, want)
            drawn = drawn.narrow(axis, have - size if self._left else 0, size)
            kept = kept.narrow(axis, want - size if self._left else 0, size)
        here, own = (_slice(list(some)) for some in (rows.keys(), rows.values()))
        kept[here] = drawn[own]


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Refuse a forward that draws random numbers past the lanes' generators, on the CPU.

    A GPU's generator says nothing: some attention kernels move it without dropout.

    Raises:
        UserError: it does.
    """
    before = torch.get_rng_state()
    yield
    if not torch.equal(before, torch.get_rng_state()):
        raise UserError(DRAWN)


def _slice(places: list[int]) -> slice | list[int]:
    """Return places as a slice, which copies nothing, where they follow one another."""
    first, count = places[0], len(places)
    return slice(first, first + count) if places == list(range(first, first + count)) else places


def _weights(scores: Tensor, seen: Tensor | None) -> Tensor:
    """Return the softmax of attention's scores; a token that sees nothing, as padding, has none."""
    if seen is None:
        return scores.softmax(-1)
    if seen.dtype != torch.bool:
        scores, seen = scores + seen, seen > -torch.inf
    else:
        scores = scores.masked_fill(~seen, -torch.inf)
    blind = ~seen.any(-1, keepdim=True)
    if scores.device.type == "cpu" and not bool(blind.any()):  # elsewhere asking is dearer
        return scores.softmax(-1)
    return scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)


def _probability(args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
    found: float = args[4] if len(args) > 4 else kwargs.get("dropout_p", 0.0)
    return found


def _solo(chunks: Sequence[Chunk]) -> dict[int, Solo]:
    """Return the shape of each lane's solo batch, from the chunks that hold its rows."""
    heights: dict[int, dict[int, int]] = {}
    lengths: dict[int, int] = {}
    for chunk in chunks:
        tokens, first = chunk.batch["attention_mask"].sum(1).tolist(), 0
        for row, height in zip(chunk.rows, chunk.height, strict=True):
            heights.setdefault(row.lane, {})[row.place] = height
            longest = max(tokens[first : first + height])
            lengths[row.lane] = max(lengths.get(row.lane, 0), int(longest))
            first += height
    return {
        lane: Solo(tuple(own[place] for place in sorted(own)), lengths[lane])
        for lane, own in heights.items()
    }
