"""Time our training, evaluation and generation beside the papers' protocol done literally."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from landscape.bench.interleaved import interleaved, refuse_rounds
from landscape.bench.protocol.cases import BESIDE, Case, find_cases
from landscape.bench.protocol.peak import peak_of
from landscape.bench.protocol.sides import SIDES, Bench, parts_of
from landscape.folders import provenance
from landscape.tasks.encoding import Encoded
from landscape.tasks.forms.candidates import log_probs

TOLERANCE = 1e-3
"""Largest difference of losses and scores in float32 that counts as rounding."""


def bench_protocol(
    *,
    rounds: int = 2,
    seed: int = 0,
    data: Path | None = None,
    memory: bool = True,
    bench: Bench | None = None,
    cases: Sequence[Case] | None = None,
) -> dict[str, Any]:
    """Train, evaluate and generate by both protocols in turn, with SmolLM2 and a mask on q and v.

    The literal one (`landscape.bench.protocol.literal`) forwards every candidate as a row of its
    own, with all logits at every position. Both train on the same micro-batches, and have the same
    losses and scores, or the benchmark fails.

    Args:
        rounds: timed rounds after one warm-up, at least 1.
        seed: of the splits and the mask.
        data: folder that holds official releases of the tasks; see `cases.find_cases`.
        memory: whether to measure the peak memory too, each side in a process of its own.
        bench: another model.
        cases: other cases.

    Returns:
        `cells`, one a task: its source; for "train", "evaluate" or "generate" the examples, those
        a second on both sides, `speedup`, as `Times.over`, the tokens that entered the model and
        the positions that its output head saw on both sides, and how far these differ:
        `difference`, of the losses of steps or of the candidates' scores, `same_answers` and
        `same_texts`, shares of the predicted candidates and of the generated texts. With memory,
        `peak_memory` of tasks that are trained: bytes of a process that trains and evaluates on
        either side, and ours over the literal one's. `train_speedup`, `evaluate_speedup`,
        `generate_speedup`, `peak_memory_ratio`: medians over tasks of the protocol, by the clock;
        None where no task has it. Provenance.

    Raises:
        UserError: rounds is below 1, or there is nothing to compare on.
        RuntimeError: the two protocols disagree.
    """
    refuse_rounds(rounds)
    cases = find_cases(data, seed) if cases is None else cases
    bench = Bench.load(seed) if bench is None else bench
    cells = []
    for case in tqdm(cases, leave=False, disable=None):
        cell: dict[str, Any] = {"task": case.name, "source": case.source}
        for what, examples in parts_of(bench, case).items():
            cell[what] = _compared(bench, case, what, examples, rounds)
        if memory and case.train:
            cell["peak_memory"] = _memory(case, data, seed)
        cells.append(cell)
    speedups = {
        f"{what}_speedup": _median(
            [
                c[what]["speedup"]["wall"]
                for c in cells
                if what in c and not c["task"].endswith(BESIDE)
            ]
        )
        for what in SIDES
    }
    ratios = [cell["peak_memory"]["ratio"] for cell in cells if "peak_memory" in cell]
    return {
        "model": type(bench.model).__name__, "rounds": rounds, "cells": cells,
        **speedups, "peak_memory_ratio": _median(ratios), "provenance": provenance(),
    }  # fmt: skip


def _median(values: list[float]) -> float | None:
    return median(values) if values else None


def _compared(
    bench: Bench, case: Case, what: str, examples: list[Encoded], rounds: int
) -> dict[str, Any]:
    """Time both sides of one thing, and check that they agree."""
    found: dict[str, Any] = {}
    work: dict[str, dict[str, int]] = {}

    def run(side: str, function: Any) -> None:
        with counted(bench.model) as work[side]:
            found[side] = function(bench, case, examples)

    sides = dict(zip(("literal", "ours"), SIDES[what], strict=True))
    times = interleaved({name: partial(run, name, side) for name, side in sides.items()}, rounds)
    return {
        "examples": len(examples),
        "examples_per_second": {
            name: len(examples) / median(seconds) for name, seconds in times.wall.items()
        },
        "speedup": times.over("literal", "ours"),
        "work": work,
        **_agreement(bench, case, what, examples, found),
    }


def _agreement(
    bench: Bench, case: Case, what: str, examples: list[Encoded], found: dict[str, Any]
) -> dict[str, float]:
    if what == "generate":
        same = [a == b for a, b in zip(found["literal"], found["ours"], strict=True)]
        return {"same_texts": sum(same) / len(same)}
    literal, told = found["literal"], {}
    if what == "train":
        ours = found["ours"]
    else:
        ours = _scores(bench, examples)
        best = [scores.index(max(scores)) for scores in literal]
        same = [a == b for a, b in zip(best, found["ours"].predictions, strict=True)]
        told["same_answers"] = sum(same) / len(same)
    pairs = zip(_flat(literal), _flat(ours), strict=True)
    difference = max(abs(a - b) for a, b in pairs)
    if not difference < TOLERANCE:
        raise RuntimeError(
            f"the protocols disagree on {case.name}: {what} differs by {difference:.2g}, of which "
            f"rounding explains {TOLERANCE:g}"
        )
    return {"difference": difference, **told}


def _scores(bench: Bench, examples: list[Encoded]) -> list[list[float]]:
    totals, counts = log_probs(bench.model, examples, bench.pad)
    return [
        (total[:n] / count[:n]).tolist()
        for total, count, n in zip(totals, counts, (len(e.candidates) for e in examples))
    ]


def _flat(values: list[Any]) -> list[float]:
    return [x for value in values for x in (value if isinstance(value, list) else [value])]


@contextmanager
def counted(model: PreTrainedModel) -> Iterator[dict[str, int]]:
    """Count the tokens that enter the model, and the positions that its output head sees."""
    count = {"tokens": 0, "head_positions": 0}

    def add(name: str, output: Tensor) -> None:
        count[name] += output.shape[0] * output.shape[1]

    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: add(name, out))
        for name, module in (
            ("tokens", model.get_input_embeddings()),
            ("head_positions", model.get_output_embeddings()),
        )
    ]
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


def _memory(case: Case, data: Path | None, seed: int) -> dict[str, Any]:
    peaks = {side: peak_of(side, case.name, data, seed) for side in ("literal", "ours")}
    return {**peaks, "ratio": peaks["ours"] / peaks["literal"]}
