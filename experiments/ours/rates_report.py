"""Judge `rates`: the predictor beside the best rule c / ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median

from experiments.kit.judge import Finding, above, settle
from experiments.kit.records import Record
from experiments.kit.statistics import student
from experiments.ours.rates_grids import (
    EDGE,
    FIXED,
    HALF,
    RULES,
    Comparison,
    Grid,
    compared,
    errors,
    fitted,
    grids,
    held_out_errors,
    predicted_errors,
    rows_of,
    summary,
)


def check(records: Sequence[Record]) -> list[Finding]:
    """Compare the predictor with the grids and with the best fixed rule."""
    gathered = grids(rows_of(records))
    findings = []
    for optimizer in dict.fromkeys(c.optimizer for c in gathered):
        chosen = [c for c in gathered if c.optimizer == optimizer and c.learnt]
        if not chosen:
            text = f"{optimizer}: some rate learns"
            said = "no cell has a rate that is better than none by more than its error"
            findings.append(Finding(text, "undecided", said))
            continue
        findings += _accuracy(optimizer, chosen) + _comparison(optimizer, chosen)
        findings += _uncertainty(optimizer, chosen)
    return findings


def _accuracy(optimizer: str, chosen: Sequence[Grid]) -> list[Finding]:
    ours = summary(predicted_errors(chosen))
    worst = max(
        ((abs(math.log10(s.good / c.best)), f"{c.case}, ratio {c.ratio:g}")
         for c in chosen for s in c.suggestions()),
    )  # fmt: skip
    return [
        Finding(
            f"{optimizer}: the suggested rate is within one decade of the grid's best everywhere",
            settle(ours["largest"] <= 1 + EDGE),
            f"largest error {ours['largest']:.2f} decades ({worst[1]}), n={ours['n']}",
        ),
        Finding(
            f"{optimizer}: it is within half a decade of the grid's best on most",
            settle(ours["half"] > ours["n"] / 2),
            f"{ours['half']} of {ours['n']}, mean error {ours['mean']:.2f} decades",
        ),
    ]


def _comparison(optimizer: str, chosen: Sequence[Grid]) -> list[Finding]:
    fixed = compared(chosen, "c / ratio")
    constant = fitted(fixed)
    rule = errors(fixed, constant)
    cases = [p.case for p in fixed]
    findings = [_beats(f"{optimizer}: it beats the best fixed rule, {constant:.1e} / ratio",
                       predicted_errors(chosen), rule, cases)]  # fmt: skip
    if len({c.case for c in chosen}) > 1:
        name = RULES[optimizer]
        text = f"{optimizer}: it beats it with both constants fitted to the other cases"
        findings.append(
            _beats(text, held_out_errors(compared(chosen, name)), held_out_errors(fixed), cases)
        )
    return findings


def _beats(
    text: str, ours: Sequence[float], rule: Sequence[float], cases: Sequence[str]
) -> Finding:
    """Judge by how much errors are smaller, a case's cells averaged: they share model and head."""
    a, b = summary(ours), summary(rule)
    saved = [abs(y) - abs(x) for x, y in zip(ours, rule, strict=True)]
    evidence = (
        f"mean error {a['mean']:.2f} against {b['mean']:.2f} decades, within half a decade "
        f"{a['half']} against {b['half']} of {a['n']}"
    )
    if not all(map(math.isfinite, saved)):  # one of them predicts nothing somewhere
        saved_by_all = b["mean"] - a["mean"]
        return Finding(text, above(saved_by_all, saved_by_all), evidence)
    by_case: dict[str, list[float]] = {}
    for case, one in zip(cases, saved, strict=True):
        by_case.setdefault(case, []).append(one)
    mean = student([fmean(own) for own in by_case.values()], size=1.0, each="case")
    said = f"{evidence}; saved {mean}"
    return Finding(text, above(mean.low, mean.high), said, (mean.value, mean.low, mean.high))


