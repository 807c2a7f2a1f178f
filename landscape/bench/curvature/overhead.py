"""What a product and a tracked training run cost beside training: time and peak memory."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from statistics import median

import torch

from landscape import seeds
from landscape.bench.curvature.cases import (
    make_batch,
    make_large,
    make_model,
    make_task,
    take_gradient,
)
from landscape.curvature import HessianOperator, lanczos
from landscape.curvature.tracking import SharpnessProbe
from landscape.errors import NotConvergedWarning
from landscape.masks import random_mask
from landscape.models import tiny_tokenizer
from landscape.subspace import attach, trainable
from landscape.training.finetuning import finetune

TRACKED, STEPS = "tiny", 1000
"""Shape and training steps of the run that is tracked: enough for several measurements.

The default schedule spends a tenth of the time, on any shape, from about the 150th step on.
"""


def product_over_gradient(shape: str, rounds: int, seed: int) -> float:
    """Return the time of a product with the graph kept over that of a gradient, 8 x 64 tokens."""
    model, batch = make_large(shape, seed)
    H = HessianOperator(model, [batch])
    v = torch.randn(H.size, generator=seeds.generator(seed))
    ratios = []
    for turn in range(rounds + 1):
        start = time.perf_counter()
        take_gradient(model, batch)
        between = time.perf_counter()
        H.matvec(v)
        if turn:
            ratios.append((time.perf_counter() - between) / (between - start))
    return median(ratios)


def tracking(rounds: int, seed: int) -> dict[str, float]:
    """Fine-tune with and without a probe at its default schedule, in turn."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    measured = 0
    for _ in range(rounds):
        for tracked, times in seconds.items():
            model = make_model(TRACKED, seed)
            attach(model, random_mask(model, ratio=1e-2, seed=seed))
            probe = SharpnessProbe([make_batch(4, 32, seed)])
            probes = [probe] if tracked else []
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotConvergedWarning)
                finetune(
                    model, tiny_tokenizer(), make_task(4 * STEPS), lr=1e-4, epochs=1,
                    batch_size=4, seed=seed, test=False, probes=probes,
                )  # fmt: skip
            times.append(time.perf_counter() - start)
            measured += len(probe.rows)
    ratios = [a / b for a, b in zip(seconds[True], seconds[False], strict=True)]
    return {
        "overhead": median(ratios) - 1,
        "steps": STEPS,
        "measurements": measured / rounds,
        "seconds": median(seconds[False]),
    }


def peak_of(what: str, shape: str, seed: int) -> int:
    """Return the peak resident memory, in bytes, in a fresh process."""
    code = f"from {__name__} import print_peak; print_peak({what!r}, {shape!r}, {seed})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1])["peak_memory"])


def print_peak(what: str, shape: str, seed: int) -> None:
    """Measure this process: three training steps, or a Lanczos run of 30 products."""
    model, batch = make_large(shape, seed)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if what == "gradient":
        optimizer = torch.optim.AdamW(trainable(model).values(), lr=1e-4)
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            take_gradient(model, batch)
            optimizer.step()
    else:
        warnings.simplefilter("ignore", NotConvergedWarning)
        lanczos(HessianOperator(model, [batch]), tol=1e-12, max_matvecs=30)
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    print(json.dumps({"peak_memory": peak}))
