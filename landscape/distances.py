"""Distance of a model's trainable parameters to where they began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError
from landscape.masks import Mask
from landscape.shown import card
from landscape.subspace import (
    attached_mask,
    dense_starts,
    is_attached,
    masked_origins,
    positions,
    trainable,
)


@dataclass(frozen=True, repr=False)
class Distance:
    """Hold how far a model moved.

    Args:
        l2: Euclidean norm of the change.
        relative: l2 over the Euclidean norm of the initial values of the trainable parameters.
        linf: largest absolute change.
        per_tensor: tensor name -> Euclidean norm of its change.
        on_mask, off_mask: Euclidean norms of the change inside and outside a mask, if one was
            asked about; l2^2 is the sum of their squares.
        effective: Frobenius norm of the change of the weights that trained low-rank factors stand
            for (LoRA: alpha / rank times the change of B A), where a model has such factors; None
            elsewhere: masks, biases and full fine-tuning train the weights themselves, adapters
            and prefixes change none.
    """

    l2: float
    relative: float
    linf: float
    per_tensor: dict[str, float]
    on_mask: float | None = None
    off_mask: float | None = None
    effective: float | None = None

    def __repr__(self) -> str:
        named = {"on mask": self.on_mask, "off mask": self.off_mask, "effective": self.effective}
        said = "".join(f", {n} {v:.6g}" for n, v in named.items() if v is not None)
        return (
            f"distance {self.l2:.6g}, relative {self.relative:.4g}, linf {self.linf:.4g}{said}, in "
            f"{len(self.per_tensor)} tensors"
        )

    def _repr_html_(self) -> str:
        return card(repr(self), {n: f"{v:.4g}" for n, v in self.per_tensor.items()})


@torch.no_grad()
def distance(
    model: nn.Module, initial: Mapping[str, Tensor] | None = None, *, mask: Mask | None = None
) -> Distance:
    """Measure ||theta - theta_0||_2 over the trainable parameters, accumulated in float64.

    Args:
        model: a model; with a mask attached, theta itself is the change, and parameters that are
            trained whole beside it are counted from where they were when it was attached.
        initial: the initial values by tensor name, for a model without a mask (for example
            ``{name: p.detach().clone() for name, p in trainable(model).items()}``).
        mask: tell the change inside this mask from that outside it: how much of full fine-tuning
            a mask would have caught, or one mask of another.

    Returns:
        The distance; zero relative distance where the initial values are all zero.

    Raises:
        UserError: there is no mask and no `initial`, `initial` lacks a tensor or has one of
            another shape, or `mask` was made for tensors of other shapes.

    Cost: O(k) time, memory of one tensor's change in float64. Source: Xu & Zhang 2024, figure 4c.
    """
    checks.model(model)
    if mask is not None:
        checks.has("mask", mask, "a Mask", "indices", "shapes", do="make one, as random_mask")
    if is_attached(model):
        start = masked_origins(model) | dense_starts(model)
    else:
        start = dict(initial or {})
    squares, origin, linf = {}, 0.0, 0.0
    inside = outside = 0.0
    for name, d in _stream(model, initial):
        squares[name] = float(d.square().sum())
        origin += float(start[name].double().square().sum())
        linf = max(linf, float(d.abs().max()) if d.numel() else 0.0)
        if mask is not None:
            on, off = _split(model, name, d, mask)
            inside, outside = inside + on, outside + off
    l2 = sum(squares.values()) ** 0.5
    return Distance(
        l2,
        l2 / origin**0.5 if origin else 0.0,
        linf,
        {name: square**0.5 for name, square in squares.items()},
        on_mask=None if mask is None else inside**0.5,
        off_mask=None if mask is None else outside**0.5,
        effective=None if is_attached(model) else _effective(model, start),
    )


def _split(model: nn.Module, name: str, d: Tensor, mask: Mask) -> tuple[float, float]:
    """Return the squared norms of a tensor's change inside and outside a mask."""
    own = attached_mask(model) if is_attached(model) else None
    if own is not None and name not in own.indices:
        own = None  # trained whole beside the mask
    shape = tuple(d.shape if own is None else own.shapes[name])
    if name not in mask.indices:
        return 0.0, float(d.square().sum())
    if tuple(mask.shapes[name]) != shape:
        raise UserError(
            f"expected {name} of shape {tuple(mask.shapes[name])}, as the mask has it, got {shape} "
            "in the model; make a mask for this model"
        )
    at = mask.indices[name].to(d.device)
    chosen = torch.zeros(d.numel(), dtype=torch.bool, device=d.device)
    if own is None:
        chosen[at] = True
    else:
        chosen, _ = positions(at, own.indices[name].to(d.device))
    flat = d.reshape(-1)
    return float(flat[chosen].square().sum()), float(flat[~chosen].square().sum())


