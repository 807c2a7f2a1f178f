"""Making masks of huge models, and attaching many deltas: what it costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import landscape as ls
from landscape.bench import masks as bench
from landscape.cli import main


class Largest(TorchDispatchMode):
    """Note the largest tensor that any operation makes: views and writes in place make none."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        held = {a.untyped_storage().data_ptr() for a in args if isinstance(a, torch.Tensor)}
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.untyped_storage().data_ptr() not in held:
            self.numbers = max(self.numbers, out.numel())
        return out


def test_a_mask_of_opt_13b_takes_under_200_mb() -> None:
    # a child process, so that the memory of this one does not count
    done = subprocess.run(
        [sys.executable, "-m", "landscape.bench.masks"], capture_output=True, text=True, check=True
    )
    made = json.loads(done.stdout.splitlines()[-1])
    assert made["candidates"] == 2 * 40 * 5_120**2
    # p of the whole model (embeddings, positions, 40 layers of 12 h^2 + 13 h, two norms): Bernoulli
    h = 5_120
    total = 50_272 * h + 2_050 * h + 40 * (12 * h * h + 13 * h) + 2 * h
    assert abs(made["count"] - 1e-5 * total) < 6 * (1e-5 * total) ** 0.5
    assert made["added_memory"] < 200e6


@pytest.mark.parametrize("width", [64, 512])
def test_attaching_and_detaching_a_seeded_delta_makes_no_tensor_larger_than_k(width) -> None:
    model = nn.ModuleDict({"q_proj": nn.Linear(width, width), "norm": nn.LayerNorm(width)})
    with Largest() as largest:
        for seed in range(5):
            mask = ls.random_mask(model, count=40, targets=["q_proj", "norm"], seed=seed,
                                  sampling="exact")  # fmt: skip
            ls.attach(model, mask)
            with torch.no_grad():
                for theta in ls.trainable(model).values():
                    theta.fill_(0.1)
            ls.detach(model)
    assert 0 < largest.numbers <= 40


def test_hundreds_of_deltas_leave_nothing_behind() -> None:
    model = nn.ModuleDict({"q_proj": nn.Linear(32, 32), "e": nn.Embedding(9, 4)})
    before = {k: v.clone() for k, v in model.state_dict().items()}
    attributes = {n: sorted(m.__dict__) for n, m in model.named_modules()}
    for seed in range(300):
        ls.attach(model, ls.random_mask(model, count=16, targets="*", seed=seed))
        with torch.no_grad():
            for theta in ls.trainable(model).values():
                theta.fill_(seed + 1.0)
        model["q_proj"](torch.ones(1, 32))
        ls.detach(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert {n: sorted(m.__dict__) for n, m in model.named_modules()} == attributes
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    assert sum(hooks) + len(model._load_state_dict_pre_hooks) == 0


def test_the_bench_reports_what_it_measured(monkeypatch, capsys) -> None:
    monkeypatch.setattr(bench, "DELTA_CELLS", ((8, 20), (32, 20), (32, 80)))
    made = {"candidates": 5, "count": 1, "seconds": 0.5, "added_memory": 3}
    done = type("Done", (), {"stdout": json.dumps(made)})
    monkeypatch.setattr(bench.subprocess, "run", lambda *a, **k: done)
    assert main(["bench", "masks", "--deltas", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["creation"] == made
    first, second, third = result["attaching"]
    assert (first["weights"], second["weights"]) == (24 * 64, 24 * 1024)
    assert (first["count"], third["count"]) == (20, 80)
    assert result["weights_ratio"] == second["seconds"] / first["seconds"] > 0


def test_no_deltas_are_refused() -> None:
    with pytest.raises(ls.UserError, match="at least 1"):
        bench.bench_masks(deltas=0)
