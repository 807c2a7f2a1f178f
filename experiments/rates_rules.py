"""Rules for learning rates, judged on the grids of the artefact `rates`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

import torch
from torch import Tensor, nn

from experiments.harness import Row
from landscape.advisor import Optimizer, RateEvidence, RateSuggestion, matching_step, recommend
from landscape.curvature import GGNOperator, HessianOperator
from landscape.losses import Split

HALF, EDGE = 0.5, 1e-6
FIXED = (1e-6, 1e-5)
#: two rates are tied while their paired mean difference is within this many standard errors
Z = 1.96


@dataclass(frozen=True)
class Alternatives:
    """Hold what rules that were tried and not taken are made of, on n batches B.

    d_B is the direction of an optimiser's first step on batch B: sign(g_B) for AdamW, g_B for SGD,
    with g_B the gradient of the batch's mean loss; d, without a batch, that of the mean gradient
    g. C is the batch after B, the first after the last, so that no batch judges its own direction.
    """

    count: int
    """Number of trainable numbers."""
    slopes: list[list[float]]
    """d_B'g_C for every B (row) and C (column), n x n."""
    hessian: list[float]
    """d_B'H_C d_B for every B."""
    gauss_newton: list[float]
    """d_B'G_C d_B for every B, with G_C the Gauss-Newton matrix of batch C."""
    mean_slope: float
    """d'g: for AdamW the 1-norm of the gradient, for SGD its squared 2-norm."""
    mean_hessian: list[float]
    """d'H_C d for every C."""
    mean_gauss_newton: list[float]
    """d'G_C d for every C."""


def measure_alternatives(
    model: nn.Module,
    batches: Sequence[Sequence[Any]],
    *,
    optimizer: Optimizer = "adamw",
    split: Split | None = None,
) -> Alternatives:
    """Measure slopes and curvatures along first steps: 2 gradients and 4 products."""
    loss = None if split is None else _loss_of(split)
    H = [HessianOperator(model, batch, loss=loss, keep_graph=False) for batch in batches]
    gradients = torch.stack([part.gradient() for part in H])
    towards = torch.sign if optimizer == "adamw" else torch.clone
    directions = towards(gradients)
    mean = towards(gradients.mean(0))
    curvature: list[list[float]] = []
    for c, (batch, part) in enumerate(zip(batches, H, strict=True)):
        G = GGNOperator(model, batch, split=split, keep_graph=False)
        V = torch.stack([directions[c - 1], mean], dim=1)
        curvature.append([*_quadratic(V, part @ V), *_quadratic(V, G @ V)])
    hessian, mean_hessian, newton, mean_newton = (list(column) for column in zip(*curvature))
    return Alternatives(
        count=gradients.shape[1],
        slopes=(directions.double() @ gradients.double().t()).tolist(),
        hessian=[*hessian[1:], hessian[0]], gauss_newton=[*newton[1:], newton[0]],
        mean_slope=float(mean.double() @ gradients.double().mean(0)), mean_hessian=mean_hessian,
        mean_gauss_newton=mean_newton,
    )  # fmt: skip


def _quadratic(V: Tensor, product: Tensor) -> list[float]:
    """Return v'A v for the columns v of V, given A V."""
    return [float(value) for value in (V.double() * product.double()).sum(0)]


def _loss_of(split: Split) -> Callable[[Any, Any], tuple[Tensor, float]]:
    def loss(model: Any, batch: Any) -> tuple[Tensor, float]:
        outputs, rest = split(model, batch)
        terms, count = rest(outputs)
        return terms.sum(), count

    return loss


@dataclass(frozen=True)
class Cell:
    """Hold the grid of one case, optimiser and ratio, pooled over its seeds."""

    case: str
    optimizer: str
    ratio: float
    losses: dict[float, float]
    """rate -> mean development loss, infinite where a run diverged."""
    before: float
    """mean development loss before training"""
    best: float
    """rate of the lowest loss"""
    tied: tuple[float, ...]
    """rates whose losses cannot be told from the best's"""
    learnt: bool
    """whether the best rate is better than no training by more than Z standard errors"""
    evidence: tuple[RateEvidence, ...]
    """one a seed"""
    alternatives: tuple[Alternatives, ...]
    """one a seed"""

    @property
    def at_edge(self) -> bool:
        """Tell whether the best is the end of the grid, so that a better one may lie outside."""
        return self.best in (min(self.losses), max(self.losses))

    @property
    def stable(self) -> tuple[float, float]:
        """Return the largest rate that ends no worse than it began, and the next, or infinity."""
        fine = [rate for rate, loss in self.losses.items() if loss <= self.before]
        top = max(fine, default=0.0)
        return top, min((rate for rate in self.losses if rate > top), default=math.inf)

    def suggestions(self) -> list[RateSuggestion]:
        """Return what the predictor says, one a seed."""
        return [recommend(evidence) for evidence in self.evidence]


