"""Curvature at the two ends of a run: the Hessian's largest eigenvalue, and its trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from landscape import checks
from landscape.curvature import HessianOperator, lanczos, trace
from landscape.errors import UserError
from landscape.sweep.measurements.measurement import Measurement, Point
from landscape.sweep.naming import known
from landscape.tasks.batches import make_batches
from landscape.tasks.padding import Batch

#: training examples that a loss is averaged over, and how many of them go through the model at once
DATA: dict[str, int] = {"examples": 32, "batch_size": 4}
SHARPNESS_OPTIONS: dict[str, Any] = {**DATA, "tol": 0.02, "max_matvecs": 30}
TRACE_OPTIONS: dict[str, Any] = {**DATA, "max_matvecs": 60}


def sharpness(point: Point) -> dict[str, Any]:
    """Find the Hessian's eigenvalue of largest magnitude, by Lanczos with ``which="LM"``.

    It may be negative. `landscape.lanczos` and ``landscape sharpness`` find the largest signed one
    unless they are told otherwise.

    Options: ``examples`` (32) and ``batch_size`` (4) of the loss; ``tol`` (0.02), the relative
    residual; ``max_matvecs`` (30).

    Returns:
        ``sharpness``, ``residual`` (the norm of H y - lambda y), ``converged``, ``ceiling`` (no
        eigenvalue is larger in magnitude, with probability 0.99; null where too few matvecs tell)
        and ``matvecs``.
    """
    asked = chosen(point, SHARPNESS_OPTIONS)
    top = lanczos(
        _hessian(point, asked), k=1, which="LM", tol=asked["tol"],
        max_matvecs=asked["max_matvecs"], seed=0,
    )  # fmt: skip
    return {
        "sharpness": float(top.eigenvalues[0]), "residual": float(top.residuals[0]),
        "converged": bool(top.converged), "ceiling": top.ceiling, "matvecs": top.num_matvecs,
    }  # fmt: skip


def hessian_trace(point: Point) -> dict[str, Any]:
    """Estimate the Hessian's trace, by Hutch++.

    Options: ``examples`` (32) and ``batch_size`` (4) of the loss; ``max_matvecs`` (60).

    Returns:
        ``trace``, ``standard_error`` (0 where it is exact) and ``matvecs``.
    """
    asked = chosen(point, TRACE_OPTIONS)
    found = trace(_hessian(point, asked), max_matvecs=asked["max_matvecs"], seed=0)
    return {
        "trace": found.value,
        "standard_error": found.standard_error,
        "matvecs": found.num_matvecs,
    }


def chosen(point: Point, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a measurement, those that are not given as usual.

    Raises:
        UserError: an option that it lacks.
    """
    for name in point.options:
        known("options of the measurement", name, usual)
    return {**usual, **point.options}


def batches_of(point: Point, asked: Mapping[str, Any]) -> list[Batch]:
    """Return the first training examples of a run, in batches of similar length."""
    count = checks.whole("examples", asked["examples"], least=1)
    task = point.task
    return make_batches(
        task.train[:count], point.tokenizer, asked["batch_size"], sort=True, loss=task.loss
    )


def _hessian(point: Point, asked: Mapping[str, Any]) -> HessianOperator:
    if point.config.method == "none":
        raise UserError(
            "expected a run that trains something to measure its curvature, got one that trains "
            "nothing; leave the measurement out"
        )
    if point.config.schedule:
        raise UserError(
            "expected a mask that is there before the training to measure the curvature in it at "
            f"both ends, got the schedule {point.config.schedule}, which has none then; leave the "
            "measurement out"
        )
    return HessianOperator(point.model, batches_of(point, asked))


SHARPNESS = Measurement(
    "the Hessian's eigenvalue of largest magnitude at both ends of a run",
    before=sharpness, after=sharpness, options=SHARPNESS_OPTIONS,
)  # fmt: skip
TRACE = Measurement(
    "the Hessian's trace at both ends of a run", before=hessian_trace, after=hessian_trace,
    options=TRACE_OPTIONS,
)  # fmt: skip
