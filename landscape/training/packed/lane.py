"""A lane: one run of several that share a frozen model, as its differences from the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError
from landscape.masks import Mask, refuse_indices
from landscape.subspace import (
    attached_mask,
    dense_parameters,
    dense_starts,
    is_attached,
    masked_origins,
    thetas,
    trainable,
)
from landscape.tasks import Task
from landscape.training.settings import Settings


class Lane:
    """Hold one run of a pack: what it trains, on what, and how.

    Args:
        task: of the run.
        mask: of the weights that it trains; None where it trains whole tensors only.
        dense: shell patterns of parameters that it trains whole, as in `attach`.
        values: parameters of the model -> values of its own, such as a head that was fitted on its
            examples; the run starts from them, or keeps them where it does not train them.
        settings: lr and the other keyword arguments of `finetune` that are settings: epochs, seed,
            batch_size, lr_schedule, patience, ...

    Raises:
        UserError: an argument of another kind, a mask whose indices do not ascend, or a setting
            that is unknown or out of range.
    """

    def __init__(
        self,
        task: Task,
        *,
        mask: Mask | None = None,
        dense: str | Sequence[str] = (),
        values: Mapping[str, Tensor] | None = None,
        **settings: object,
    ) -> None:
        checks.instance("task", task, Task, "load or make one")
        if mask is not None:
            checks.has("mask", mask, "a Mask", "indices", "shapes", do="make one, as random_mask")
            for name, indices in mask.indices.items():
                refuse_indices(name, indices, math.prod(mask.shapes[name]))
        self.task, self.mask = task, mask
        self.dense = checks.patterns("dense", dense) if dense else ()
        self.values = {name: value.detach().clone() for name, value in (values or {}).items()}
        self.settings = Settings.of(settings)

    def __repr__(self) -> str:
        mask = "no mask" if self.mask is None else self.mask.summary()
        return f"lane on {self.task.name}, lr {self.settings.lr:g}; {mask}"


@torch.no_grad()
def lane_of(model: nn.Module, prepared: nn.Module, task: Task, **settings: object) -> Lane:
    """Read a lane from a model that was prepared for its solo run.

    Args:
        model: the frozen one that the lanes share.
        prepared: a copy of it, or the model itself, as `finetune` would be given it: a head loaded
            or fitted, a mask attached, BitFit's biases trainable. It is left as it is.
        task, settings: of the lane.

    Returns:
        The lane: mask, trained tensors, and all values that differ from the model's.

    Raises:
        UserError: theta has moved already, or `prepared` has other tensors than the model.

    Cost: one comparison of all weights, where the two are not the same model.
    """
    checks.model(prepared)
    mask, dense = None, list(trainable(prepared))
    origins: dict[str, Tensor] = {}
    starts: dict[str, Tensor] = {}
    if is_attached(prepared):
        mask, dense = attached_mask(prepared), list(dense_parameters(prepared))
        origins, starts = masked_origins(prepared), dense_starts(prepared)
        if any(bool(theta.any()) for theta in thetas(prepared).values()):
            raise UserError(
                "expected a mask whose theta is 0, where runs start, got one that was trained; "
                "detach it, and attach it again"
            )
    held = {} if model is prepared else _plain(model)
    values = {}
    for name, theirs in _plain(prepared).items() if model is not prepared else ():
        own = held.pop(name, None)
        if own is None or own.shape != theirs.shape:
            raise _other(name, "none there" if own is None else f"shape {tuple(own.shape)}")
        if name in origins:
            theirs = theirs.reshape(-1).index_copy(0, mask.indices[name], origins[name])  # type: ignore[union-attr]
        here = starts.get(name, theirs).view(own.shape)
        if not torch.equal(own, here.to(own.device)):
            values[name] = here
    if held:
        raise _other(next(iter(held)), "in one of them only")
    return Lane(task, mask=mask, dense=dense, values=values, **settings)


def _plain(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and stored buffers of a model, theta left out, by name."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        n: t.detach() for n, t in state.items() if not n.rpartition(".")[2].startswith("theta_")
    }


def _other(name: str, found: str) -> UserError:
    return UserError(
        f"expected a model with the tensors of the one that the lanes share, got {name} with "
        f"{found}; load both alike, and train modules that were added in runs of their own"
    )
