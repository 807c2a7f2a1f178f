"""Time what eigensolvers do around cheap products in a large space, beside scipy's."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from landscape import seeds
from landscape.curvature import HessianOperator, lanczos, spectral_density, trace
from landscape.curvature.operators.linear import CongruentOperator


def algebra(rounds: int, seed: int) -> dict[str, Any]:
    """Time what solvers do around cheap products in a large space, beside scipy's eigsh.

    A network of 657,000 weights and 32 examples. CPU time in all and outside the products,
    of the same relative tolerance, in turn; medians over the rounds.

    Returns:
        One entry a solver: `products`, `seconds`, `outside`, the seconds outside the products;
        for Lanczos `over_eigsh` and `outside_over_eigsh`, and for all `outside_each_over_eigsh`,
        per product, over eigsh with k = 1 or with the same k.
    """
    H = _wide(seed)
    v0 = torch.randn(H.size, generator=seeds.generator(seed)).numpy()
    solvers: dict[str, Callable[[Any], Any]] = {}
    for k in (1, 10):
        solvers[f"eigsh, k = {k}"] = partial(_scipy_top, k=k, v0=v0)
        solvers[f"lanczos, k = {k}"] = partial(lanczos, k=k)
    solvers |= {"density": spectral_density, "trace": trace}
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in solvers}
    for turn in range(rounds + 1):
        for name, solve in solvers.items():
            clock = _Clock(H)
            start = time.process_time()
            solve(clock)
            seconds = time.process_time() - start
            if turn:
                found[name].append((seconds, seconds - clock.seconds, clock.num_matvecs))
    cells: dict[str, Any] = {}
    for name, runs in found.items():
        seconds, outside, products = (median(run[i] for run in runs) for i in range(3))
        cells[name] = {"products": products, "seconds": seconds, "outside": outside}
    for name, cell in cells.items():
        theirs = cells["eigsh, k = 10" if "10" in name else "eigsh, k = 1"]
        each = theirs["outside"] / theirs["products"]
        cell["outside_each_over_eigsh"] = cell["outside"] / cell["products"] / each
        if name.startswith("lanczos"):
            cell["over_eigsh"] = cell["seconds"] / theirs["seconds"]
            cell["outside_over_eigsh"] = cell["outside"] / theirs["outside"]
    return cells


class _Clock(CongruentOperator):
    """Count the CPU time that an operator's products take."""

    def __init__(self, operator: HessianOperator) -> None:
        super().__init__(operator)
        self.size_, self.seconds, self._begun = operator.size, 0.0, 0.0

    @property
    def size(self) -> int:
        return self.size_

    @property
    def description(self) -> dict[str, Any]:
        return self._operator.description

    def _push(self, v: Tensor) -> Tensor:
        self._begun = time.process_time()
        return v

    def _pull(self, w: Tensor) -> Tensor:
        self.seconds += time.process_time() - self._begun
        return w


def _wide(seed: int) -> HessianOperator:
    """Build the Hessian of a network whose products are cheap beside its number of weights."""
    with seeds.drawing(seed):
        model = nn.Sequential(
            nn.Linear(256, 512), nn.Tanh(), nn.Linear(512, 1000), nn.Tanh(), nn.Linear(1000, 12)
        )
        batch = (torch.randn(32, 256), torch.randint(0, 12, (32,)))

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        x, y = batch
        return nn.functional.cross_entropy(model(x), y, reduction="sum"), len(y)

    return HessianOperator(model, [batch], loss=loss)


def _scipy_top(operator: Any, *, k: int, v0: Any) -> Any:
    from scipy.sparse.linalg import eigsh

    return eigsh(operator.to_scipy(), k=k, which="LA", tol=1e-3, v0=v0)
