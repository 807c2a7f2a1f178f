"""The class that a module has while weights of it are masked.

`attach` leaves the model's code alone. It changes what the modules with masked tensors *are*: each
gets a generated subclass of its own class, of the same name, made once a class; and its dict of
parameters becomes a dict that knows which of them are masked.

    before                          attached
    Linear                          Linear, made of (_Masked, Linear)
      _parameters: dict               _parameters: Live, a dict
        weight, bias                    weight, bias, theta_weight
      weight: looked up there         weight: a property

    who looks                       passes                      which is in
    layer.weight                    the property                readers.read
    parameters(), state_dict()      Live                        readers.Live
    layer(x)                        Linear's or Conv1D's        forwards
    copies, pickles, .to(), load    the methods of _Masked      here

All of them end at `Site.synchronise`, so that everybody finds W_0 + S(theta). `detach` gives the
class and the dict back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from landscape.errors import UserError
from landscape.subspace.beside import add_product
from landscape.subspace.forwards import FORWARDS
from landscape.subspace.readers import Live, put, read
from landscape.subspace.sites import PREFIX, Site


def install(module: nn.Module, leaf: str, site: Site) -> None:
    """Let everybody who reads ``module.<leaf>`` read a masked tensor."""
    sites = module.__dict__.setdefault("_masked", {})
    sites[leaf] = site
    if site.beside:
        hook = module.register_forward_hook(add_product, with_kwargs=True)
        module.__dict__["_product_hook"] = hook
    base: Any = type(module)
    leaves = {leaf for leaf, site in sites.items() if not site.beside}
    if isinstance(module, _Masked):
        base = module._masked_base
    module.__class__ = _subclass(base, frozenset(leaves))
    if not isinstance(module._parameters, Live):
        module.__dict__["_parameters"] = Live(module._parameters, sites)


def uninstall(module: nn.Module) -> None:
    """Take theta, its buffers and the class from a module."""
    assert isinstance(module, _Masked)
    plain = dict(dict.items(module._parameters))
    for leaf, site in module.__dict__.pop("_masked").items():
        if site.owner is module and site.leaf == leaf:
            del plain[PREFIX + leaf]
            for name in (f"{PREFIX}{leaf}_indices", f"{PREFIX}{leaf}_origin"):
                del module._buffers[name]
    module.__dict__["_parameters"] = plain
    hook: RemovableHandle | None = module.__dict__.pop("_product_hook", None)
    if hook is not None:
        hook.remove()
    module.__class__ = type(module)._masked_base
    if isinstance(module, nn.RNNBase):
        module._flat_weights = _flat_weights(module)


class _Masked(nn.Module):
    """What the classes of all masked modules add to their own."""

    _masked_base: type[nn.Module]
    _masked_leaves: frozenset[str]

    def _apply(self: Any, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Cast and move; theta, which holds small updates, is never narrower than float32."""
        thetas = [site.held for leaf, site in self._masked.items() if _owns(self, leaf)]
        held = [t for theta in thetas for t in (theta, theta.grad) if t is not None]

        def widely(tensor: Tensor) -> Tensor:
            out = fn(tensor)
            if any(tensor is theta for theta in held) and out.dtype.itemsize < 4:
                return tensor.to(out.device)
            return out

        with _closed(self):
            super()._apply(widely, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self: Any, state: Any, prefix: str, *given: Any) -> None:
        refuse_mixture(self, state, prefix)
        with _closed(self):
            super()._load_from_state_dict(state, prefix, *given)

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        for site in self._masked.values():
            site.synchronise()
        parts: Any = super().__reduce_ex__(protocol)
        make, given, state, *rest = parts
        if make is not _NEW or given[0] is not type(self) or not isinstance(state, dict):
            raise UserError(
                f"expected a {type(self).__name__} that copies as modules do, got one with rules "
                "of its own; merge the mask before copying"
            )
        plain = dict(dict.items(state["_parameters"]))
        kinds = (type(self)._masked_base, type(self)._masked_leaves)
        return (_blank, (*kinds, *given[1:]), {**state, "_parameters": plain}, *rest)

    def __setstate__(self: Any, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.__dict__["_parameters"] = Live(self.__dict__["_parameters"], self._masked)


_NEW = nn.Module().__reduce_ex__(2)[0]  # copyreg's maker of empty objects


@contextmanager
def _closed(module: nn.Module) -> Iterator[None]:
    """Give a module a plain dict while torch replaces its tensors (``.to``, ``load_state_dict``).

    Meanwhile to read the dict writes nothing; then the module's own sites are bound to the new
    tensors.
    """
    module.__dict__["_parameters"] = dict(dict.items(module._parameters))
    try:
        yield
    finally:
        module.__dict__["_parameters"] = Live(module._parameters, module.__dict__["_masked"])
        for leaf, site in module.__dict__["_masked"].items():
            if _owns(module, leaf):
                site.adopt()


def refuse_mixture(module: nn.Module, state: Mapping[str, Tensor], prefix: str) -> None:
    """Refuse a state that would put other weights under the theta and origin of a module.

    Raises:
        UserError: it has the weights without theta, or theta of another mask.
    """
    for leaf, site in module.__dict__["_masked"].items():
        if not _owns(module, leaf):
            continue
        theta = prefix + PREFIX + leaf
        indices, origin = f"{theta}_indices", f"{theta}_origin"
        held, stored = site.indices, state.get(indices)
        if stored is not None and not torch.equal(stored.to(held.device), held):
            raise UserError(
                f"expected the state of a model with this mask, got one with another mask of "
                f"{prefix}{leaf}; attach the mask that it was saved with"
            )
        if (prefix + leaf in state or origin in state) and not {theta, origin} <= state.keys():
            raise UserError(
                f"expected theta with the weights of {prefix}{leaf}, which is masked, got weights "
                "alone; detach the mask, load them, and attach it again"
            )


@cache
def _subclass(base: Any, leaves: frozenset[str]) -> Any:
    names: dict[str, Any] = {leaf: _property(leaf) for leaf in leaves}
    if base in FORWARDS and "weight" in leaves:
        names["forward"] = FORWARDS[base]
    if issubclass(base, nn.RNNBase):
        names["_flat_weights"] = property(_flat_weights, _leave_flat_weights)
    if issubclass(base, nn.Embedding) and "weight" in leaves:
        names["num_embeddings"] = property(_rows, _set_rows)
    same = {n: getattr(base, n) for n in ("__module__", "__qualname__", "__doc__")}
    made = type(
        base.__name__,
        (_Masked, base),
        {**same, "_masked_base": base, "_masked_leaves": leaves, **names},
    )
    return made


def _blank(base: type[nn.Module], leaves: frozenset[str], *given: Any) -> nn.Module:
    kind: Any = _subclass(cast(Any, base), leaves)
    made: nn.Module = kind.__new__(kind, *given)
    return made


def _property(leaf: str) -> property:
    return property(lambda self: read(self, leaf), lambda self, value: put(self, leaf, value))


def _owns(module: nn.Module, leaf: str) -> bool:
    site = module.__dict__["_masked"][leaf]
    return site.owner is module and site.leaf == leaf


def _flat_weights(module: Any) -> list[Tensor | None]:
    """Return the weights of a recurrent layer, which keeps a list of its own."""
    return [getattr(module, name, None) for name in module._flat_weights_names]


def _leave_flat_weights(module: Any, value: list[Tensor]) -> None:
    """Keep no list: it is made whenever it is read."""


def _rows(module: Any) -> int:
    rows: int = module.__dict__["num_embeddings"]
    return rows


def _set_rows(module: Any, value: int) -> None:
    """Refuse another number of rows, as ``resize_token_embeddings`` sets it."""
    if value != module.__dict__.get("num_embeddings", value):
        raise UserError(
            f"expected {module.__dict__['num_embeddings']} rows under the mask of an embedding, "
            f"got {value}; detach the mask, resize, and make a new one"
        )
    module.__dict__["num_embeddings"] = value
