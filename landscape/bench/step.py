"""Time one training step of each method on an OPT-125m shape, interleaved, and its memory."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import OPTConfig, OPTForCausalLM

from landscape.errors import UserError
from landscape.masks import num_parameters, random_mask
from landscape.runs import provenance
from landscape.subspace import attach

BATCH, TOKENS, RATIO = 8, 64, 1e-3
TARGETS = ["q_proj", "v_proj"]
#: name -> (method, head): the head runs on every position, as in a plain forward, or on the
#: scored (last) position only, as this toolkit's tasks do.
VARIANTS = {
    "masked": ("masked", "scored"),
    "masked_full_head": ("masked", "full"),
    "floor": ("floor", "full"),
    "lora": ("lora", "full"),
    "lora_scored_head": ("lora", "scored"),
    "shira": ("shira", "full"),
    "full": ("full", "full"),
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
}


def bench_step(*, rounds: int = 9, seed: int = 0, memory: bool = True) -> dict[str, Any]:
    """Measure every variant once a round, in turn, and take medians of the pairwise ratios.

    Args:
        rounds: timed rounds after one warm-up round, at least 1.
        seed: seed of the random weights and tokens.
        memory: whether to measure peak memory, each variant in a process of its own.

    Returns:
        `seconds` (median by variant), the ratios, `peak_memory` in bytes by variant, provenance.

    Raises:
        UserError: rounds is below 1 or peft is missing.
    """
    if rounds < 1:
        raise UserError(f"rounds must be at least 1, got {rounds}")
    torch.set_num_threads(torch.get_num_threads())
    steps = {name: build(name, seed) for name in VARIANTS}
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for turn in tqdm(range(rounds + 1), desc="rounds", leave=False):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    result: dict[str, Any] = {
        "shape": f"OPT-125m, batch {BATCH} x {TOKENS} tokens, AdamW, masked ratio {RATIO} on q, v",
        "rounds": rounds,
        "seconds": {name: median(times) for name, times in seconds.items()},
    }
    for key, (over, under) in RATIOS.items():
        pairs = zip(seconds[over], seconds[under], strict=True)
        result[key] = median(a / b for a, b in pairs)
    if memory:
        peaks = {name: _peak_of(name, seed) for name in tqdm(VARIANTS, desc="memory", leave=False)}
        result["peak_memory"] = peaks
        result["peak_memory_masked_over_floor"] = peaks["masked_full_head"] / peaks["floor"]
    result["provenance"] = provenance()
    return result


def build(name: str, seed: int) -> Callable[[], None]:
    """Build a variant; the function that comes back does one whole training step."""
    method, head = VARIANTS[name]
    torch.manual_seed(seed)
    model: Any = OPTForCausalLM(OPTConfig()).eval()
    tokens = torch.randint(4, 50_000, (BATCH, TOKENS))
    model, parameters = _METHODS[method](model)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4) if parameters else None

    def step() -> None:
        if optimizer:
            optimizer.zero_grad(set_to_none=True)
        _loss(model, tokens, head).backward()
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


def _masked(model: nn.Module) -> tuple[Any, list[Tensor]]:
    attach(model, random_mask(model, ratio=RATIO, targets="*.[qv]_proj", seed=0))
    return model, [p for p in model.parameters() if p.requires_grad]


def _floor(model: nn.Module) -> tuple[Any, list[Tensor]]:
    """Freeze everything; the backward still carries gradients through every layer."""
    model.requires_grad_(False)
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    embedding.register_forward_hook(lambda _m, _i, out: out.requires_grad_(True))
    return model, []


def _peft(model: Any, kind: str) -> tuple[Any, list[Tensor]]:
    try:
        import peft
    except ImportError as error:
        raise UserError("this benchmark compares with peft; pip install peft") from error
    if kind == "lora":
        config: Any = peft.LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS)
    else:
        # SHiRA takes a rank r and trains r (in + out) entries a layer: the nearest to our count
        per_layer = RATIO * num_parameters(model) / (2 * model.config.num_hidden_layers)
        rank = max(1, round(per_layer / (2 * model.config.hidden_size)))
        config = peft.ShiraConfig(r=rank, target_modules=TARGETS, random_seed=0)
    wrapped = peft.get_peft_model(model, config).eval()
    return wrapped, [p for p in wrapped.parameters() if p.requires_grad]


def _full(model: nn.Module) -> tuple[Any, list[Tensor]]:
    return model, list(model.parameters())


_METHODS: dict[str, Callable[[Any], tuple[Any, list[Tensor]]]] = {
    "masked": _masked,
    "floor": _floor,
    "lora": lambda model: _peft(model, "lora"),
    "shira": lambda model: _peft(model, "shira"),
    "full": _full,
}


def _peak_of(name: str, seed: int) -> int:
    """Return the peak resident memory, in bytes, of three steps in a fresh process."""
    command = [sys.executable, "-m", "landscape.bench.step", name, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1])["peak_memory"])


def _measure_peak(arguments: Sequence[str]) -> None:
    """Measure this process: build the variant, forget the peak so far, step three times."""
    step = build(arguments[0], int(arguments[1]))
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    for _ in range(3):
        step()
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    print(json.dumps({"peak_memory": peak}))


if __name__ == "__main__":
    _measure_peak(sys.argv[1:])
