"""Which cells of an artefact still lack runs, and how many: a few words a cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from experiments.kit.records import Record, Run, is_whole, record

Cell = tuple[str, str, str]
"""Model, task, and the arm with its ratio or number of weights."""


def missing(found: Sequence[Run], arm: Callable[[Record], str]) -> list[str]:
    """Name the cells that lack runs, or what is measured on them, in the order of the grids.

    A model and task of which nothing is there is one cell.

    Args:
        found: the runs of an artefact.
        arm: names that of a record. One of which no run is there has method and schedule for it,
            and its rate where it was given.

    Returns:
        Such as "minilm-l6 sst2 random 0.001 (2 of 5)": two of five are missing.
    """
    arms = {_family(run): arm(record(run)) for run in found if run.row is not None}
    cells: dict[Cell, list[bool]] = {}
    for run in found:
        one = run.config
        named = arms.get(_family(run)) or _unseen(run)
        size = one.ratio if one.count is None else one.count
        if size is not None and f"{size:.12g}" not in named:
            named += f" {size:.12g}"
        cells.setdefault((one.model, one.task, named), []).append(is_whole(run))
    begun = {at[:2] for at, own in cells.items() if any(own)}
    lacking: dict[tuple[str, ...], list[bool]] = {}
    for at, own in cells.items():
        lacking.setdefault(at if at[:2] in begun else at[:2], []).extend(own)
    return [
        f"{' '.join(at)} ({own.count(False)} of {len(own)})"
        for at, own in lacking.items() if not all(own)
    ]  # fmt: skip


def _unseen(run: Run) -> str:
    one, given = run.config, run.grid.rates is None and run.config.lr is not None
    rate = f"at {one.lr:g}" if given else ""
    return " ".join(filter(None, (one.method, one.schedule, rate)))


def _family(run: Run) -> tuple[str, bool]:
    """Return what the runs of an arm have in common, at the rate chosen or the same one given."""
    lr = None if run.tried else run.config.lr
    return run.config.replace(seed=0, mask_seed=None, lr=lr).address, run.every_seed
