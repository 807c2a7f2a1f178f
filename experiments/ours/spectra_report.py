"""Judge `spectra`: densities, their ends, their traces, before and after.

Its rows are the trainings, the spectra and the exact ones that records hold, flat: `rows_of`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from experiments.kit.judge import Finding, Verdict, above, equal, every, settle
from experiments.kit.records import Record
from experiments.kit.statistics import slope
from experiments.ours.trained import ENDS

if TYPE_CHECKING:
    from landscape.curvature import NegativeShare, SpectralDensity


Row = dict[str, Any]


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Return the trainings, the spectra at both ends, and the exact ones, each with its kind."""
    found: list[Row] = []
    for r in records:
        if "exact" in r:
            found.append({"kind": "exact", **r["exact"], "seed": r["seed"]})
            continue
        found.append({"kind": "train", **r})
        same = {"kind": "spectrum", "ratio": r["ratio"], "seed": r["seed"]}
        found += [{**r[f"spectrum_{end}"], **same, "when": end} for end in ENDS]
    return found


def quantile(row: Row) -> float:
    """Return Student's 99 % quantile for the estimates of a row, in standard errors.

    They come from few random vectors: as many as the quadrature's, or a third of the trace's.
    """
    from scipy import stats

    samples = min(len(row["nodes"]), row["trace_products"] // 3)
    return float(stats.t.ppf(0.995, samples - 1)) if samples > 1 else math.inf


def density(row: Row) -> SpectralDensity:
    """Return the quadrature of a row."""
    import torch

    from landscape.curvature import SpectralDensity

    nodes, weights = torch.tensor(row["nodes"]).double(), torch.tensor(row["weights"]).double()
    known = row.get("known", _shared(row))
    return SpectralDensity(
        nodes, weights, row["size"], row["num_matvecs"], torch.tensor(known).double()
    )


def _shared(row: Row) -> list[float]:
    """Return the nodes with the weight of one eigenvalue in every vector: those put in as known."""
    alone = [
        {v for v, w in zip(nodes, weights, strict=True) if w == 1 / row["size"]}
        for nodes, weights in zip(row["nodes"], row["weights"], strict=True)
    ]
    return sorted(set.intersection(*alone)) if len(alone) > 1 else []


def negative_share(row: Row) -> NegativeShare:
    """Return the negative share of the eigenvalues' total magnitude, with a 95 % interval."""
    from landscape import curvature

    return curvature.negative_share(density(row))


def quadrature_trace(row: Row) -> tuple[float, float]:
    """Return the trace by stochastic Lanczos quadrature with its standard error."""
    value, error = density(row).moment(1)
    return row["size"] * value, row["size"] * error


def stable_rank(row: Row) -> float:
    """Return sum of lambda^2 / largest lambda^2: how many eigenvalues of the largest size."""
    return row["size"] * density(row).moment(2)[0] / max(abs(row["top"]), abs(row["bottom"])) ** 2


def spectra(rows: Sequence[Row], when: str = "") -> list[Row]:
    """Return the rows of spectra, the largest ratio first."""
    found = [r for r in rows if r["kind"] == "spectrum" and when in ("", r["when"])]
    return sorted(found, key=lambda r: (-r["ratio"], r["seed"], ENDS.index(r["when"])))


def pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Pair the spectra before and after training of each mask."""
    after = {(r["ratio"], r["seed"]): r for r in spectra(rows, "after")}
    return [
        (r, after[key])
        for r in spectra(rows, "before")
        if (key := (r["ratio"], r["seed"])) in after
    ]


def check(records: Sequence[Record]) -> list[Finding]:
    """Compare the estimates with each other, with the exact spectrum, and before with after."""
    rows = rows_of(records)
    findings = [_flatter(rows, when) for when in ENDS]
    findings += [_sharper(rows), _less_negative(rows), _mean_kept(rows)]
    findings += [_exact(r) for r in rows if r["kind"] == "exact"]
    return [*findings, _traces(rows), _resolved(rows)]


def _flatter(rows: Sequence[Row], when: str) -> Finding:
    text = f"{when} training a smaller ratio has a smaller top eigenvalue"
    chosen = spectra(rows, when)
    listed = "; ".join(
        f"{r['top']:.3g} ± {r['top_residual']:.1g} at {r['ratio']:g}" for r in chosen
    )
    if len({r["ratio"] for r in chosen}) < 2:
        return Finding(text, "undecided", f"{listed}: one ratio decides nothing")
    curves: dict[int, dict[float, float]] = {}
    for r in chosen:
        curves.setdefault(r["seed"], {})[r["ratio"]] = r["top"]
    falls = every(_greater(a, b) for a, b in pairwise(chosen) if a["ratio"] > b["ratio"])
    found = slope(curves)
    told = "" if found.low > 0 else " tells no sign"
    return Finding(text, falls, f"{listed}; exponent {found}{told}, linear theory 1")


def _greater(a: Row, b: Row) -> Verdict:
    """Judge whether the first top eigenvalue is above the second, by both residuals."""
    gap, error = a["top"] - b["top"], a["top_residual"] + b["top_residual"]
    return above(gap - error, gap + error)


def _sharper(rows: Sequence[Row]) -> Finding:
    text = "training raises the top eigenvalue at every ratio, by more than both residuals"
    joined = pairs(rows)
    factors = (f"{a['top'] / b['top']:.2f} at {b['ratio']:g}" for b, a in joined)
    raised = every(_greater(a, b) for b, a in joined)
    return Finding(text, raised, f"after / before: {', '.join(factors)}")


def _less_negative(rows: Sequence[Row]) -> Finding:
    text = "training makes the spectrum less negative at every ratio"
    parts, less = [], []
    for b, a in pairs(rows):
        before, after = negative_share(b), negative_share(a)
        parts.append(f"{_between(before)} to {_between(after)} at {b['ratio']:g}")
        less.append(above(before.low - after.high, before.high - after.low))
    evidence = "negative share of sum |lambda|, 95 % intervals: " + "; ".join(parts)
    return Finding(text, every(less), evidence)


def _between(share: NegativeShare) -> str:
    return f"{share.value:.2f} [{share.low:.2f}, {share.high:.2f}]"


def _mean_kept(rows: Sequence[Row]) -> Finding:
    text = "before training the mean eigenvalue is the same at every ratio (principal submatrices)"
    chosen = spectra(rows, "before")
    means = [(r["ratio"], *density(r).moment(1)) for r in chosen]
    allowed = quantile(chosen[0])
    agree = []
    for (_, a, e), (_, b, f) in pairwise(means):
        error, size = allowed * math.hypot(e, f), max(abs(a), abs(b))
        # in units of the larger mean, where a difference of 1 is one mean twice the other or more
        low, high = ((a - b + sign * error) / size if size else math.nan for sign in (-1, 1))
        agree.append(equal(low, high, within=1.0))
    evidence = "; ".join(f"{m:.3g} ± {e:.1g} at {ratio:g}" for ratio, m, e in means)
    return Finding(text, every(agree), evidence)


def _exact(row: Row) -> Finding:
    text = (
        f"the exact spectrum of {row['size']} weights lies in the 99 % intervals of its estimates, "
        "its negative share in the 95 % one"
    )
    import torch

    values = torch.tensor(row["eigenvalues"]).double()
    estimates = {
        "trace by Hutch++": (float(values.sum()), row["trace"], row["trace_error"]),
        "trace by quadrature": (float(values.sum()), *quadrature_trace(row)),
        "mean square": (float(values.square().mean()), *density(row).moment(2)),
    }  # fmt: skip
    evidence = "; ".join(
        f"{name} {exact:.3g}, estimated {value:.3g} ± {error:.2g}"
        for name, (exact, value, error) in estimates.items()
    )
    share, exact_share = negative_share(row), float(values.clamp(max=0).sum() / -values.abs().sum())
    evidence += f"; negative share {exact_share:.3g}, estimated {_between(share)}"
    rounding = 1e-5 * float(values.abs().sum())
    holds = share.low <= exact_share <= share.high and all(
        abs(x - v) <= quantile(row) * e + rounding for x, v, e in estimates.values()
    )
    return Finding(text, settle(holds), evidence)


def _traces(rows: Sequence[Row]) -> Finding:
    text = "Hutch++ and the quadrature agree on every trace within a 99 % interval"
    gaps = []
    for r in spectra(rows):
        value, error = quadrature_trace(r)
        gaps.append(abs(value - r["trace"]) / math.hypot(error, r["trace_error"]))
    allowed = quantile(spectra(rows)[0])
    evidence = (
        f"standard errors apart: {', '.join(f'{g:.1f}' for g in gaps)}; {allowed:.1f} allowed"
    )
    return Finding(text, settle(max(gaps) <= allowed), evidence)


def _resolved(rows: Sequence[Row]) -> Finding:
    ends = [(r[f"{end}_converged"], r[f"{end}_residual"] / abs(r[end]))
            for r in spectra(rows) for end in ("top", "bottom")]  # fmt: skip
    met = sum(converged for converged, _ in ends)
    evidence = f"{met} of {len(ends)}; largest relative residual {max(e for _, e in ends):.2g}"
    text = "every top and bottom eigenvalue met its tolerance"
    return Finding(text, settle(met == len(ends)), evidence)


def spectra_table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return one line a spectrum."""
    lines = []
    for r in spectra(rows_of(records)):
        lines.append({
            "ratio": f"{r['ratio']:g}", "training": r["when"], "trainable": f"{r['size']:,}",
            "loss": f"{r['loss']:.3g}", "top": f"{r['top']:.3g} ± {r['top_residual']:.1g}",
            "bottom": f"{r['bottom']:.3g} ± {r['bottom_residual']:.1g}",
            "trace (Hutch++)": f"{r['trace']:.3g} ± {r['trace_error']:.1g}",
            "negative share": _between(negative_share(r)), "stable rank": f"{stable_rank(r):.3g}",
            "products": str(r["top_products"] + r["bottom_products"] + r["num_matvecs"]
                            + r["trace_products"]),
        })  # fmt: skip
    return lines


def training_table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return one line a mask's training."""
    return [
        {
            "ratio": f"{r['ratio']:g}", "trainable": f"{r['count']:,}", "rate": f"{r['lr']:.3g}",
            "steps": str(len(r["train_loss"])), "distance": f"{r['distance']:.3g}",
            "dev accuracy": "-" if r["dev"] is None else f"{r['dev']:.3f}",
            "end": "diverged" if r["diverged"] else "trained",
        }
        for r in rows_of(records) if r["kind"] == "train"
    ]  # fmt: skip
