"""Time packed runs against the same runs one after the other: runs per hour, and peak memory."""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape import seeds
from landscape.bench.interleaved import interleaved, refuse_rounds
from landscape.bench.memory import peak_memory
from landscape.folders import provenance
from landscape.masks import Mask, random_mask
from landscape.models import load_model, tiny_tokenizer
from landscape.models.placement import checked_device
from landscape.subspace import attach
from landscape.tasks import Example, Task, load_task
from landscape.training.packed import Lane
from landscape.training.packed.pack import Pack
from landscape.training.training import Training

RATIO, BATCH = 1e-3, 8
PACKAGED = {"minilm-l6": {"num_labels": 2}, "smollm2-135m": {}}
TIMED = 2
"""Solo runs that are timed; the others take as long."""


@dataclass(frozen=True)
class Case:
    """Say what is packed.

    Args:
        model: a packaged model on packaged reviews, or "opt-125m": random weights of that shape
            without dropout, on synthetic reviews.
        runs: how many together.
        autocast: "bf16", or None.
        device: of the model.
    """

    model: str
    runs: int
    autocast: str | None
    device: str


def bench_packed(
    *, rounds: int = 3, runs: int = 8, device: str = "cpu", shape: str | None = None
) -> dict[str, Any]:
    """Measure training steps of several runs, packed and solo in turn.

    Args:
        rounds: timed steps, at least 1.
        runs: runs together, at least 2.
        device: "cpu" or a GPU.
        shape: "opt-125m" in place of the packaged models.

    Returns:
        `cells`, one a model and precision: the ratio by the clock and by processor time with
        quartiles, and `floor_tokens`, how many times fewer tokens the pack reads (the ratio of
        padded tokens, which bounds what a processor that computes all the time can gain);
        `packed_over_solo_fp32` and `_bf16`, runs per hour over runs per hour, of the slowest model;
        `peak_memory_packed_over_solo`, of the model where it is largest; `amx`, whether this
        processor multiplies bfloat16 matrices by itself.

    Raises:
        UserError: rounds is below 1, or there is no such device.
    """
    refuse_rounds(rounds)
    kind = str(checked_device("device", device))
    names = [shape] if shape else list(PACKAGED)
    cells = [
        _cell(Case(name, runs, autocast, kind), rounds)
        for name in names
        for autocast in (None, "bf16")
    ]
    result: dict[str, Any] = {"runs": runs, "rounds": rounds, "device": kind, "amx": _has_amx()}
    for key, autocast in (("fp32", None), ("bf16", "bf16")):
        ratios = [cell["ratio"]["wall"] for cell in cells if cell["autocast"] == autocast]
        result[f"packed_over_solo_{key}"] = min(ratios)
    result["peak_memory_packed_over_solo"] = max(cell["peak_memory"]["ratio"] for cell in cells)
    return result | {"cells": cells, "provenance": provenance(kind)}


def _cell(case: Case, rounds: int) -> dict[str, Any]:
    model, tokenizer = _model(case)
    lanes = _lanes(case, model, rounds)
    pack = Pack(model, tokenizer, lanes)
    solos = [_solo(model, tokenizer, lane) for lane in lanes[:TIMED]]
    wait: Callable[[], None] = torch.cuda.synchronize if case.device != "cpu" else lambda: None

    def packed() -> None:
        pack.step()
        wait()

    def solo() -> None:
        for training in solos:
            training.step()
        wait()

    over = interleaved({"packed": packed, "solo": solo}, rounds).over("solo", "packed")
    scale = case.runs / len(solos)
    ratio = {
        key: [v * scale for v in value] if isinstance(value, list) else value * scale
        for key, value in over.items()
    }
    read, alone = _tokens(case, pack)
    return {
        "model": case.model, "autocast": case.autocast, "runs": case.runs, "ratio": ratio,
        "floor_tokens": alone / read, "peak_memory": _peaks(case, pack, solos),
    }  # fmt: skip