def _effective(model: nn.Module, start: Mapping[str, Tensor]) -> float | None:
    """Return the norm of what trained low-rank layers add to their weights, less what they added.

    One layer at a time, by peft's own ``get_delta_weight`` at both ends; None without such layers.
    """
    values = trainable(model)
    layers = {n: m for n, m in model.named_modules() if hasattr(m, "get_delta_weight")}
    total = 0.0
    for place, layer in layers.items():
        own = {n: p for n, p in values.items() if n.startswith(f"{place}.")}
        for adapter in layer.active_adapters if own else ():
            change = layer.get_delta_weight(adapter).double()
            ends = {name: p.detach().clone() for name, p in own.items()}
            try:
                for name, p in own.items():
                    p.copy_(start[name])
                change -= layer.get_delta_weight(adapter).double()
            finally:
                for name, p in own.items():
                    p.copy_(ends[name])
            total += float(change.square().sum())
    return total**0.5 if layers else None


@torch.no_grad()
def changes(
    model: nn.Module, initial: Mapping[str, Tensor] | None = None
) -> dict[str, Float[Tensor, "*shape"]]:
    """Return theta - theta_0 by tensor name, in float64; arguments and errors as `distance`."""
    return dict(_stream(model, initial))


def _stream(model: nn.Module, initial: Mapping[str, Tensor] | None) -> Iterator[tuple[str, Tensor]]:
    """Yield theta - theta_0 tensor by tensor."""
    values = trainable(model)
    if is_attached(model):
        starts = dense_starts(model)
        for name, p in values.items():
            d = p.detach().double()
            yield name, d - starts[name].double() if name in starts else d
        return
    if initial is None:
        raise UserError(
            "expected a model with a mask, or the values to measure from, got neither; give "
            "initial="
        )
    missing = sorted(set(values) - set(initial))
    if missing:
        raise UserError(
            f"expected initial to hold every trainable parameter, got one without {missing[0]} and "
            f"{len(missing) - 1} more; add them"
        )
    for name, p in values.items():
        if initial[name].shape != p.shape:
            raise UserError(
                f"expected initial values of {name} of shape {tuple(p.shape)}, as it has now, got "
                f"{tuple(initial[name].shape)}; give those of the same parameters"
            )
        yield name, p.detach().double() - initial[name].double()


@torch.no_grad()
def cosines(
    model: nn.Module, vectors: Float[Tensor, "size m"], initial: Mapping[str, Tensor] | None = None
) -> Float64[Tensor, " m"]:
    """Return the cosines of the update theta - theta_0 with given vectors.

        cos_i = <theta - theta_0, y_i> / (||theta - theta_0|| ||y_i||)

    The sum of the squares over orthonormal vectors is the share of the update inside their span.

    Args:
        model: a model; with a mask attached, theta itself is the update.
        vectors: shape (size, m), for example `lanczos(H, k=m).eigenvectors`.
        initial: see `distance`.

    Returns:
        Cosines in [-1, 1], shape (m,), float64, on cpu; NaN where the update or a vector is zero.

    Raises:
        UserError: the vectors have another length, or as `distance`.

    Cost: O(k m).
    """
    checks.model(model)
    update = torch.cat([change.reshape(-1) for change in changes(model, initial).values()]).cpu()
    if vectors.ndim != 2 or vectors.shape[0] != update.numel():
        raise UserError(
            f"expected vectors of shape ({update.numel()}, m), got {tuple(vectors.shape)}; "
            "one column a vector, measured on the same trainable parameters"
        )
    columns = vectors.detach().double().cpu()
    return (update @ columns) / (update.norm() * columns.norm(dim=0))
