"""Parameter groups: a learning rate for theta, another for what is dense beside the mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from landscape import checks
from landscape.errors import UserError
from landscape.subspace import dense_parameters, trainable


def parameter_groups(
    model: nn.Module, *, lr: float, dense_lr: float | None = None
) -> list[dict[str, Any]]:
    """Return the trainable parameters of a model as an optimizer takes them, each with its lr.

    Masked weights need a larger learning rate the fewer they are, a head beside them does not.

    Args:
        model: a model, as a rule with a mask attached.
        lr: the learning rate, above 0.
        dense_lr: that of the parameters beside a mask (`attach`'s ``dense``); None is `lr`.

    Returns:
        One group, or two: ``{"params": [...], "lr": ...}``, in the order of `trainable`.

    Raises:
        UserError: a rate that is not above 0, or `dense_lr` without such parameters.

    >>> from landscape import Mask, attach
    >>> import torch
    >>> model = nn.ModuleDict({"body": nn.Linear(3, 2), "head": nn.Linear(2, 1)})
    >>> mask = Mask({"body.weight": torch.tensor([1, 4])}, {"body.weight": (2, 3)}, 11)
    >>> _ = attach(model, mask, dense="head")
    >>> [(g["lr"], sum(p.numel() for p in g["params"])) for g in
    ...  parameter_groups(model, lr=0.1, dense_lr=1e-3)]
    [(0.1, 2), (0.001, 3)]
    """
    return grouped(trainable(model), dense_parameters(model), lr=lr, dense_lr=dense_lr)


def grouped(
    own: Mapping[str, nn.Parameter], dense: Mapping[str, nn.Parameter], *, lr: float,
    dense_lr: float | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return trainable parameters as `parameter_groups` does: all, and those beside a mask.

    Raises:
        UserError: as `parameter_groups`.
    """
    lr = checks.number("lr", lr, above=0)
    if dense_lr is None:
        return [{"params": list(own.values()), "lr": lr}]
    dense_lr = checks.number("dense_lr", dense_lr, above=0)
    if not dense:
        raise UserError(
            f"expected a model with dense parameters beside its mask for dense_lr, got "
            f"{dense_lr} and none; name them in attach(model, mask, dense=), or leave it out"
        )
    rest = [p for name, p in own.items() if name not in dense]
    groups = [{"params": rest, "lr": lr}, {"params": list(dense.values()), "lr": dense_lr}]
    return [group for group in groups if group["params"]]