def _uncertainty(optimizer: str, chosen: Sequence[Grid]) -> list[Finding]:
    inside = [s.interval[0] <= c.best <= s.interval[1] for c in chosen for s in c.suggestions()]
    stable = [
        low / 10 ** (HALF + EDGE) <= s.largest_stable <= high * 10 ** (HALF + EDGE)
        for c in chosen for low, high in [c.stable] for s in c.suggestions()
    ]  # fmt: skip
    return [
        Finding(f"{optimizer}: the 95 % interval contains the grid's best in at least 9 of 10",
                settle(sum(inside) >= 0.9 * len(inside)), f"{sum(inside)} of {len(inside)}"),
        Finding(
            f"{optimizer}: the largest stable rate is within half a decade of where runs begin to "
            "end worse than they began, on most",
            settle(sum(stable) > len(stable) / 2), f"{sum(stable)} of {len(stable)}",
        ),
    ]  # fmt: skip


def cell_table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return one line a cell."""
    gathered, lines = grids(rows_of(records)), []
    for c in gathered:
        same = [x for x in gathered if x.optimizer == c.optimizer and x.learnt]
        constant = fitted(compared(same or [c], "c / ratio"))
        said = c.suggestions()
        good = 10 ** fmean(math.log10(s.good) for s in said)
        lines.append({
            "case": c.case, "optimiser": c.optimizer, "ratio": f"{c.ratio:g}",
            "seeds": str(len(said)),
            "loss before": f"{c.before:.3f}", "best loss": f"{c.losses[c.best]:.3f}",
            "best rate": f"{c.best:.2g}" + (" (edge)" if c.at_edge else ""),
            "tied": f"{min(c.tied):.2g} to {max(c.tied):.2g}",
            "suggested": f"{good:.2g}",
            "error, decades": f"{math.log10(good / c.best):+.2f}",
            "fixed rule's error, decades": f"{math.log10(constant / c.ratio / c.best):+.2f}",
            "learnt": "yes" if c.learnt else "no",
        })  # fmt: skip
    return lines


def rule_table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return one line an optimizer and rule: constant and errors, fitted here and elsewhere."""
    gathered, lines = grids(rows_of(records)), []
    for optimizer in dict.fromkeys(c.optimizer for c in gathered):
        chosen = [c for c in gathered if c.optimizer == optimizer and c.learnt]
        if not chosen:
            continue
        names = [RULES[optimizer], "c / ratio"]
        rules: list[tuple[str, list[Comparison], float | None]]
        rules = [(name, compared(chosen, name), None) for name in names]
        rules += [(f"{c:g} / ratio", compared(chosen, "c / ratio"), c) for c in FIXED]
        for name, given, constant in rules:
            c = fitted(given) if constant is None else constant
            here = summary(errors(given, c))
            elsewhere = here if constant else summary(held_out_errors(given))
            lines.append({
                "optimiser": optimizer, "rule": name, "constant": f"{c:.2g}",
                "mean error, decades": f"{here['mean']:.2f}",
                "largest, decades": f"{here['largest']:.2f}",
                "within half a decade": f"{here['half']} of {here['n']}",
                "mean error, decades, other cases' constant": f"{elsewhere['mean']:.2f}",
                "within half, other cases' constant": f"{elsewhere['half']} of {elsewhere['n']}",
            })  # fmt: skip
    return lines


def calibration_table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return one line an optimizer: the predictor's constants beside those fitted to the rows.

    The largest stable rate of a cell is taken in the middle of the two rates that enclose it.
    """
    from landscape.advisor import CALIBRATION

    gathered, lines = grids(rows_of(records)), []
    for optimizer in dict.fromkeys(c.optimizer for c in gathered):
        chosen = [c for c in gathered if c.optimizer == optimizer and c.learnt]
        given = compared(chosen, RULES[optimizer])
        if not given:
            continue
        good = fitted(given)
        edges = [
            0.5 * math.log10(low * high) - math.log10(p.reference)
            for c in chosen for p in compared([c], RULES[optimizer])
            for low, high in [c.stable] if 0 < low < high < math.inf
        ]  # fmt: skip
        spread = math.sqrt(fmean(error**2 for error in errors(given, good)))
        shipped = CALIBRATION[optimizer]
        lines.append({
            "optimiser": optimizer, "reference": RULES[optimizer],
            "good": f"{shipped.good:g}", "good, fitted": f"{good:.2g}",
            "stable": f"{shipped.stable:g}",
            "stable, fitted": f"{10 ** median(edges):.2g} (n={len(edges)})" if edges else "none",
            "spread": f"{shipped.spread:g}", "spread, fitted": f"{spread:.2f}",
        })  # fmt: skip
    return lines
