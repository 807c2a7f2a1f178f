"""The learning rate during a run: constant, or falling linearly or as a cosine, after a warm-up."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

LrSchedule: TypeAlias = Literal["constant", "linear", "cosine"]


def make_lr_schedule(
    name: LrSchedule, optimizer: Optimizer, *, steps: int, warmup: int | float = 0
) -> LRScheduler | None:
    """Make the schedule of a run's learning rate, by transformers.

    With w warm-up steps of T, the learning rate of step t = 0, 1, .. is lr times

        t / w                                    for t < w
        1, (T - t) / (T - w) or (1 + cos(pi (t - w) / (T - w))) / 2        afterwards

    Args:
        name: "constant", "linear" or "cosine".
        optimizer: whose learning rate it is; changed in place.
        steps: T, of the whole run.
        warmup: w, as `warmup_steps` reads it.

    Returns:
        The schedule, to be stepped after each step of the optimizer; None where the learning rate
        never changes.
    """
    from transformers.optimization import get_scheduler

    first = warmup_steps(warmup, steps)
    if name == "constant" and not first:
        return None
    known = "constant_with_warmup" if name == "constant" else name
    made: LRScheduler = get_scheduler(known, optimizer, first, steps)
    return made


def warmup_steps(warmup: int | float, steps: int) -> int:
    """Return how many steps a warm-up takes: an int counts them, a float is a share of all.

    >>> warmup_steps(7, 100), warmup_steps(0.1, 25), warmup_steps(0.29, 100), warmup_steps(0, 25)
    (7, 2, 29, 0)
    """
    # 0.29 * 100 is a rounding error below 29
    return int(warmup * steps + 1e-9) if isinstance(warmup, float) else warmup
