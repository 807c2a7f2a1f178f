"""Masked tensors: where theta lives, and what whoever reads the weight gets.

A site is a masked tensor. Its owner, the first module that holds it, has the parameter
``theta_<leaf>`` and the buffers ``theta_<leaf>_indices`` and ``theta_<leaf>_origin``, the weights'
pretrained values. The stored tensor holds W_0 + S(theta), brought up to date when somebody looks:

    in place      theta and the weight are the model's own: written if theta has changed since
    out of place  either is another's (functional_call, a replica) or is being traced, batched or
                  differentiated by torch.func: a copy with S(theta) in it, in plain torch
    beside        quantised and sharded weights: y = module(x) + x S(theta)^T, in a hook
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from landscape.errors import UserError
from landscape.kernels import Coordinates, sparse_product
from landscape.models.tensors import is_quantised

PREFIX = "theta_"
_WRITING = threading.RLock()
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Site:
    """Hold one masked tensor: which module has its theta, and what was last written for it.

    Args:
        owner, leaf: the tensor is ``owner.<leaf>``; other modules may be tied to it.
        beside: whether theta stays beside the weight.
    """

    def __init__(self, owner: nn.Module, leaf: str, beside: bool) -> None:
        self.owner, self.leaf, self.beside = owner, leaf, beside
        #: stands in for the weight while somebody wants its dense gradient
        self.watched: Tensor | None = None
        self._key: tuple[int, ...] | None = None
        self._written: Tensor | None = None
        self._coordinates: Coordinates | None = None
        self.adopt()

    @property
    def theta(self) -> Tensor:
        """Return theta as the owner shows it now, shape (k,)."""
        return own(self.owner, PREFIX + self.leaf)

    @property
    def indices(self) -> Tensor:
        """Return the flat indices, shape (k,)."""
        return own(self.owner, f"{PREFIX}{self.leaf}_indices")

    @property
    def origin(self) -> Tensor:
        """Return the pretrained values, shape (k,); zeros where theta stays beside the weight."""
        return own(self.owner, f"{PREFIX}{self.leaf}_origin")

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
        """Take the tensors that the owner has now for the model's own, whatever was written."""
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

        Cost: two versions and addresses, and on a processor k numbers compared, because a write
        through ``.data`` changes no version; elsewhere k numbers written, which waits for nothing.
        """
        theta, weight = self.held, self.weight
        if theta.dtype not in (torch.float32, torch.float64):
            raise UserError(
                f"theta must be float32 or float64 to hold small updates, got {theta.dtype}: cast "
                "the model before a mask is attached, or merge first"
            )
        if self.beside or not theta.numel():
            return
        key = (theta._version, theta.data_ptr(), weight._version, weight.data_ptr())
        if key == self._key and self._written is not None:
            if not _is_near(weight):
                with torch.no_grad():  # through .data: the same numbers, and no new version
                    weight.data.view(-1).index_copy_(0, self.indices, self._values())
                return
            if _same(theta, self._written):
                return
        with _WRITING, torch.inference_mode(False), torch.no_grad():
            self._write()

    def _values(self) -> Tensor:
        values = self.origin.to(self.held.dtype) + self.held.detach()
        return values.to(self.weight.dtype)

    def _write(self) -> None:
        theta, weight = self.held, self.weight
        self._check_shape(weight)
        flat, values, indices = weight.detach().view(-1), self._values(), self.indices
        at = (theta._version, theta.data_ptr())
        renewed = self._key is None or self._key[:2] != at
        # Writing bumps the weight's version, which invalidates graphs of another point; so only
        # when something changed, or two uses of one tensor in a forward would invalidate each
        # other. On another device than the processor to compare is to wait: theta's version tells.
        if renewed and not _is_near(weight):
            flat.index_copy_(0, indices, values)
        elif not _same(flat.index_select(0, indices), values):
            if not renewed and _same(theta, self._written):
                raise self._overwritten()
            flat.index_copy_(0, indices, values)
        self._written = theta.detach().clone()
        self._key = (theta._version, theta.data_ptr(), weight._version, weight.data_ptr())

    def scattered(self, weight: Tensor, holder: nn.Module) -> Tensor:
        """Return a copy of a weight with S(theta) in it, in operations that torch knows.

        Args:
            weight: shape of the tensor.
            holder: the module with theta and its indices: the owner, or its replica.
        """
        theta = own(holder, PREFIX + self.leaf)
        indices = own(holder, f"{PREFIX}{self.leaf}_indices")
        origin = own(holder, f"{PREFIX}{self.leaf}_origin")
        values = (origin.to(theta.dtype) + theta).to(weight.dtype)
        return weight.reshape(-1).index_copy(0, indices, values).view(weight.shape)

    def check_given(self, weight: Tensor) -> None:
        """Refuse another weight under the model's own theta that is not W_0 + S(theta) there."""
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


