"""What the engine finds inside a mask that it draws, to hold beside the linear model's numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from experiments.measurements.attached import attached, random
from experiments.measurements.descents import CEILING, Loss, error, square_loss
from experiments.measurements.gram import beyond, threshold
from experiments.measurements.linearised import ORDERS, shortest, spent
from landscape import seeds
from landscape.curvature import GGNOperator, lanczos
from landscape.distances import distance
from landscape.subspace import trainable
from landscape.sweep.measurements import Measurement, Point
from landscape.sweep.measurements.curvature import chosen
from landscape.sweep.methods import drawn_by
from landscape.tasks.batches import make_batches
from landscape.tasks.outputs.scoring import task_loss
from landscape.tasks.padding import Batch
from landscape.training import Loop, make_optimizer

ASKED: dict[str, Any] = {
    "ratio": 1e-2, "examples": 16, "batch_size": 8, "tol": 0.05, "max_matvecs": 12,
    "evaluations": 5, "share": 0.5, "max_steps": 60, "descents": True,
}  # fmt: skip
SHORT: dict[str, Any] = {"ratio": 1e-2, "examples": 16, "steps": 60, "share": 1.0}
GOLDEN = (math.sqrt(5) - 1) / 2


def start(point: Point) -> dict[str, Any]:
    """Find the sharpness inside a run's mask, the best first rate of AdamW, and distances.

    Options: ``ratio`` (0.01); ``examples`` (16), the shortest of the training split, in batches of
    ``batch_size`` (8); ``tol`` (0.05) and ``max_matvecs`` (12) of the sharpness; ``evaluations``
    (5) of the loss that narrow the rate, once doubling has enclosed it; whether there are
    ``descents`` (True), until a ``share`` (0.5) of the first loss or ``max_steps`` (60).

    Returns:
        ``ratio``, ``mask`` (its seed), ``count``, ``loss``; ``sharpness`` of the Gauss-Newton
        matrix, with ``residual`` and ``converged``; ``rate`` with ``enclosed``, two rates around
        it, and ``lowest``, the loss there; ``descents`` of GD at 1 / sharpness and of AdamW at a
        quarter of that rate: optimizer, rate, steps, reached, losses, distance; ``seconds`` of
        processor time.
    """
    began, asked = time.process_time(), chosen(point, ASKED)
    examples, mask = shortest(point, asked["examples"]), random(point, asked["ratio"])
    batches = make_batches(
        examples, point.tokenizer, asked["batch_size"], sort=True, loss=point.task.loss
    )
    with attached(point.model, mask):
        model = point.model.eval()
        thetas = list(trainable(model).values())
        loop = Loop(model, make_optimizer("adamw", thetas, lr=1.0), task_loss)
        first = loop.step(batches)["loss"]
        slope = torch.cat([p.grad.flatten() for p in thetas if p.grad is not None])
        ahead, zero = [p.detach().clone() for p in thetas], [torch.zeros_like(p) for p in thetas]
        _set(thetas, zero, 0.0)
        top = lanczos(GGNOperator(model, batches), k=1, tol=asked["tol"], v0=slope,
                      max_matvecs=asked["max_matvecs"])  # fmt: skip
        sharpness = float(top.eigenvalues[0])

        def loss(rate: float) -> float:
            _set(thetas, ahead, rate)
            return _mean(model, batches)

        guess = float(slope.norm() ** 2 / slope.abs().sum() / sharpness)
        rate, lowest, enclosed = best_rate(loss, guess, asked["evaluations"])
        descents = []
        for name, lr in (("sgd", 1 / sharpness), ("adamw", rate / 4)) if asked["descents"] else ():
            _set(thetas, zero, 0.0)
            descents.append({"optimizer": name, "rate": lr,
                             **_descend(model, batches, name, lr, asked)})  # fmt: skip
    return {
        "ratio": asked["ratio"], "mask": drawn_by(point.config), "count": mask.count,
        "loss": first, "sharpness": sharpness, "residual": float(top.residuals[0]),
        "converged": bool(top.converged), "rate": rate, "enclosed": enclosed, "lowest": lowest,
        "descents": descents, "seconds": spent(began),
    }  # fmt: skip


def best_rate(loss: Any, guess: float, evaluations: int) -> tuple[float, float, list[float]]:
    """Minimise a loss over the logarithm of a rate: factors of 2 until enclosed, golden sections.

    Returns:
        The best rate tried, its loss, and two rates that enclose the minimum.

    >>> rate, _, (low, high) = best_rate(lambda r: (math.log(r) - 1) ** 2, 1.0, 12)
    >>> abs(math.log(rate) - 1) < 0.01 and low < math.e < high
    True
    """
    x = math.log(guess)
    tried = {x: loss(guess), x + math.log(2): loss(2 * guess)}
    for _ in range(20):
        best = min(tried, key=tried.__getitem__)
        if min(tried) < best < max(tried):
            break
        further = best + math.log(2) * (1 if best == max(tried) else -1)
        tried[further] = loss(math.exp(further))
    for _ in range(evaluations):
        places = sorted(tried)
        at = places.index(min(tried, key=tried.__getitem__))
        left, best, right = places[at - 1], places[at], places[at + 1]
        longer = left if best - left > right - best else right
        new = best + (1 - GOLDEN) * (longer - best)
        tried[new] = loss(math.exp(new))
    places = sorted(tried)
    at = places.index(min(tried, key=tried.__getitem__))
    ends = [math.exp(places[at - 1]), math.exp(places[at + 1])]
    return math.exp(places[at]), tried[places[at]], ends


def _descend(
    model: nn.Module, batches: Sequence[Batch], name: Any, rate: float, asked: dict[str, Any]
) -> dict[str, Any]:
    """Step until the loss is below its target; the last step is shortened to end at it."""
    thetas = list(trainable(model).values())
    loop = Loop(model, make_optimizer(name, thetas, lr=rate), task_loss, ceiling=CEILING)
    last, target = [p.detach().clone() for p in thetas], -math.inf
    losses: list[float] = []
    while True:
        losses.append(loop.gradient(batches))
        if len(losses) == 1:
            target = asked["share"] * losses[0]
        if losses[-1] <= target or len(losses) > asked["max_steps"]:
            break
        last = [p.detach().clone() for p in thetas]
        loop.update(losses[-1])
        if loop.diverged:
            break
    reached = losses[-1] <= target
    if reached:
        step = [p.detach() - before for p, before in zip(thetas, last, strict=True)]
        low, high = 0.0, 1.0
        for _ in range(6):
            middle = (low + high) / 2
            _set(thetas, step, middle, last)
            low, high = (low, middle) if _mean(model, batches) <= target else (middle, high)
        _set(thetas, step, (low + high) / 2, last)
    return {"steps": len(losses) - 1, "reached": reached, "diverged": loop.diverged,
            "losses": losses, "distance": distance(model).l2}  # fmt: skip


def sgd(point: Point) -> dict[str, Any]:
    """Find the smallest rate at which SGD, one example a step, has made a squared loss grow.

    Stability is about errors that are small: a large one saturates, by which steps that are far too
    long may end at less than they began with. A ``share`` below 1 moves the targets towards the
    pretrained scores, until that share of each error is left. In a linear model it changes nothing.

    Options: ``ratio`` (0.01), ``examples`` (16), the shortest, ``steps`` (60), ``share`` (1).

    Returns:
        ``ratio``, ``mask``, ``threshold``, a power of 2^(1/4), and ``bound``: 2 over the squared
        length of the longest gradient, below which the linear model is stable in the mean square;
        ``seconds`` of processor time.
    """
    began, asked = time.process_time(), chosen(point, SHORT)
    some, mask = shortest(point, asked["examples"]), random(point, asked["ratio"])
    seed = drawn_by(point.config)
    singles = make_batches(some, point.tokenizer, 1, loss=point.task.loss)
    whole = make_batches(some, point.tokenizer, len(some), loss=point.task.loss)
    order = seeds.numbered(seed, ORDERS).integers(0, len(singles), asked["steps"])
    with attached(point.model, mask):
        model = point.model.eval()
        thetas = list(trainable(model).values())
        zero = [torch.zeros_like(p) for p in thetas]
        loss = _of_share(model, [*singles, *whole], asked["share"])
        longest, before = 0.0, _mean(model, whole, loss)
        for batch in singles:
            value = square_loss(model, batch)[0]
            parts = torch.autograd.grad(value, thetas)
            value = value.detach()
            squared = sum(float(part.square().sum()) for part in parts)
            longest = max(longest, squared / (2 * float(value)))

        def grown(rate: float) -> bool:
            _set(thetas, zero, 0.0)
            loop = Loop(model, make_optimizer("sgd", thetas, lr=rate), loss)
            for i in order:
                if beyond(loop.step([singles[i]])["loss"], before) or loop.diverged:
                    return True
            return not _mean(model, whole, loss) <= before

        found = threshold(grown, 2 / longest)
    return {"ratio": asked["ratio"], "mask": seed, "threshold": found,
            "bound": 2 / longest, "seconds": spent(began)}  # fmt: skip


def _of_share(model: nn.Module, batches: Sequence[Batch], share: float) -> Loss:
    """Return `square_loss` with targets that leave a share of the errors that a model has now."""
    with torch.no_grad():
        met = {id(batch): (1 - share) * error(model, batch) for batch in batches}

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        left = error(model, batch) - met[id(batch)]
        return left.square().sum() / 2, len(left)

    return loss


@torch.no_grad()
def _set(
    thetas: Sequence[Tensor], ahead: Sequence[Tensor], scale: float,
    origin: Sequence[Tensor] | None = None,
) -> None:  # fmt: skip
    for i, (theta, step) in enumerate(zip(thetas, ahead, strict=True)):
        theta.copy_(scale * step if origin is None else origin[i] + scale * step)


@torch.no_grad()
def _mean(model: nn.Module, batches: Sequence[Batch], loss: Any = task_loss) -> float:
    parts = [loss(model, batch) for batch in batches]
    return float(sum(float(s) for s, _ in parts)) / sum(count for _, count in parts)


START = Measurement("sharpness, best first rate of AdamW and distances inside a mask", before=start)
SGD = Measurement("the smallest rate at which SGD grows inside a mask", before=sgd)
