"""What tests of the command line share: its usual arguments, and the library's own answer."""

from __future__ import annotations

import json
from pathlib import Path

import torch

import landscape as ls
from landscape.cli import main


def settings(files: dict[str, Path]) -> list[str]:
    sizes = ["--num-train", "16", "--num-dev", "8", "--num-test", "8"]
    return [
        "--model", str(files["model"]), "--task", "sst2", "--source", str(files["task"]),
        "--density", "0.1", *sizes,
    ]  # fmt: skip


def measured(files: dict[str, Path], delta: str | None = "delta1") -> tuple[torch.nn.Module, list]:
    """The model and the batches that a command measures with, by the library."""
    model, tokenizer = ls.load_model(files["model"])
    if delta:
        ls.load_delta(model, files[delta])
    task = ls.load_task("sst2", source=files["task"], num_train=16, num_dev=8, num_test=8)
    return model, ls.make_batches(task.train[:4], tokenizer, 4, sort=True, loss=task.loss)


def last_object(text: str) -> dict:
    """Read what --json printed: one object, and nothing beside it."""
    return json.loads(text)


def run(files, command: str, *arguments: object) -> int:
    """Run a command at a mask of the usual density, or at a delta, which has its own weights."""
    usual = settings(files)
    if "--delta" in arguments:
        usual = [a for a in usual if a not in ("--density", "0.1")]
    return main([command, *usual, "--examples", "4", *map(str, arguments)])
