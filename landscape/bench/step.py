"""Time one training step of each method on an OPT-125m shape, interleaved, and its memory."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import OPTConfig, OPTForCausalLM

from landscape.errors import UserError
from landscape.masks import random_mask
from landscape.models.tensors import num_parameters
from landscape.runs import provenance
from landscape.sources.carriers import require
from landscape.subspace import attach

BATCH, TOKENS, RATIO = 8, 64, 1e-3
#: which linear layers are trained
TARGETS = {
    "q_v": ["q_proj", "v_proj"],
    "all": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
}


@dataclass(frozen=True)
class Variant:
    """Name what a step trains.

    Args:
        method: "masked", peft's "lora" (r = 8) or "shira", "full" fine-tuning, or "floor", the
            frozen model whose backward still carries gradients through every layer.
        head: the output head runs on every position ("full"), as in a plain forward, or on the
            scored (last) position only ("scored"), as this toolkit's tasks do.
        layers: key of `TARGETS`.
        ratio: of a mask.
    """

    method: str
    head: str = "full"
    layers: str = "q_v"
    ratio: float = RATIO


VARIANTS = {
    "masked": Variant("masked", "scored"),
    "masked_full_head": Variant("masked"),
    "masked_all": Variant("masked", layers="all"),
    "floor": Variant("floor"),
    "lora": Variant("lora"),
    "lora_scored_head": Variant("lora", "scored"),
    "lora_all": Variant("lora", layers="all"),
    "shira": Variant("shira"),
    "full": Variant("full"),
}
#: (layers, ratio) -> a variant whose peak memory is compared with the floor's
MEMORY = {
    ("q_v", 1e-4): Variant("masked", ratio=1e-4),
    ("q_v", 1e-3): VARIANTS["masked_full_head"],
    ("q_v", 9.9e-3): Variant("masked", ratio=9.9e-3),
    ("all", 1e-4): Variant("masked", layers="all", ratio=1e-4),
    ("all", 1e-3): VARIANTS["masked_all"],
    ("all", 9.9e-3): Variant("masked", layers="all", ratio=9.9e-3),
}
RATIOS = {
    "masked_over_floor": ("masked_full_head", "floor"),
    "masked_over_lora": ("masked", "lora"),
    "masked_over_lora_same_head": ("masked_full_head", "lora"),
    "masked_scored_over_lora_scored": ("masked", "lora_scored_head"),
    "masked_over_shira": ("masked", "shira"),
    "masked_over_shira_same_head": ("masked_full_head", "shira"),
    "masked_over_full": ("masked", "full"),
    "masked_over_full_same_head": ("masked_full_head", "full"),
    "masked_all_over_floor": ("masked_all", "floor"),
    "masked_all_over_lora_all": ("masked_all", "lora_all"),
    "floor_over_lora": ("floor", "lora"),
    "floor_over_shira": ("floor", "shira"),
    "floor_over_lora_all": ("floor", "lora_all"),
}
"""What the floor takes of a method's time is the least that a masked step could take of it."""


@dataclass(frozen=True)
class Shape:
    """Hold the sizes of the model and of a step's batch; the defaults are OPT-125m's.

    Args:
        batch, tokens: rows of a batch and their length.
        config: arguments of `OPTConfig`.
    """

    batch: int = BATCH
    tokens: int = TOKENS
    config: tuple[tuple[str, int], ...] = ()


def bench_step(*, rounds: int = 9, seed: int = 0, shape: Shape = Shape()) -> dict[str, Any]:
    """Measure every variant once a round, in turn, and take medians of the pairwise ratios.

    Each variant lives in a process of its own, as a user's training does: what one of them leaves
    in the allocator would otherwise make the next one faster or slower.

    Args:
        rounds: timed rounds after one warm-up round, at least 1.
        seed: seed of the random weights and tokens.
        shape: sizes of the model and the batch.

    Returns:
        `seconds` (median by variant), the ratios, the `quartiles` of each over the rounds (what
        the machine's noise leaves of it), `peak_memory` in bytes by variant and
        `peak_memory_over_floor`, layers -> mask's ratio -> a masked step's peak over the floor's,
        provenance.

    Raises:
        UserError: rounds is below 1 or peft is missing.
    """
    if rounds < 1:
        raise UserError(f"rounds must be at least 1, got {rounds}")
    require("this benchmark", "peft")
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with contextlib.ExitStack() as stack:
        steps = {n: stack.enter_context(_Apart(v, seed, shape)) for n, v in VARIANTS.items()}
        for turn in tqdm(range(rounds + 1), desc="rounds", leave=False, disable=None):
            for name, step in steps.items():
                taken = step()
                if turn:
                    seconds[name].append(taken)
        peaks = {name: step.peak() for name, step in steps.items()}
    result: dict[str, Any] = {
        "shape": f"OPT-125m, batch {BATCH} x {TOKENS} tokens, AdamW, masked ratio {RATIO} on q, v",
        "rounds": rounds,
        "seconds": {name: median(times) for name, times in seconds.items()},
    }
    pairs = {
        key: [a / b for a, b in zip(seconds[over], seconds[under], strict=True)]
        for key, (over, under) in RATIOS.items()
    }
    result |= {key: median(ratios) for key, ratios in pairs.items()}
    result["quartiles"] = {key: np.quantile(r, [0.25, 0.75]).tolist() for key, r in pairs.items()}
    return result | _memory(peaks, seed, shape) | {"provenance": provenance()}


