"""Rows of runs in a world that a formula describes: by default the one that the papers tell of."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from landscape.sweep.config import RunConfig
from landscape.sweep.grid import Grid
from landscape.sweep.measurements import key
from landscape.sweep.plan import wanted

#: scores of ID3's paper in order: schedules and options by functions below
SELECTIONS = {
    "id3": 0.87, "fisher": 0.86, "magnitude_smallest": 0.855, "gradient": 0.85, "snip": 0.86,
    "bitfit": 0.85, "full": 0.86, "lora": 0.86, "adapter": 0.85, "random": 0.80, "none": 0.5,
}  # fmt: skip
SIZES = {"minilm-l6": 22_713_986, "smollm2-135m": 134_515_008, "dinov2-small-56px": 22_000_000}


def noise(*parts: object) -> float:
    """Return a number that looks drawn from a standard normal, a function of its arguments."""
    raw = hashlib.sha256(repr(parts).encode()).digest()
    return sum(b - 127.5 for b in raw[:12]) / math.sqrt(12) / 73.9


@dataclass(frozen=True)
class World:
    """Hold what is true of runs.

    Args:
        lost: accuracy that a decade of sparsity below 1e-3 costs, by model.
        columns: accuracy that whole columns cost, and each decade below 1e-2 again.
        exponent: of the best rate in the ratio.
        flat, far: exponents of sharpness and of distance in the ratio.
        full: full fine-tuning's accuracy; `data` is what it gains by twice the examples.
        id3: what ID3's scores are above the table's.
        repeat: what repeated masks lose a doubling of the budget.
        low: what they gain at the lowest budget.
        coarse: the best rate of random masks of a given count.
        mask, examples: standard deviations of accuracy over seeds of masks and of data.
        over: sharpness in AdamW's metric over its threshold, at rates from 1e-5 over the ratio on.
        even: whether repeated masks are spread more evenly than growing ones.
        steepest: sharpness of masks of the steepest weights over that of random ones.
    """

    lost: Mapping[str, float] = field(
        default_factory=lambda: {
            "minilm-l6": 0.004,
            "smollm2-135m": 0.001,
            "dinov2-small-56px": 0.001,
        }
    )
    columns: tuple[float, float] = (0.01, 0.02)
    exponent: float = -1.0
    flat: float = 1.0
    far: float = -0.7
    full: float = 0.845
    data: float = 0.02
    id3: float = 0.0
    repeat: float = 0.01
    low: float = 0.02
    coarse: float = 1e-2
    mask: float = 0.002
    examples: float = 0.02
    over: float = 1.0
    even: bool = True
    steepest: float = 1.0

    def best_rate(self, c: RunConfig) -> float:
        """Return the rate at which a run is best."""
        if c.ratio is not None:
            return float(3e-4 * (c.ratio / 1e-2) ** self.exponent)
        usual = {"full": 3e-5, "lora": 1e-3, "adapter": 1e-3, "random": self.coarse, "prefix": 1e-2}
        return usual.get(c.method, 3e-3)

    def accuracy(self, c: RunConfig) -> float:
        """Return what a method is worth at its best rate."""
        if c.model == "minilm-l6" and c.batch_size == 16:
            return self._selected(c)
        base = {"none": 0.6, "full": self.full, "structured": 0.85}.get(c.method, 0.85)
        if c.method == "full":
            return base + self.data * math.log2(c.num_train / 1000)
        if c.ratio is None:
            return base
        sparse = max(0.0, math.log10(1e-3 / c.ratio))
        gain = 0.005 * math.log2(c.num_train / 1000) * (1 if c.ratio > 1e-4 else -1)
        columns, decade = self.columns if c.method == "structured" else (0.0, 0.0)
        coarse = columns + decade * max(0.0, math.log10(1e-2 / c.ratio))
        return base - self.lost[c.model] * sparse + gain - coarse

    def _selected(self, c: RunConfig) -> float:
        score = SELECTIONS[c.method]
        if c.method != "id3":
            return score
        score += self.id3
        if c.schedule == "repeat":
            score += self.low - self.repeat * math.log2((c.count or 1) / 8000)
        if c.schedule == "static":
            score -= 0.005
        best = c.options["exp"] == -1 or (c.options["eps"] == 0.5 and c.options["exp"] == 2)
        return score + 0.02 * best

    def row(self, c: RunConfig, measure: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return the row of a run, with what is measured on it."""
        off = 0.0 if c.lr is None else abs(math.log10(c.lr / self.best_rate(c)))
        steps = c.epochs * -(-c.num_train // c.batch_size)
        mask_seed = c.seed if c.mask_seed is None else c.mask_seed
        moved = self.examples * noise("data", c.seed) + self.mask * noise("mask", mask_seed)
        if c.task == "conll2003":  # where the others scatter more than ID3
            moved *= 0.02
        worth = self.accuracy(c) + moved + (0.0002 if c.schedule else 0.002) * noise(c.address)
        late = [worth - 0.005 * max(0.0, 1 + off - math.log10(e + 1)) + 0.0002 * noise(e, c.address)
                for e in range(c.epochs)]  # fmt: skip
        score = worth - 0.03 * off * off if c.epochs < 6 else late[-1]
        scored = {"accuracy": score, "loss": 1 - score, "n": 500}
        size, ratio = SIZES.get(c.model, 10**8), c.ratio or 1e-3
        count = c.count or round(size * ratio)
        if c.ratio is None and c.count is None:
            count = {"full": size, "none": 0}.get(c.method, 300_000)
        evaluations = [{"step": steps * (e + 1) // c.epochs, "accuracy": late[e], "loss": 1.0}
                       for e in range(c.epochs)]  # fmt: skip
        distance = 3 * (ratio / 1e-3) ** self.far * (1 + 0.02 * noise("d", c.address))
        if c.ratio is None and c.lr is not None:  # of one size the rate decides
            distance *= c.lr / 1e-2
        outcome = {
            "metric": "accuracy", "count": count, "ratio": count / size, "dev": scored,
            "test": dict(scored), "distance": distance,
            "relative_distance": 0.1, "diverged": False, "best_step": steps, "steps": steps,
            "train_loss": [math.exp(-(s + 1) / steps) + min(off, 1) / 2
                           + 0.01 * noise("t", c.address, s // 9)
                           for s in range(steps)],
            "evaluations": evaluations, "identity": {}, "seconds": 2.0, "peak_memory": 1000,
        }  # fmt: skip
        if c.schedule:
            spent = [(s + 1) / steps if c.schedule == "increment" else 1 for s in range(steps)]
            outcome["updated"] = [round(count * part) + 770 for part in spent]  # and the head
        found = {key(name, options): self._measured(name, c, steps)
                 for name, options in measure.items()}  # fmt: skip
        return {"address": c.address, "config": c.as_dict(), "outcome": outcome, "measured": found,
                "provenance": {}}  # fmt: skip

    def _measured(self, name: str, c: RunConfig, steps: int) -> dict[str, Any]:
        if name == "sharpness":
            sharp = 10 * (c.ratio or 1e-3) ** self.flat * math.exp(0.1 * noise("s", c.address))
            sharp *= self.steepest if c.method == "gradient" else 1.0
            return {f"{what}_{end}": value for end in ("before", "after")
                    for what, value in (("sharpness", sharp), ("converged", True))}  # fmt: skip
        if name == "preconditioned":
            times = (c.lr or 1.0) * (c.ratio or 1.0) / 1e-5
            over = self.over * min(1.0, times) ** 2 * math.exp(0.1 * noise("p", c.address))
            return {"steps": [{"step": steps, "preconditioned_sharpness": 38 / (c.lr or 1.0) * over,
                               "preconditioned_threshold": 38 / (c.lr or 1.0)}]}  # fmt: skip
        return {"steps": self._places(c, steps)}

    def _places(self, c: RunConfig, steps: int) -> list[dict[str, Any]]:
        repeat = (c.schedule == "repeat") == self.even
        found = []
        for step in (1, steps // 10 + 1, steps // 2, steps):
            share = 0.3 + 0.3 * min(1.0, 10 * (step - 1) / steps) + 0.2 * repeat
            left = 0.95 - 0.5 * step / steps - 0.2 * repeat
            jitter = 0.001 * noise("l", c.address, step)
            found.append({"step": step, "entropy": share + jitter, "sparsity": left + jitter})
        for row in (found[0], found[-1]):
            row["allocation"] = [[0, "attention.self.query", 0.01], [0, "attention.self.key", 0.01],
                                 [0, "output.dense", 0.1 + 0.01 * noise(c.address)]]  # fmt: skip
        return found


def rows_in(world: World, grids: Sequence[Grid]) -> list[dict[str, Any]]:
    """Return the rows of all runs that grids come to need in a world."""
    rows: dict[str, dict[str, Any]] = {}
    while True:
        jobs = wanted(list(grids), rows)
        lacking = [job for job in jobs if job.config.address not in rows
                   or any(key(n, o) not in rows[job.config.address]["measured"]
                          for n, o in job.measure.items())]  # fmt: skip
        if not lacking:
            return list(rows.values())
        for job in lacking:
            known = rows.get(job.config.address, {}).get("measured", {})
            made = world.row(job.config, job.measure)
            made["measured"] = known | made["measured"]
            rows[job.config.address] = made


Change = Callable[[World], World]


def but(**values: Any) -> Change:
    """Return a world that differs from the papers'."""
    return lambda world: dataclasses.replace(world, **values)