def _model(case: Case) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    if case.model in PACKAGED:
        own: Any = PACKAGED[case.model]
        return load_model(case.model, device=case.device, **own)
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(dropout=0.0, attention_dropout=0.0)  # its sizes are OPT-125m's
    with seeds.drawing(0):
        made = OPTForCausalLM(config).eval()
    return made.to(case.device), tiny_tokenizer()


def _lanes(case: Case, model: nn.Module, rounds: int) -> list[Lane]:
    """Return runs that differ in mask, rate, rows and seed, with steps left at their end."""
    size = BATCH * (rounds + 3)
    return [
        Lane(
            _task(case, size, seed), mask=_mask(model, seed), lr=1e-2 * (1 + seed % 3),
            batch_size=BATCH, epochs=1, seed=seed, test=False, autocast=case.autocast,
        )
        for seed in range(case.runs)
    ]  # fmt: skip


def _mask(model: nn.Module, seed: int) -> Mask:
    return random_mask(model, ratio=RATIO, seed=seed, targets="auto")


def _task(case: Case, size: int, seed: int) -> Task:
    if case.model in PACKAGED:
        return load_task(
            "rotten_tomatoes", num_train=size, num_dev=BATCH, num_test=BATCH, seed=seed
        )
    stream = seeds.numbered(seed, 0)
    lengths = stream.normal(30, 11, size + 2 * BATCH).clip(6, 60).astype(int)
    examples = tuple(
        Example("".join(stream.choice(list("abcdefgh"), length)), (" terrible", " great"), i % 2)
        for i, length in enumerate(lengths)
    )
    return Task("synthetic", examples[2 * BATCH :], examples[:BATCH], examples[BATCH : 2 * BATCH])


def _solo(model: nn.Module, tokenizer: PreTrainedTokenizerBase, lane: Lane) -> Training:
    own = copy.deepcopy(model)
    assert lane.mask is not None
    attach(own, lane.mask)
    return Training(own, tokenizer, lane.task, **vars(lane.settings))


def _tokens(case: Case, pack: Pack) -> tuple[int, int]:
    """Return how many tokens the pack reads in its next step, and its runs one after the other."""
    read = sum(c.batch["input_ids"].numel() for chunks in pack.next_chunks() for c in chunks)
    alone = 0
    for course in pack.courses:
        for batch in course.epochs.share(course.updates.taken).batches:
            alone += batch["input_ids"].numel()
    return read, alone


def _peaks(case: Case, pack: Pack, solos: Sequence[Training]) -> dict[str, float]:
    """Return the peak memory of a packed and of a solo step, in bytes, and their ratio."""
    if case.device == "cpu":
        context = multiprocessing.get_context("spawn")
        with context.Pool(1, maxtasksperchild=1) as pool:
            threads = torch.get_num_threads()
            found = [pool.apply(_peak_apart, (case, n, threads)) for n in (case.runs, 1)]
    else:
        weights = sum(p.nbytes for p in pack.model.parameters())
        found = [weights + _added(pack.step), weights + _added(solos[0].step)]
    return {"packed": found[0], "solo": found[1], "ratio": found[0] / found[1]}


def _added(step: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


def _peak_apart(case: Case, runs: int, threads: int) -> int:
    """Return the peak memory of steps in a process of its own: of a pack, or of one solo run."""
    torch.set_num_threads(threads)
    model, tokenizer = _model(case)
    lanes = _lanes(case, model, rounds=3)[:runs]
    if runs > 1:
        step: Callable[[], object] = Pack(model, tokenizer, lanes).step
    else:
        attach(model, lanes[0].mask)  # type: ignore[arg-type]
        own = lanes[0].settings
        step = Training(model, tokenizer, lanes[0].task, **vars(own)).step
    with peak_memory() as measured:
        for _ in range(2):
            step()
    return measured["bytes"]


def _has_amx() -> bool:
    """Tell whether the processor multiplies matrices of bfloat16 by itself, as Linux says."""
    path = Path("/proc/cpuinfo")
    return path.exists() and "amx_bf16" in path.read_text()