class Live(dict[str, Any]):
    """The parameters of a module with masked tensors: whoever looks finds W_0 + S(theta)."""

    def __init__(self, values: Any, sites: dict[str, Site]) -> None:
        super().__init__(values)
        self._sites = sites

    def __getitem__(self, name: str) -> Any:
        self._look(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a parameter."""
        self._look(name)
        return super().get(name, default)

    def items(self) -> Any:
        """Return the parameters with their names."""
        self._look(*self._sites)
        return super().items()

    def values(self) -> Any:
        """Return the parameters."""
        self._look(*self._sites)
        return super().values()

    def __reduce__(self) -> Any:
        return dict, (list(self.items()),)

    def _look(self, *names: str) -> None:
        if in_plain_torch():
            return
        for name in names:
            if name in self._sites:
                self._sites[name].synchronise()


def own(module: nn.Module, name: str) -> Any:
    """Return a parameter or buffer of a module as it is stored; a replica's are attributes."""
    for kind in ("_parameters", "_buffers"):
        held = module.__dict__[kind]
        if dict.__contains__(held, name):
            return dict.__getitem__(held, name)
    return module.__dict__[name]


def read(module: nn.Module, leaf: str) -> Tensor:
    """Return what ``module.<leaf>`` is for whoever reads it: W_0 + S(theta), differentiable.

    Where gradients are wanted the weight itself stands in, its gradient gathered at the mask.
    """
    site: Site = module.__dict__["_masked"][leaf]
    try:
        weight: Tensor = own(module, leaf)
    except KeyError:
        raise AttributeError(f"{type(module).__name__} has no attribute {leaf!r}") from None
    if "_is_replica" in module.__dict__:
        return site.scattered(weight, weight.__dict__["_holder"])
    if in_plain_torch():
        return site.scattered(weight, site.owner)
    if site.watched is not None:
        site.synchronise()
        return site.watched
    theta = site.theta
    if not site.holds(theta, weight):
        if theta is site.held and weight is not site.weight:
            site.check_given(weight)
        return site.scattered(weight, site.owner)
    site.synchronise()
    if not is_differentiated(theta):
        return weight
    out: Any = _Effective.apply(theta, weight.detach(), site.indices)
    out._is_param = True  # to those who ask, as Module.get_parameter does, it is a parameter
    weight = out
    return weight


def put(module: nn.Module, leaf: str, value: Any) -> None:
    """Give a replica its copy of a weight: what ``replica.<leaf> = copy`` does.

    Tied modules get the same copy, which remembers the replica that has theta.

    Raises:
        UserError: the module is no replica.
    """
    site: Site = module.__dict__["_masked"][leaf]
    if "_is_replica" not in module.__dict__:
        raise UserError(
            f"expected a masked {leaf} to stay in its place, got a {type(value).__name__} put "
            "there; change theta, or detach the mask first"
        )
    if module.__dict__["_masked"] is site.owner.__dict__["_masked"] and leaf == site.leaf:
        value._holder = module
    module.__dict__[leaf] = value


def in_plain_torch() -> bool:
    """Tell whether what runs is recorded or transformed by something that knows torch only."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None
    )


def is_differentiated(theta: Tensor) -> bool:
    """Tell whether a derivative by theta is wanted here, backward or forward."""
    if torch.is_grad_enabled() and theta.requires_grad:
        return True
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(theta).tangent is not None


def alias_of(site: Site, receive: Callable[[Tensor], None]) -> Tensor:
    """Return a stand-in for a site's weight that hands its dense gradient to a function.

    As ``site.watched``, forwards use it; for a quantised weight, whose own product has no
    gradient, it is a zero matrix of one number.
    """
    if site.beside:
        module: Any = site.owner
        theta = site.theta
        zero = torch.zeros((), dtype=theta.dtype, device=theta.device)
        alias = zero.expand(module.out_features, module.in_features)
    else:
        site.synchronise()
        alias = site.weight.detach()
    alias = alias.requires_grad_()
    alias.register_post_accumulate_grad_hook(receive)
    return alias


def is_beside(module: nn.Module, leaf: str) -> bool:
    """Tell whether theta stays beside a layer's weight; a sharded one is whole in its forward."""
    return leaf == "weight" and is_quantised(module)


def add_product(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
    """Add x S(theta)^T to the output of a layer, as its forward hook."""
    site: Site = module.__dict__["_masked"]["weight"]
    site.synchronise()
    x: Tensor = args[0] if args else next(iter(kwargs.values()))
    flat = autocast(x.reshape(-1, x.shape[-1]))
    theta = site.theta
    if site.watched is not None:
        theta = theta.detach()  # its gradient comes from the alias's, which is zero
    change = sparse_product(theta, flat, site.coordinates)
    if site.watched is not None:
        change = change + flat @ site.watched.to(flat.dtype).t()
    return output + change.view(output.shape).to(output.dtype)


def autocast(x: Tensor) -> Tensor:
    """Cast as autocast would, once, so that what is kept for backward is narrow too."""
    kind = x.device.type
    if x.dtype == torch.float64 or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))


def _is_near(tensor: Tensor) -> bool:
    """Tell whether numbers can be compared without waiting for a device."""
    return tensor.device.type == "cpu"


def _same(left: Tensor, right: Tensor | None) -> bool:
    """Tell whether numbers are the same, NaN being what it was."""
    if right is None or left.dtype != right.dtype:
        return False
    if torch.equal(left, right):
        return True
    bits = _BITS[left.element_size()]
    return torch.equal(left.detach().view(bits), right.view(bits))


class _Effective(torch.autograd.Function):
    """The weight itself, whose gradient is gathered at the mask: no copy forward."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
        ctx.indices, ctx.dtype = indices, theta.dtype
        ctx.shape, ctx.kept = weight.shape, weight.dtype
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad = grads[0].to_dense() if grads[0].is_sparse else grads[0]
        return grad.reshape(-1).index_select(0, ctx.indices).to(ctx.dtype), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        change = torch.zeros(ctx.shape, dtype=ctx.kept, device=tangents[0].device)
        flat = change.reshape(-1).index_copy(0, ctx.indices, tangents[0].to(ctx.kept))
        return flat.view(ctx.shape)
