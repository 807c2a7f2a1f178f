"""The masked weights of all lanes in a few tensors, and their layers' products in one call each.

On a GPU a launch costs what 10,000 multiplications do, so R lanes must not need R launches. Here
the thetas of all lanes are the rows of one matrix (R, K), of which every lane's parameters are
views. A masked layer copies W_0 R times, writes all lanes' values into the copies at once, and
multiplies by them in one batched product; its gradient is a batched product of which the masked
entries are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from landscape.subspace.beside import autocast
from landscape.training.packed.course import Course

MATRICES = 2**30
"""Most bytes of the copies of a matrix that are there at once; at least one copy is."""


@dataclass(frozen=True)
class Rows:
    """Say which lane's the rows of a batch are, which are ordered by lane.

    Args:
        first: place of the first lane, among those of the stack.
        sizes: rows of that lane and of those that follow; 0 for none.
        places: of each row in a batch that has equally many of each lane; None where it has.
    """

    first: int
    sizes: Sequence[int]
    places: Int64[Tensor, " rows"] | None

    @staticmethod
    def of(first: int, sizes: Sequence[int], device: torch.device) -> Rows:
        """Make them on a device."""
        most = max(sizes)
        if min(sizes) == most:
            return Rows(first, sizes, None)
        places = [i * most + j for i, size in enumerate(sizes) for j in range(size)]
        return Rows(first, sizes, torch.tensor(places, device=device))

    def spread(self, x: Float[Tensor, "..."]) -> Float[Tensor, "lanes tokens inner"]:
        """Return a tensor of rows lane by lane, filled up with rows of zeros."""
        inner, count = x.shape[-1], len(self.sizes)
        if self.places is None:
            return x.reshape(count, -1, inner)
        flat = x.reshape(len(self.places), -1)
        full = flat.new_zeros(count * max(self.sizes), flat.shape[1])
        return full.index_copy_(0, self.places, flat).view(count, -1, inner)

    def gather(self, out: Tensor, shape: Sequence[int]) -> Float[Tensor, "..."]:
        """Undo `spread`, in the shape that the rows had."""
        if self.places is not None:
            out = out.reshape(len(self.sizes) * max(self.sizes), -1)[self.places]
        return out.reshape(tuple(shape))


@dataclass(frozen=True)
class _Tensor:
    """One masked tensor: of which entries of R copies of it the lanes' values are, in order."""

    weight: nn.Parameter
    index: Int64[Tensor, " k"]
    bounds: Sequence[int]
    start: int
    """Of its entries among those of all tensors."""

    def of(self, first: int, last: int) -> tuple[slice, Tensor]:
        """Return, for some lanes, their entries among all, and where they are in their copies."""
        low, high = self.bounds[first], self.bounds[last]
        index = self.index[low:high]
        if first:
            index = index - first * self.weight.numel()
        return slice(self.start + low, self.start + high), index


