"""Verifying claims: the runs behind them again, with seeds that nobody has used.

A rate that dev chose is chosen again, by the first of them: a claim about best rates would else be
judged by the rates that it was made of.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.claims.claim import Claim
from experiments.kit.judge import Finding
from experiments.kit.published import RESULTS, file_of, merge
from experiments.kit.records import Row, Run, rows_of, runs
from experiments.kit.view import PRESETS, Artefact
from experiments.verified import Verification, append, verifications
from landscape.errors import UserError

if TYPE_CHECKING:
    from landscape.sweep.grid import Grid

Compute = Callable[[Sequence["Grid"], Path], object]
"""(grids, store): compute the runs that the store lacks."""
THEORY = "theory"
"""Stands for the preset where theory judges."""
FRESH = "fresh"
"""The file of published rows of fresh seeds, beside the presets'."""


@dataclass(frozen=True)
class Case:
    """Hold claims that statements of one artefact judge.

    Args:
        artefact: that one.
        claims: of its statements.
        rows: of its preset's runs.
    """

    artefact: Artefact
    claims: Sequence[Claim]
    rows: Sequence[Row]


def verify(
    cases: Sequence[Case], preset: str, count: int, store: Path, compute: Compute,
    results: Path = RESULTS,
) -> list[Verification]:  # fmt: skip
    """Judge claims' statements on fresh seeds alone, and on all; append that to the record.

    All cases have the same fresh seeds, so that runs which artefacts share are computed once.

    Args:
        cases: one for every artefact.
        preset: whose runs are repeated.
        count: fresh seeds.
        store: the runs are computed there.
        compute: computes them.
        results: the record and the fresh rows lie there.

    Returns:
        One verification for every claim, case by case.

    Raises:
        UserError: runs of an artefact that are not finished; nothing is computed then.
    """
    from landscape.folders import provenance
    from landscape.sweep.store import RunStore

    done = [_finished(case, preset) for case in cases]
    used = [row for case in cases for row in case.rows]
    seeds = unused([*used, *_published(results)], results, count)
    again = [repeated(of_case, seeds) for of_case in done]
    compute([grid for grids in again for grid in grids], store)
    computed = list(RunStore(store).rows())
    found = []
    made = provenance()
    for case, grids in zip(cases, again, strict=True):
        fresh = rows_of(computed, grids)
        new = case.artefact.records(fresh, grids)
        alone = case.artefact.findings(new)
        old = case.artefact.records(case.rows, case.artefact.of(preset))
        together = case.artefact.findings(old + new)
        found += [
            Verification(
                claim.id, preset, seeds, _verdicts(claim, alone), _verdicts(claim, together),
                {name: alone[name].evidence for name in claim.statements},
                made["date"], made["commit"],
            )
            for claim in case.claims
        ]  # fmt: skip
    merge(file_of(FRESH, results), rows_of(computed, [grid for grids in again for grid in grids]))
    for one in found:
        append(one, results)
    return found


def _finished(case: Case, preset: str) -> list[Run]:
    done = runs(case.rows, case.artefact.of(preset))
    if lacking := sum(run.row is None for run in done):
        name = case.artefact.name
        raise UserError(
            f"expected finished runs of {name}, beside which fresh ones stand, got {lacking} "
            f"missing; compute them: python -m experiments run {name} --preset {preset}"
        )
    return done


def refuse_unjudged(claims: Iterable[Claim]) -> None:
    """Refuse claims that neither runs nor theory judge.

    Raises:
        UserError: the first of them.
    """
    for claim in claims:
        if not (claim.artefact or claim.theory):
            raise UserError(
                f"expected a claim that runs or theory judge, got {claim.id}, which they do not "
                f"({claim.untestable or claim.misprint}); choose one with an artefact"
            )


def verify_theorem(claim: Claim, count: int, results: Path = RESULTS) -> Verification:
    """Examine a theorem on instances drawn with fresh seeds; append that to the record.

    Raises:
        UserError: a claim that nothing judges.
    """
    from landscape.folders import provenance
    from theory.suite import default_problems, summarise, verify_all

    refuse_unjudged([claim])
    seeds = unused([{"config": {"seed": 0}}], results, count, claim.id)
    alone, evidence = {}, {}
    for seed in seeds:
        problems = default_problems(seed)[1:]
        (found,) = summarise(verify_all(seed, problems=problems, only=[claim.theory]))
        alone[f"seed {seed}"] = found.verdict
        evidence[f"seed {seed}"] = ", ".join(f"{n} {v}" for v, n in found.counts.items())
    made = provenance()
    one = Verification(
        claim.id, THEORY, seeds, dict(alone), dict(alone), evidence, made["date"], made["commit"]
    )
    append(one, results)
    return one


def unused(rows: Iterable[Row], results: Path, count: int, claim: str = "") -> list[int]:
    """Return the next seeds that neither rows nor verifications, of a claim or any, have used."""
    used = {row["config"]["seed"] for row in rows}
    done = [one for own in verifications(results).values() for one in own]
    used |= {seed for one in done if claim in ("", one.claim) for seed in one.seeds}
    first = max(used, default=-1) + 1
    return list(range(first, first + count))


def repeated(done: Sequence[Run], seeds: Sequence[int]) -> list[Grid]:
    """Return grids of the same runs with other seeds, measured as they were.

    Rates that were given stay; those that dev chose, the first of the seeds chooses. A mask's seed
    keeps its distance from the seed, so that fresh seeds have fresh masks.
    """
    from landscape.sweep.grid import Grid
    from landscape.sweep.measurements import key

    found: dict[Hashable, tuple[Run, dict[int | None, None]]] = {}
    for run in done:
        lr = None if run.tried else run.config.lr
        family = (
            run.config.replace(seed=0, mask_seed=None, lr=lr).address,
            bool(run.tried), run.every_seed,
            *sorted(key(name, options) for name, options in run.grid.measure.items()),
        )  # fmt: skip
        first, offsets = found.setdefault(family, (run, {}))
        if run.config.seed == first.config.seed:
            mask = run.config.mask_seed
            offsets[None if mask is None else mask - run.config.seed] = None
    grids = []
    for first, offsets in found.values():
        again = ("lr",) if first.tried else ()
        values = first.config.as_dict()
        shared = {k: v for k, v in values.items() if k not in ("seed", "mask_seed", *again)}
        pairs = [(s, None if o is None else s + o) for s in seeds for o in offsets]
        rates = first.grid.rates if first.tried else None
        grids.append(Grid(shared, {"seed+mask_seed": pairs}, rates, first.grid.measure))
    return grids


def _published(results: Path) -> list[Row]:
    """Return the rows of every preset: another artefact may have used further seeds of the runs."""
    from landscape.sweep.published import read_rows

    files = [file_of(preset, results) for preset in PRESETS]
    return [row for path in files if path.exists() for row in read_rows(path).rows()]


def _verdicts(claim: Claim, findings: Mapping[str, Finding]) -> dict[str, str]:
    return {name: findings[name].verdict for name in claim.statements}
