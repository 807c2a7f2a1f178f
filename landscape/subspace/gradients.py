"""Gradients of masked tensors: whole ones as they arise, and readers that give theta none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.models.tensors import is_sharded
from landscape.subspace.attached import attached_model, is_attached, masked_sites
from landscape.subspace.sites import Site


@contextmanager
def dense_gradients(model: nn.Module, receive: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Hand the whole gradient of every masked tensor to a function, one tensor at a time.

    In a backward inside, ``receive(name, gradient)`` is called once a tensor, as soon as its
    gradient (grad_out^T x for a Linear, summed over the uses of a tied tensor) is complete; the
    gradient is freed afterwards. theta's own gradient is gathered from it.

    Args:
        model: a model with a mask attached; the mask may be empty.
        receive: the function; it must not keep the gradient.

    Raises:
        UserError: no mask is attached, or a masked weight is sharded over processes.

    Cost: the gradient products of full fine-tuning of these tensors, and the memory of one.
    """
    sites = masked_sites(attached_model(model))
    for name, site in sites.items():
        if is_sharded(site.weight):
            raise UserError(
                f"expected whole tensors, whose dense gradient one process has, got {name}, which "
                "is sharded; make the mask on one process, and attach it to the sharded model"
            )
    for name, site in sites.items():
        site.watched = _alias_of(site, partial(_hand_over, receive, name, site))
    try:
        yield
    finally:
        for site in sites.values():
            site.watched = None


@torch.no_grad()
def _hand_over(
    receive: Callable[[str, Tensor], None], name: str, site: Site, alias: Tensor
) -> None:
    gradient, alias.grad = alias.grad, None
    assert gradient is not None
    if gradient.is_sparse:
        gradient = gradient.to_dense()
    theta = site.theta
    part = gradient.reshape(-1).index_select(0, site.indices).to(theta.dtype)
    theta.grad = part if theta.grad is None else theta.grad + part
    receive(name, gradient)


def refuse_unseen_readers(model: nn.Module, loss: Callable[[], Tensor]) -> Tensor:
    """Compute a loss, and refuse one that reads a masked weight past its mask.

    There theta misses its gradient: in a penalty on ``model.parameters()``, which are the stored
    tensors, or in a function that kept one of them before the mask was attached.

    Args:
        model: the model; one without a mask passes.
        loss: computes the loss, with its graph.

    Returns:
        The loss.

    Raises:
        UserError: with the tensor's name.

    Cost: a walk over the loss's graph.
    """
    if not is_attached(model):
        return loss()
    stored = {s.weight: n for n, s in masked_sites(attached_model(model)).items() if not s.beside}
    try:
        for weight in stored:
            weight.requires_grad_(True)
        value = loss()
    finally:
        for weight in stored:
            weight.requires_grad_(False)
    waiting, visited = [value.grad_fn], set()
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        name = stored.get(getattr(node, "variable", None))
        if name is not None:
            raise UserError(
                f"expected the loss to read {name} as its module's attribute, got one that reads "
                "the stored tensor, which gives theta no gradient; use trainable(model), or the "
                "attribute"
            )
        waiting += [following for following, _ in node.next_functions]
    return value


def _alias_of(site: Site, receive: Callable[[Tensor], None]) -> Tensor:
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