class Stack:
    """Hold the thetas of lanes as rows of one matrix.

    Args:
        model: the frozen one.
        courses: lane -> what it has of its own; some have a mask, and `stackable` says yes.
        bind: whether the lanes' parameters become views of the matrix.
    """

    def __init__(
        self, model: nn.Module, courses: Mapping[int, Course], *, bind: bool = True
    ) -> None:
        self.courses = dict(courses)
        held, own = dict(model.named_parameters()), list(self.courses.values())
        names = list(dict.fromkeys(name for course in own for name in course.masked))
        thetas = [[weight.theta for weight in course.masked.values()] for course in own]
        one = held[names[0]] if names else next(model.parameters())
        self.device, self.dtype = one.device, one.dtype
        self.width = max(sum(theta.numel() for theta in row) for row in thetas)
        self.theta = self.rows(thetas)
        self._origin = self.rows([[w.origin for w in course.masked.values()] for course in own])
        self.gradient = torch.zeros_like(self.theta)
        for row, values in zip(thetas, self.theta, strict=True) if bind else ():
            for theta, view in zip(row, self.views(row, values), strict=True):
                theta.data = view
        self._tensors: dict[int, _Tensor] = {}
        places: list[Tensor] = []
        for name in names:
            module = model.get_submodule(name.rpartition(".")[0])
            self._tensors[id(module)] = self._tensor(name, held[name], places)
        nowhere = torch.zeros(0, dtype=torch.long, device=self.device)
        self._order = torch.cat([nowhere, *places])
        self._found = self.theta.new_zeros(len(self._order))
        self._values: dict[torch.dtype, Tensor] = {}
        self.at: Rows
        """Whose the rows of the batch at hand are."""

    def rows(self, values: Sequence[Sequence[Tensor]]) -> Float[Tensor, "lanes width"]:
        """Return values of the lanes, in theta's type, each lane's one after another, as rows."""
        kind = torch.promote_types(self.dtype, torch.float32)
        found = torch.zeros(len(values), self.width, dtype=kind, device=self.device)
        for own, row in zip(values, found, strict=True):
            if own:
                flat = torch.cat([value.detach().to(kind) for value in own])
                row[: len(flat)] = flat
        return found

    def views(self, like: Sequence[Tensor], row: Float[Tensor, " width"]) -> list[Tensor]:
        """Return the parts of a row that belong to a lane's parameters."""
        sizes = [value.numel() for value in like]
        return list(row[: sum(sizes)].split(sizes)) if sizes else []

    @torch.no_grad()
    def begin(self) -> None:
        """Begin a step: thetas are what they are now, gradients are 0."""
        shown = (self._origin + self.theta).to(self.dtype)
        self._values = {self.dtype: shown.view(-1)[self._order]}
        self._found.zero_()

    @torch.no_grad()
    def end(self) -> None:
        """End a step: give ``gradient`` (R, K) what was found."""
        self.gradient.view(-1).index_copy_(0, self._order, self._found)

    def product(self, module: nn.Module, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return the output of a masked layer, each row by the weights of its lane."""
        narrow = autocast(x)
        bias = None if bias is None else bias.detach().to(narrow.dtype)
        anchor = torch.zeros((), device=x.device, requires_grad=torch.is_grad_enabled())
        made: Any = _Product
        tensor, transpose = self._tensors[id(module)], isinstance(module, nn.Linear)
        out: Tensor = made.apply(narrow, bias, anchor, self, tensor, self.at, transpose)
        return out

    def matrices(self, tensor: _Tensor, first: int, last: int, dtype: torch.dtype) -> Tensor:
        """Return the matrices of some lanes, (lanes, rows, cols)."""
        if dtype not in self._values:
            self._values[dtype] = self._values[self.dtype].to(dtype)
        where, index = tensor.of(first, last)
        made = tensor.weight.detach().to(dtype).repeat(last - first, 1, 1)
        made.view(-1).index_copy_(0, index, self._values[dtype][where])
        return made

    def keep(self, tensor: _Tensor, first: int, last: int, full: Tensor) -> None:
        """Add the masked entries of some lanes' full gradients to what was found."""
        where, index = tensor.of(first, last)
        self._found[where] += full.reshape(-1)[index].to(self._found.dtype)

    def _tensor(self, name: str, weight: nn.Parameter, places: list[Tensor]) -> _Tensor:
        index, bounds, start = [], [0], sum(map(len, places))
        for i, course in enumerate(self.courses.values()):
            count = 0
            if name in course.masked:
                before = list(course.masked).index(name)
                sizes = [w.theta.numel() for w in course.masked.values()]
                first, count = i * self.width + sum(sizes[:before]), sizes[before]
                places.append(torch.arange(first, first + count, device=self.device))
                index.append(course.masked[name].indices + i * weight.numel())
            bounds.append(bounds[-1] + count)
        return _Tensor(weight, torch.cat(index), bounds, start)


def stackable(model: nn.Module, courses: Sequence[Course]) -> bool:
    """Tell whether lanes can be stacked: masks of weights of one type, which no lane has whole."""
    held = dict(model.named_parameters())
    masked = {name for course in courses for name in course.masked}
    whole = {name for course in courses for name in (*course.own, *course.dense)}
    kinds = {(held[name].dtype, held[name].device) for name in masked}
    return len(kinds) == 1 and not masked & whole


class _Product(torch.autograd.Function):
    """The anchor makes autograd ask for a gradient; that of theta goes to the stack at once."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor | None, anchor: Tensor, stack: Stack, tensor: _Tensor,
        at: Rows, transpose: bool,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x)
        ctx.held = stack, tensor, at, transpose
        spread, parts = at.spread(x), []
        for first, last in _pieces(at, tensor.weight, x):
            matrices = stack.matrices(tensor, at.first + first, at.first + last, x.dtype)
            matrices = matrices.mT if transpose else matrices
            own = spread[first:last]
            added = None if bias is None else bias.view(1, 1, -1)
            parts.append(own @ matrices if added is None else added.baddbmm(own, matrices))
        return _shaped(at, parts, x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,), (stack, tensor, at, transpose) = ctx.saved_tensors, ctx.held
        right, left, parts = at.spread(x), at.spread(grads[0]), []
        for first, last in _pieces(at, tensor.weight, x):
            lanes, g, own = (at.first + first, at.first + last), left[first:last], right[first:last]
            if ctx.needs_input_grad[0]:
                matrices = stack.matrices(tensor, *lanes, x.dtype)
                parts.append(g @ (matrices if transpose else matrices.mT))
                del matrices
            stack.keep(tensor, *lanes, _full(g, own) if transpose else _full(own, g))
        grad_x = _shaped(at, parts, grads[0]) if parts else None
        return grad_x, None, None, None, None, None, None


def _full(a: Tensor, b: Tensor) -> Float[Tensor, "lanes rows cols"]:
    """Return a^T b of every lane, in at least float32."""
    narrow = a.dtype in (torch.bfloat16, torch.float16)
    if a.is_cuda and narrow and "dtype" in torch.ops.aten.bmm.overloads():  # torch 2.8 has it
        return torch.bmm(a.mT, b, out_dtype=torch.float32)
    wide = torch.promote_types(a.dtype, torch.float32)
    return torch.bmm(a.mT.to(wide), b.to(wide))


def _pieces(at: Rows, weight: Tensor, x: Tensor) -> list[tuple[int, int]]:
    """Return the runs of lanes whose matrices are made at once."""
    count = len(at.sizes)
    size = weight.numel() * max(x.element_size(), 4)
    each = max(1, MATRICES // size)
    return [(first, min(first + each, count)) for first in range(0, count, each)]


def _shaped(at: Rows, parts: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return the products of all lanes as rows, in the shape of what was multiplied."""
    whole = parts[0] if len(parts) == 1 else torch.cat(list(parts))
    return at.gather(whole, (*like.shape[:-1], whole.shape[-1]))