def cells(rows: Sequence[Row]) -> list[Cell]:
    """Gather the complete cells, by case in the order of the rows, larger ratios first."""
    found: dict[tuple[str, str, float], dict[float, dict[int, list[float]]]] = {}
    before: dict[str, dict[int, list[float]]] = {}
    evidence: dict[tuple[str, str, float], list[RateEvidence]] = {}
    others: dict[tuple[str, str, float], list[Alternatives]] = {}
    for row in rows:
        if row["kind"] == "before":
            before.setdefault(row["case"], {})[row["seed"]] = _losses(row)
            continue
        place = (row["case"], row["optimizer"], row["ratio"])
        if row["kind"] == "evidence":
            evidence.setdefault(place, []).append(RateEvidence(**row["measured"]))
        elif row["kind"] == "alternatives":
            others.setdefault(place, []).append(Alternatives(**row["measured"]))
        else:
            rates = found.setdefault(place, {})
            rates.setdefault(_on_grid(row), {})[row["seed"]] = _losses(row)
    gathered = [
        _cell(place, rates, before[place[0]], evidence[place], others[place])
        for place, rates in found.items()
    ]
    order = list(before)
    return sorted(gathered, key=lambda c: (c.optimizer, order.index(c.case), -c.ratio))


def _on_grid(row: Row) -> float:
    """Return the rate; with SGD, whose unit differs between seeds, to the nearest half decade."""
    if row["optimizer"] == "adamw":
        return float(row["rate"])
    return float(10 ** (round(2 * math.log10(row["rate"])) / 2))


def _losses(row: Row) -> list[float]:
    return [math.inf if row.get("diverged") or loss is None else loss for loss in row["dev_losses"]]


def _cell(
    place: tuple[str, str, float], rates: Mapping[float, Mapping[int, list[float]]],
    before: Mapping[int, list[float]], evidence: Sequence[RateEvidence],
    others: Sequence[Alternatives],
) -> Cell:  # fmt: skip
    seeds = sorted(set.intersection(*(set(runs) for runs in rates.values())))
    every = {rate: [x for s in seeds for x in runs[s]] for rate, runs in sorted(rates.items())}
    losses = {rate: fmean(values) for rate, values in every.items()}
    best = min(losses, key=lambda rate: (losses[rate], rate))
    tied = tuple(rate for rate, values in every.items() if _is_tied(values, every[best]))
    start = [x for s in seeds for x in before[s]]
    learnt = not _is_tied(start, every[best]) and losses[best] < fmean(start)
    return Cell(*place, losses, fmean(start), best, tied, learnt, tuple(evidence), tuple(others))


def _is_tied(values: Sequence[float], best: Sequence[float]) -> bool:
    """Say whether paired losses are within Z standard errors of the best's."""
    if not all(map(math.isfinite, values)):
        return False
    gaps = [a - b for a, b in zip(values, best, strict=True)]
    return fmean(gaps) <= Z * stdev(gaps) / math.sqrt(len(gaps))


def one_step_optimum(measured: Alternatives) -> float:
    """Return d'g / d'Gd, slope over Gauss-Newton curvature along the step on the mean gradient."""
    curvature = fmean(measured.mean_gauss_newton)
    return measured.mean_slope / curvature if curvature > 0 else math.inf


def mean_step_optimum(measured: Alternatives) -> float:
    """Return slope / curvature along the step on the mean gradient, on the same examples.

    The Gauss-Newton curvature takes the Hessian's place where that is not positive.
    """
    curvature = fmean(measured.mean_hessian)
    return measured.mean_slope / (curvature if curvature > 0 else fmean(measured.mean_gauss_newton))


def held_out_optimum(measured: Alternatives) -> float:
    """Return slope / curvature along a batch's step, the slope judged by the other batches."""
    n = len(measured.slopes)
    slope = fmean(measured.slopes[b][c] for b in range(n) for c in range(n) if b != c)
    return slope / max(fmean(measured.hessian), fmean(measured.gauss_newton))


