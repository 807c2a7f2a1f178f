"""Masked tensors: where theta lives, and how the stored weight is kept at W_0 + S(theta).

A site is one masked tensor. Its owner, the first module that holds it, has four entries for it:

    <leaf>                  the stored weight, in place: W_0 + S(theta), where S(theta) has theta at
                            the mask's indices and zeros elsewhere
    theta_<leaf>            parameter, shape (k,): the change of the weights on the mask
    theta_<leaf>_indices    buffer, shape (k,): their flat indices
    theta_<leaf>_origin     buffer, shape (k,): their pretrained values

The stored weight is thus a cache of theta. `Site.synchronise` brings it up to date, and everybody
who looks at it passes there first (`landscape.subspace.readers`).
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.kernels import Coordinates

PREFIX = "theta_"
_WRITING = threading.RLock()
#: of the C library; it keeps Python's lock, so that no thread frees what is compared
_MEMCMP = ctypes.PyDLL(None if os.name == "posix" else "msvcrt").memcmp
_MEMCMP.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class Site:
    """Hold one masked tensor: which module has its theta, and what was last written for it.

    Args:
        owner, leaf: the tensor is ``owner.<leaf>``; other modules may be tied to it.
        beside: whether theta stays beside the weight.
    """

    def __init__(self, owner: nn.Module, leaf: str, beside: bool) -> None:
        self.owner, self.leaf, self.beside = owner, leaf, beside
        #: of theta
        self.name = PREFIX + leaf
        #: stands in for the weight while somebody wants its dense gradient
        self.watched: Tensor | None = None
        self._key: tuple[int, ...] | None = None
        self._written: Tensor | None = None
        self._coordinates: Coordinates | None = None
        self.adopt()

    @property
    def theta(self) -> Float[Tensor, " k"]:
        """Return theta as the owner shows it now, shape (k,)."""
        return own(self.owner, self.name)

    @property
    def indices(self) -> Int64[Tensor, " k"]:
        """Return the flat indices, shape (k,)."""
        return own(self.owner, f"{self.name}_indices")

    @property
    def origin(self) -> Float[Tensor, " k"]:
        """Return the pretrained values, shape (k,); zeros where theta stays beside the weight."""
        return own(self.owner, f"{self.name}_origin")

    @property
    def flat(self) -> Tensor | None:
        """Return a flat view of the stored weight; None where theta stays beside it."""
        return None if self.beside else self.weight.detach().view(-1)

    @property
    def coordinates(self) -> Coordinates:
        """Return the indices as places of a matrix."""
        known, indices, owner = self._coordinates, self.indices, cast(Any, self.owner)
        if known is None or known.flat is not indices:
            sizes = (owner.out_features, owner.in_features) if self.beside else self.weight.shape
            known = self._coordinates = Coordinates(indices, (int(sizes[0]), int(sizes[1])))
        return known

    def adopt(self) -> None:
        """Bind this site to the theta and weight that its owner holds now.

        What was written is forgotten.
        """
        self.held = self.theta
        self.weight = cast(Any, dict.get(self.owner._parameters, self.leaf))
        self.shape = None if self.beside else self.weight.shape
        self.forget()

    def forget(self) -> None:
        """Forget what was written: the next look writes anew."""
        self._key = self._written = self._coordinates = None

    def holds(self, theta: Tensor, weight: Tensor) -> bool:
        """Tell whether these are the model's own theta, or an alias of it, and its own weight."""
        if weight is not self.weight or not weight.is_contiguous():
            return False
        if theta is self.held:
            return True
        return theta.shape == self.held.shape and theta.data_ptr() == self.held.data_ptr()

    def synchronise(self) -> None:
        """Write W_0 + S(theta) into the stored weight if theta has changed since the last time.

        Raises:
            UserError: theta is narrower than float32, or the weight was changed under it.

        Cost: where theta is current, its stamp and, on a CPU, k numbers compared; on another
        device k numbers are written, because to compare is to wait for it.
        """
        if self.is_current():
            return
        theta, weight = self.held, self.weight
        if theta.dtype not in (torch.float32, torch.float64):
            raise UserError(
                f"expected theta in float32 or float64, which hold small updates, got "
                f"{theta.dtype}; cast the model before a mask is attached, or merge first"
            )
        if self.beside or not theta.numel():
            return
        if (
            not _is_on_cpu(weight)
            and self._written is not None
            and _stamp(theta, weight) == self._key
        ):
            with torch.no_grad():  # through .data: the same numbers, and no new version
                weight.data.view(-1).index_copy_(0, self.indices, self._values())
            return
        with _WRITING, torch.inference_mode(False), torch.no_grad():
            self._write()

    def is_current(self) -> bool:
        """Tell whether theta is known to be what was written last.

        The versions and addresses tell most changes. The k numbers are compared as well, because
        a write through ``.data`` or numpy changes no version; on a CPU only (`_written`).
        """
        theta, written = self.held, self._written
        if written is None or self._key != _stamp(theta, self.weight):
            return False
        if not (written.is_cpu and theta.is_contiguous()):
            return False
        same = _MEMCMP(theta.data_ptr(), written.data_ptr(), theta.nbytes) == 0
        return same or _same(theta, written)

    def _values(self) -> Tensor:
        values = self.origin.to(self.held.dtype) + self.held.detach()
        return values.to(self.weight.dtype)

    def _write(self) -> None:
        theta, weight = self.held, self.weight
        self._check_shape(weight)
        flat, values, indices = weight.detach().view(-1), self._values(), self.indices
        renewed = self._key is None or self._key[:3] != _stamp(theta, weight)[:3]
        # Writing bumps the weight's version, which invalidates graphs of another point; so only
        # when something changed, or two uses of one tensor in a forward would invalidate each
        # other. On another device than a CPU to compare is to wait: theta's version tells.
        if renewed and not _is_on_cpu(weight):
            flat.index_copy_(0, indices, values)
        elif not _same(flat.index_select(0, indices), values):
            if not renewed and _same(theta, self._written):
                raise self._overwritten()
            flat.index_copy_(0, indices, values)
        self._written = theta.detach().clone(memory_format=torch.contiguous_format)
        self._key = _stamp(theta, weight)

    def scattered(self, weight: Tensor, holder: nn.Module) -> Tensor:
        """Return a copy of a weight with S(theta) in it, in operations that torch knows.

        Args:
            weight: shape of the tensor.
            holder: the module with theta and its indices: the owner, or its replica.
        """
        theta = own(holder, self.name)
        indices = own(holder, f"{self.name}_indices")
        origin = own(holder, f"{self.name}_origin")
        values = (origin.to(theta.dtype) + theta).to(weight.dtype)
        return weight.reshape(-1).index_copy(0, indices, values).view(weight.shape)

    def check_given(self, weight: Tensor) -> None:
        """Refuse a weight in the stored one's place that is not W_0 + S(theta) on the mask.

        Such as ``functional_call`` puts there, with the model's own theta.

        Raises:
            UserError: other values on the mask, or another shape.
        """
        self._check_shape(weight)
        with torch.no_grad():
            given = weight.detach().reshape(-1).index_select(0, self.indices)
            if not torch.equal(given, self._values().to(given.dtype)):
                raise self._overwritten()

    def _check_shape(self, weight: Tensor) -> None:
        if weight.shape != self.shape:
            raise UserError(
                f"expected {self.leaf} of shape {tuple(self.shape or ())} under its mask, got "
                f"{tuple(weight.shape)}; detach the mask, resize, and make a new one"
            )

    def _overwritten(self) -> UserError:
        return UserError(
            f"expected a masked {self.leaf} of shape {tuple(self.weight.shape)} to be W_0 + "
            "S(theta), got other values, written or put there since; change theta instead, or "
            "detach the mask, load the weights and attach it again"
        )

    def __getstate__(self) -> dict[str, Any]:
        passing = {"_key": None, "_written": None, "_coordinates": None, "watched": None}
        return {**self.__dict__, **passing}


def own(module: nn.Module, name: str) -> Any:
    """Return a parameter or buffer of a module as it is stored; a replica's are attributes."""
    entries = module.__dict__
    for held in (entries["_parameters"], entries["_buffers"]):
        if dict.__contains__(held, name):
            return dict.__getitem__(held, name)
    return entries[name]


def _stamp(theta: Tensor, weight: Tensor) -> tuple[int, ...]:
    """Return what changes with theta (three numbers) or the weight, unless through ``.data``."""
    at = theta.data_ptr()
    return theta._version, at, theta.nbytes, weight._version, weight.data_ptr()


def _is_on_cpu(tensor: Tensor) -> bool:
    """Tell whether numbers can be compared without waiting for a device."""
    return tensor.is_cpu


def _same(left: Tensor, right: Tensor | None) -> bool:
    """Tell whether two tensors hold the same numbers, NaN being what it was."""
    if right is None or left.dtype != right.dtype:
        return False
    if torch.equal(left, right):
        return True
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[left.element_size()]
    return torch.equal(left.detach().view(integers), right.view(integers))
