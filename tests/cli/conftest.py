"""The files that tests of the command line start from, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_lines import settings
from samples import glue_folder, model_folder

from landscape.cli import main


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model, a task, and two finished runs with their trajectories."""
    folder = tmp_path_factory.mktemp("cli")
    found = {"model": model_folder(folder / "opt"), "task": glue_folder(folder / "SST-2")}
    for seed in ("1", "2"):
        out = folder / f"run{seed}"
        arguments = [*settings(found), "--lr", "0.01", "--epochs", "2", "--mask-seed", seed]
        assert main(["finetune", *arguments, "--output", str(out), "--trajectory", "1"]) == 0
        found |= {f"delta{seed}": out / "delta.safetensors",
                  f"path{seed}": out / "trajectory.safetensors"}  # fmt: skip
    return found