def divergence_step(measured: Alternatives) -> float:
    """Return the rate at which a batch's step changes the predictions by a nat.

    To second order the Kullback-Leibler divergence of a step is half its Gauss-Newton curvature.
    """
    return math.sqrt(2 / fmean(measured.gauss_newton))


def own_step_optimum(measured: Alternatives) -> float:
    """Return slope / curvature along a batch's step: its own slope, the next batch's curvature."""
    curvature = max(fmean(measured.hessian), fmean(measured.gauss_newton))
    return fmean(row[b] for b, row in enumerate(measured.slopes)) / curvature


def mean_divergence_step(measured: Alternatives) -> float:
    """Return the rate at which the step on the mean gradient changes the predictions by a nat."""
    return math.sqrt(2 / fmean(measured.mean_gauss_newton))


def count_step(measured: Alternatives) -> float:
    """Return 1 / trainable numbers: coherent steps of all change a layer's output by their sum."""
    return 1 / measured.count


def balanced_step(measured: Alternatives) -> float:
    """Return the geometric mean of `mean_divergence_step` and `count_step`."""
    return math.sqrt(mean_divergence_step(measured) * count_step(measured))


def threshold(evidence: RateEvidence) -> float:
    """Return 2 / lambda_1."""
    assert evidence.eigenvalue is not None
    return 2 / evidence.eigenvalue


REFERENCES: dict[str, Callable[[Alternatives], float]] = {
    "mean step, Gauss-Newton": one_step_optimum,
    "batch step, other batches' slope": held_out_optimum,
    "mean step, Hessian": mean_step_optimum,
    "batch step, its own slope": own_step_optimum,
    "batch step, one nat": divergence_step,
    "mean step, one nat": mean_divergence_step,
    "c / trainable": count_step,
    "mean step, one nat, with c / trainable": balanced_step,
}


#: what the predictor scales for each optimiser
RULES = {"adamw": "matching step", "sgd": "2 / lambda_1"}


@dataclass(frozen=True)
class Point:
    """Hold one seed of a cell: what a rule starts from, and the grid's best rate."""

    case: str
    reference: float
    best: float


def points(chosen: Sequence[Cell], rule: str) -> list[Point]:
    """Return a rule's points: a name of REFERENCES or of RULES, or "c / ratio"."""
    found = []
    for cell in chosen:
        for evidence, measured in zip(cell.evidence, cell.alternatives, strict=True):
            if rule == "c / ratio":
                reference = 1 / cell.ratio
            elif rule == RULES["adamw"]:
                reference = matching_step(evidence)
            else:
                reference = (
                    threshold(evidence) if rule == RULES["sgd"] else REFERENCES[rule](measured)
                )
            found.append(Point(cell.case, reference, cell.best))
    return found


def fitted(given: Sequence[Point]) -> float:
    """Return the constant with the least mean absolute error in decades: the median ratio.

    A reference that is not a positive number has no say.
    """
    ratios = [math.log10(p.best / p.reference) for p in given if 0 < p.reference < math.inf]
    return 10 ** median(ratios) if ratios else math.nan


def errors(given: Sequence[Point], constant: float) -> list[float]:
    """Return log10(predicted / best), infinite where there is no prediction."""
    return [
        math.log10(constant * p.reference / p.best) if 0 < p.reference < math.inf else math.inf
        for p in given
    ]


def held_out_errors(given: Sequence[Point]) -> list[float]:
    """Return the errors of each case with the constant fitted to the other cases."""
    found = []
    for case in dict.fromkeys(p.case for p in given):
        others = [p for p in given if p.case != case]
        found += errors([p for p in given if p.case == case], fitted(others or given))
    return found


def summary(found: Sequence[float]) -> dict[str, Any]:
    """Return the mean and largest absolute error, and how many are within half a decade."""
    sizes = [abs(x) for x in found]
    return {"mean": fmean(sizes), "largest": max(sizes), "n": len(sizes),
            "half": sum(x <= HALF + EDGE for x in sizes)}  # fmt: skip


def predicted_errors(chosen: Sequence[Cell]) -> list[float]:
    """Return log10(suggested / best) of the predictor as it is shipped, one a cell and seed."""
    return [math.log10(s.good / c.best) for c in chosen for s in c.suggestions()]
