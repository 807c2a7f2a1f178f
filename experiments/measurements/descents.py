"""Full-batch descents inside a random mask, from the pretrained weights, with their sharpness.

Two losses: the task's cross-entropy, whose curvature fades as soon as the examples are fitted, and
a squared loss, whose does not. Rates of gradient descent are multiples of 2 / sharpness at the
pretrained weights, those of AdamW of 1 / ratio.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from experiments.measurements.attached import attached, random
from landscape import checks
from landscape.curvature import HessianOperator, lanczos
from landscape.curvature.tracking import SharpnessProbe
from landscape.distances import distance
from landscape.subspace import trainable
from landscape.sweep.measurements import Measurement, Point
from landscape.sweep.measurements.curvature import batches_of, chosen
from landscape.tasks.outputs.scoring import task_loss, task_split
from landscape.tasks.padding import Batch
from landscape.training import Loop, make_optimizer

Loss = Callable[[nn.Module, Batch], tuple[Tensor, int]]

USUAL: dict[str, Any] = {
    "ratio": 1e-2, "loss": "cross-entropy", "gd": (0.3, 0.7, 1.5), "adamw": (3e-7, 1e-6),
    "examples": 64, "batch_size": 8, "steps": 400, "every": 5, "tol": 2e-2, "max_matvecs": 60,
}  # fmt: skip
#: difference of scores that the squared loss asks for, between the right candidate and the others
MARGIN = 4.0
#: times its first loss, above which a descent has diverged
CEILING = 20.0


def square_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
    """Return sum ||z - mean(z) - MARGIN (y - 1/c)||^2 / 2 over the examples, and their number.

    z are the c candidates' scores of an example, y is 1 for the right candidate and 0 elsewhere.
    """
    found = error(model, batch)
    return found.square().sum() / 2, len(found)


def error(model: nn.Module, batch: Batch) -> Tensor:
    """Return z - mean(z) - MARGIN (y - 1/c) of `square_loss`, (examples, c)."""
    scores, _ = task_split(model, batch)
    labels = batch["labels"].to(scores.device)
    right = nn.functional.one_hot(labels, scores.shape[1]).to(scores)
    return scores - scores.mean(1, keepdim=True) - MARGIN * (right - 1 / scores.shape[1])


LOSSES: dict[str, Loss] = {"cross-entropy": task_loss, "square": square_loss}


def descents(point: Point) -> dict[str, Any]:
    """Descend inside the random mask of a ratio, once a rate, every example in every step.

    Options: ``ratio`` (0.01); ``loss`` ("cross-entropy", or "square"); rates of gradient descent
    ``gd`` in units of 2 / sharpness, and of ``adamw`` over the ratio; ``examples`` (64) in batches
    of ``batch_size`` (8); ``steps`` (400), with a measurement every ``every`` (5); ``tol`` (0.02)
    and ``max_matvecs`` (60) of the sharpness.

    Returns:
        ``start``, the sharpness at the pretrained weights with its residual, and ``descents``, a
        dict a rate: ``losses[t]`` after t steps, ``measured`` of `SharpnessProbe`, ``distance``.
    """
    asked = chosen(point, USUAL)
    name, ratio = checks.choice("loss", asked["loss"], tuple(LOSSES)), asked["ratio"]
    batches, mask = batches_of(point, asked), random(point, ratio)
    same = {"loss": name, "ratio": ratio, "count": mask.count}
    with attached(point.model, mask):
        top = lanczos(
            HessianOperator(point.model, batches, loss=LOSSES[name]), k=1, seed=0,
            tol=asked["tol"], max_matvecs=asked["max_matvecs"],
        )  # fmt: skip
    sharpness = float(top.eigenvalues[0])
    start = same | {"sharpness": sharpness, "residual": float(top.residuals[0]),
                    "products": top.num_matvecs, "converged": bool(top.converged)}  # fmt: skip
    found = []
    for optimizer, unit in (("gd", 2 / sharpness), ("adamw", 1 / ratio)):
        for scale in asked[optimizer]:
            with attached(point.model, mask):
                rate = scale * unit
                made = _descend(point, asked, batches, LOSSES[name], optimizer, rate)
                moved = distance(point.model).l2
            found.append({**same, "optimizer": optimizer, "scale": scale, "rate": rate, **made,
                          "distance": moved})  # fmt: skip
    return {"start": start, "descents": found}


def _descend(
    point: Point, asked: dict[str, Any], batches: list[Batch], loss: Loss, optimizer: str,
    rate: float,
) -> dict[str, Any]:  # fmt: skip
    """Take full-batch steps with a probe; ``losses[t]`` is the loss after t steps.

    A loss that is not finite or above ``CEILING`` times the first ends the descent as diverged.
    """
    model, rule = point.model, {"gd": "sgd", "adamw": "adamw"}[optimizer]
    stepper = make_optimizer(rule, trainable(model).values(), lr=rate)  # type: ignore[arg-type]
    loop = Loop(model, stepper, loss, ceiling=CEILING)
    probe = SharpnessProbe(batches, every=asked["every"], loss=loss, tol=asked["tol"],
                           max_matvecs=asked["max_matvecs"])  # fmt: skip
    probe.start(stepper)
    losses: list[float] = []
    for step in range(1, asked["steps"] + 1):
        losses.append(loop.step(batches)["loss"])
        if loop.diverged:
            break
        probe(model, {"step": step})
    return {"losses": losses, "measured": probe.rows, "diverged": loop.diverged}


DESCENTS = Measurement(
    "full-batch descents inside a mask, beside the edge of stability", before=descents
)
NAME = f"{__name__}:DESCENTS"
"""By which a grid asks for it."""