def _memory(peaks: dict[str, int], seed: int, shape: Shape) -> dict[str, Any]:
    """Compare the peaks of `MEMORY` with the floor's; what was not timed steps three times."""
    known = {variant: peaks[name] for name, variant in VARIANTS.items()}
    over: dict[str, dict[str, float]] = {layers: {} for layers, _ in MEMORY}
    for (layers, ratio), variant in MEMORY.items():
        if variant not in known:
            with _Apart(variant, seed, shape) as step:
                for _ in range(3):
                    step()
                known[variant] = step.peak()
        over[layers][f"{ratio:g}"] = known[variant] / peaks["floor"]
    return {
        "peak_memory": peaks,
        "peak_memory_masked_over_floor": peaks["masked_full_head"] / peaks["floor"],
        "peak_memory_over_floor": over,
    }


class _Apart:
    """Hold a variant in a process of its own, which steps when it is told to."""

    def __init__(self, variant: Variant, seed: int, shape: Shape) -> None:
        processes = multiprocessing.get_context("spawn")
        self._pipe, self._served = processes.Pipe()
        told = self._served, variant, seed, shape, torch.get_num_threads()
        self._process = processes.Process(target=_serve, args=told, daemon=True)

    def __enter__(self) -> _Apart:
        self._process.start()
        self._served.close()  # so that the pipe ends with the process
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def __call__(self) -> float:
        """Do one training step and return its seconds."""
        return float(self._ask("step"))

    def peak(self) -> int:
        """Return the peak resident memory of the steps so far, in bytes."""
        return int(self._ask("peak"))

    def _ask(self, what: str) -> Any:
        try:
            self._pipe.send(what)
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("the process of a benchmark's step has ended") from error


def _serve(pipe: Any, variant: Variant, seed: int, shape: Shape, threads: int) -> None:
    torch.set_num_threads(threads)
    step = build(variant, seed, shape)
    with peak_memory():
        while True:
            if pipe.recv() == "peak":
                pipe.send(_resident("VmHWM"))
                continue
            start = time.perf_counter()
            step()
            pipe.send(time.perf_counter() - start)


def build(variant: Variant, seed: int, shape: Shape) -> Callable[[], None]:
    """Build a variant; the function that comes back does one whole training step."""
    torch.manual_seed(seed)
    model: Any = OPTForCausalLM(OPTConfig(**dict(shape.config))).eval()
    tokens = torch.randint(4, model.config.vocab_size, (shape.batch, shape.tokens))
    model, parameters = _METHODS[variant.method](model, variant)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4) if parameters else None

    def step() -> None:
        if optimizer:
            optimizer.zero_grad(set_to_none=True)
        _loss(model, tokens, variant.head).backward()
        if optimizer:
            optimizer.step()

    return step


def _loss(model: Any, tokens: Tensor, head: str) -> Tensor:
    """Predict the last token: same loss either way, with all logits or the scored ones."""
    if head == "full":
        labels = torch.full_like(tokens, -100)
        labels[:, -1] = tokens[:, -1]
        loss: Tensor = model(input_ids=tokens, labels=labels, use_cache=False).loss
        return loss
    logits = model(input_ids=tokens, logits_to_keep=2, use_cache=False).logits[:, 0]
    return nn.functional.cross_entropy(logits.float(), tokens[:, -1])


def _masked(model: nn.Module, variant: Variant) -> tuple[Any, list[Tensor]]:
    targets = [f"*.{name}" for name in TARGETS[variant.layers]]
    attach(model, random_mask(model, ratio=variant.ratio, targets=targets, seed=0))
    return model, [p for p in model.parameters() if p.requires_grad]


def _floor(model: nn.Module, variant: Variant) -> tuple[Any, list[Tensor]]:
    """Freeze everything; the backward still carries gradients through every layer."""
    model.requires_grad_(False)
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    embedding.register_forward_hook(lambda _m, _i, out: out.requires_grad_(True))
    return model, []


def _peft(model: Any, variant: Variant) -> tuple[Any, list[Tensor]]:
    import peft

    targets = TARGETS[variant.layers]
    if variant.method == "lora":
        config: Any = peft.LoraConfig(r=8, lora_alpha=16, target_modules=targets)
    else:
        # SHiRA takes a rank r and trains r (in + out) entries a layer: the nearest to our count
        per_layer = variant.ratio * num_parameters(model) / (2 * model.config.num_hidden_layers)
        rank = max(1, round(per_layer / (2 * model.config.hidden_size)))
        config = peft.ShiraConfig(r=rank, target_modules=targets, random_seed=0)
    wrapped = peft.get_peft_model(model, config).eval()
    return wrapped, [p for p in wrapped.parameters() if p.requires_grad]


def _full(model: nn.Module, variant: Variant) -> tuple[Any, list[Tensor]]:
    return model, list(model.parameters())


_METHODS: dict[str, Callable[[Any, Variant], tuple[Any, list[Tensor]]]] = {
    "masked": _masked,
    "floor": _floor,
    "lora": _peft,
    "shira": _peft,
    "full": _full,
}


@contextlib.contextmanager
def peak_memory() -> Iterator[dict[str, int]]:
    """Measure this process: `bytes`, its peak resident memory within, and `before`."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    measured = {"before": _resident("VmRSS")}
    yield measured
    measured["bytes"] = _resident("VmHWM")


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))
