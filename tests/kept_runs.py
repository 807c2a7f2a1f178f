"""Short runs in folders, whole and stopped, and what of them must be the same."""

from __future__ import annotations

import torch

import landscape as ls

SETTINGS = {"lr": 1e-2, "epochs": 2, "batch_size": 4, "seed": 5, "checkpoint_every": 2}


class Killed(BaseException):
    """What a signal would do, where it can be put between two lines."""


def tiny_task(count: int = 16, flip: bool = False) -> ls.Task:
    words = ("bad", "good")
    rows = tuple(
        ls.Example(f"film {i % 5} is {words[i % 2]}", (" no", " yes"), (i + flip) % 2)
        for i in range(count)
    )
    return ls.Task("tiny", rows, rows[:8], rows[8:16])


def masked(seed: int = 0, **options) -> torch.nn.Module:
    model = ls.tiny_model("llama", seed=seed)
    options = {"density": 0.3, "targets": "*_proj"} | options
    ls.attach(model, ls.random_mask(model, **options))
    return model


def finetune(model, folder, task=None, **settings) -> ls.Run:
    return ls.finetune(
        model, ls.tiny_tokenizer(), task or tiny_task(), folder=folder, **(SETTINGS | settings)
    )


def numbers(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in ls.trainable(model).items()}


def lasting(run: ls.Run) -> dict:
    """What of a run does not depend on the machine's clock."""
    passing = ("seconds", "peak_memory")
    metrics = {key: value for key, value in run.metrics.items() if key not in passing}
    return {"history": run.history, "evaluations": run.evaluations, "metrics": metrics,
            "distance": run.distance, "config": run.config}  # fmt: skip


def stop_at(step: int):
    def probe(_, record) -> None:
        if record["step"] == step:
            raise Killed

    return probe


def assert_same(run: ls.Run, model: torch.nn.Module, whole) -> None:
    expected, theta = whole
    assert lasting(run) == lasting(expected)
    assert all(torch.equal(p, theta[n]) for n, p in numbers(model).items())
    assert run.path is not None
    assert sorted(p.name for p in run.path.iterdir()) == [
        "config.json", "provenance.json", "result.json", "theta.safetensors",
    ]  # fmt: skip
