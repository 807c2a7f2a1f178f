"""Sharpness during training, beside the rates at which a step turns unstable."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any, TypeAlias, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import TrainerCallback

from landscape import checks
from landscape.curvature import (
    HessianOperator,
    LinearOperator,
    lanczos,
    preconditioned,
    stability_threshold,
)
from landscape.curvature.stability import family, reference_rate
from landscape.errors import UserError
from landscape.losses import Loss, as_batches
from landscape.training.callbacks import ProbeCallback

Row: TypeAlias = dict[str, float]

_TIME_SHARE = 0.08
"""Share of the training time that a probe may take by default."""

_FIRST_PRICE = 15
"""Gradients with their graph that a measurement from a cold start costs, about: 17 matvecs."""


@final
class SharpnessProbe:
    """Measure the top Hessian eigenvalue of a training run, as often as its time budget allows.

    Pass it to ``finetune(probes=[probe])``, or call ``probe.start(optimizer)`` once and
    ``probe(model, record)`` after every step of a loop of your own. It draws no random number of
    the global generators and changes neither weights, ``.grad`` nor modes: training with it ends
    bit for bit like training without it. Each run of Lanczos starts from the last eigenvector.

    A measured step gets these entries in its record and in `rows`:

    - ``sharpness``, lambda_1(H), and ``sharpness_threshold``: where SGD, with its momentum,
      dampening, Nesterov's look-ahead and weight decay, turns unstable on a quadratic
      (`stability_threshold`); with Adam's family 2 / lr, that of plain gradient descent;
    - with Adam, AdamW, NAdam, RAdam or Adamax ``preconditioned_sharpness``, lambda_1(P^-1 H), and
      ``preconditioned_threshold``, (2 + 2 beta1) / ((1 - beta1) lr) without weight decay: the
      same for these with P held fixed (see `preconditioned`). After the very first step P is one
      gradient's size, next to nothing wherever that gradient nearly vanishes, and its rounding
      moves the value by percents; two steps mend it;
    - for both, ``.._residual`` and ``.._products``. A model that is not finite gets NaN.

    The model is measured in evaluation mode, as `HessianOperator` does: without dropout, and with
    the running statistics of batch normalisation unless `batch_statistics` says otherwise.

    Args:
        batches: what the loss is averaged over, the same at every measurement; one full batch is
            cheapest, since its graph is kept between the products of a measurement.
        every: measure steps 1, 1 + every, ... only; at least 1. Given alone, each of them is
            measured, whatever that takes.
        loss: see `HessianOperator`.
        batch_statistics: let batch normalisation use the statistics of the batch, as the loss that
            is trained does; for a single batch.
        tol: relative residual; the error of the eigenvalue is about its square.
        max_matvecs: budget of matvecs for one eigenvalue; where it runs out, a warning says so.
        time_share: measure as soon as, at the price of the last measurement, the probe will have
            taken at most this share of the time spent training; 0.08 where neither this nor
            `every` is given. The first price is 15 gradients on the batches, one of which is timed
            once (2 len(batches) + 2) / time_share steps are done. Which steps are measured then
            depends on the machine, and a run of few steps has none: give `every` for those.
        seed: of the random part of the start vectors.

    Raises:
        UserError: an argument out of its range.

    Cost: a few matvecs a measurement (1 to 11 after a warm start); between measurements one
    vector an eigenvalue. Source: Cohen et al. (2021, 2022), edge of stability.
    """

    def __init__(
        self,
        batches: Iterable[object],
        *,
        every: int | None = None,
        loss: Loss | nn.Module | None = None,
        batch_statistics: bool = False,
        tol: float = 0.05,
        max_matvecs: int = 40,
        time_share: float | None = None,
        seed: int = 0,
    ) -> None:
        if every is not None:
            every = checks.whole("every", every, least=1)
        if time_share is not None:
            time_share = checks.number("time_share", time_share, above=0)
        tol = checks.number("tol", tol, above=0)
        max_matvecs = checks.whole("max_matvecs", max_matvecs, least=1)
        seed = checks.seed(seed)
        if every is None and time_share is None:
            time_share = _TIME_SHARE
        if time_share is not None and not 0 < time_share <= 1:
            raise UserError(
                f"expected time_share above 0 and at most 1, got {time_share}; 0.08 is the default"
            )
        self.rows: list[Row] = []
        """One dict a measurement: step, the entries above, and seconds."""
        self._batches, self._batch_statistics = as_batches(batches), batch_statistics
        self._every, self._loss, self._time_share = every or 1, loss, time_share
        self._tol, self._max_matvecs, self._seed = tol, max_matvecs, seed
        self._optimizer: Optimizer | None = None
        self._model: nn.Module | None = None
        self._hessian: HessianOperator | None = None
        self._last: dict[str, Tensor] = {}
        self._price: float | None = None  # seconds that the next measurement is expected to take
        self._calls, self._spent, self._started = 0, 0.0, time.perf_counter()

    def __repr__(self) -> str:
        last = f", sharpness {self.rows[-1]['sharpness']:.6g} at last" if self.rows else ""
        return f"sharpness probe of {len(self.rows)} measurements{last}"

    def start(self, optimizer: Optimizer) -> None:
        """Begin a run: remember the optimizer, whose learning rate and state the thresholds need.

        Raises:
            UserError: its threshold is not known (`stability_threshold`).
        """
        family(optimizer)
        self._optimizer, self._model, self._hessian = optimizer, None, None
        self._last.clear()
        self._price = None
        self._calls, self._spent, self._started = 0, 0.0, time.perf_counter()

    def __call__(self, model: nn.Module, record: dict[str, Any]) -> None:
        """Measure, if it is time, and write the result into the record of the step.

        Raises:
            UserError: `start` was not called, or as `HessianOperator`.

        Warns:
            NotConvergedWarning: the budget of matvecs ran out.
        """
        self._known_optimizer()
        self._calls += 1
        step = int(record.get("step", self._calls))
        if (step - 1) % self._every or not self._has_time(model):
            return
        begun = time.perf_counter()
        row = self.measure(model)
        record.update(row)
        seconds = self._price = time.perf_counter() - begun
        self._spent += seconds
        self.rows.append({"step": step, **row, "seconds": seconds})

    def measure(self, model: nn.Module) -> Row:
        """Return the entries of one measurement now; see the class for what they are."""
        optimizer = self._known_optimizer()
        threshold, lr = stability_threshold(optimizer), reference_rate(optimizer)
        has_state = family(optimizer) != "sgd"
        row = {"sharpness_threshold": threshold}
        if has_state:
            row = {
                "sharpness_threshold": 2 / lr if lr else math.inf,
                "preconditioned_threshold": threshold,
            }
        hessian = self._operator(model)
        if hessian is None:
            missing = ("sharpness", "preconditioned_sharpness")[: 1 + has_state]
            return row | dict.fromkeys(missing, math.nan)
        row |= self._top("sharpness", hessian)
        if has_state:
            row |= self._top("preconditioned_sharpness", preconditioned(hessian, optimizer))
        hessian.release()
        return row

    def as_callback(self) -> TrainerCallback:
        """Return this probe as a callback for ``transformers.Trainer(callbacks=[...])``.

        What is measured is appended to the trainer's ``state.log_history``.
        """
        return ProbeCallback(self)

    def _known_optimizer(self) -> Optimizer:
        if self._optimizer is None:
            raise UserError(
                "expected a probe that knows the optimizer, got none; call start(optimizer) first"
            )
        return self._optimizer

    def _operator(self, model: nn.Module) -> HessianOperator | None:
        """Return the Hessian at the present weights, None where they or the loss have diverged."""
        if not all(bool(torch.isfinite(p).all()) for p in model.parameters() if p.requires_grad):
            return None
        if self._hessian is None or self._model is not model:
            self._model = model
            self._hessian = HessianOperator(
                model, self._batches, loss=self._loss, batch_statistics=self._batch_statistics
            )
        return self._hessian

    def _top(self, name: str, operator: LinearOperator) -> Row:
        last = self._last.get(name)
        found = lanczos(
            operator,
            v0=last if last is not None and len(last) == operator.size else None,
            tol=self._tol,
            max_matvecs=self._max_matvecs,
            seed=self._seed,
        )
        self._last[name] = found.eigenvectors[:, 0]
        return {
            name: float(found.eigenvalues[0]),
            f"{name}_residual": float(found.residuals[0]),
            f"{name}_products": float(found.num_matvecs),
        }

    def _has_time(self, model: nn.Module) -> bool:
        if self._time_share is None:
            return True
        if self._price is None:
            if self._calls * self._time_share < 2 * len(self._batches) + 2:
                return False
            begun = time.perf_counter()
            self._take_gradient(model)  # the first one also checks the loss
            between = time.perf_counter()
            self._take_gradient(model)
            ended = time.perf_counter()
            self._spent += ended - begun
            self._price = _FIRST_PRICE * (ended - between)
        trained = time.perf_counter() - self._started - self._spent
        return self._spent + self._price <= self._time_share * trained

    def _take_gradient(self, model: nn.Module) -> None:
        hessian = self._operator(model)
        if hessian is not None:
            hessian.gradient()
            hessian.release()
