"""Two processes on halves of a batch train as one process on all of it, in float64."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from samples import tiny_task
from torch import nn

import landscape as ls
from landscape.training.processes import Processes

PARALLEL = 2
TOKENIZER = ls.tiny_tokenizer()
BASIC = {"lr": 0.02, "epochs": 2, "seed": 3, "lr_schedule": "cosine", "warmup": 1}
#: settings of two processes -> those of one with the same steps; 13 rows end an epoch with one
CASES = {
    "adamw": ({"batch_size": 3}, {"batch_size": 6}),
    "accumulated": ({"batch_size": 2, "accumulate": 2}, {"batch_size": 8}),
    "sgd": ({"batch_size": 3, "optimizer": "sgd", "momentum": 0.5},
            {"batch_size": 6, "optimizer": "sgd", "momentum": 0.5}),
}  # fmt: skip


def task() -> ls.Task:
    whole = tiny_task(24)
    return replace(whole, train=whole.train[:13], loss="language modelling")


def made() -> nn.Module:
    model = ls.tiny_model("opt", vocab_size=len(TOKENIZER)).double()
    ls.attach(model, ls.random_mask(model, density=0.2, targets=["*.[qv]_proj", "*.fc1"], seed=1))
    return model


def _wrapped(model: nn.Module, by: str) -> nn.Module:
    if by == "torch":
        return nn.parallel.DistributedDataParallel(model)
    from accelerate import Accelerator

    prepared: nn.Module = Accelerator(cpu=True).prepare(model)
    return prepared


def _one_rank(rank: int, port: int, folder: str, by: str) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank),
        "WORLD_SIZE": str(PARALLEL), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    torch.set_num_threads(1)
    if by == "torch":
        torch.distributed.init_process_group("gloo", rank=rank, world_size=PARALLEL)
    found = {}
    for name, (settings, _) in CASES.items():
        model = made()
        wrapper = _wrapped(model, by)
        assert isinstance(wrapper, nn.parallel.DistributedDataParallel)
        # with None the first one's clock says when: with clocks of their own they would hang
        keep = {"folder": Path(folder) / name, "checkpoint_every": 1 if name == "sgd" else None}
        first = ls.Training(wrapper, TOKENIZER, task(), **BASIC, **settings, **keep)
        first.step()  # and is lost: the run goes on from what the first process has written
        model = made()
        wrapper = _wrapped(model, by)
        run = ls.finetune(wrapper, TOKENIZER, task(), **BASIC, **settings, **keep)
        thetas = {n: t.detach() for n, t in ls.trainable(model).items()}
        again = ls.finetune(wrapper, TOKENIZER, task(), **BASIC, **settings, **keep)
        assert again.stored
        found[name] = (run.history, run.evaluations, run.config["processes"], thetas)
    torch.save(found, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("by", ["torch", "accelerate"])
def test_two_processes_take_the_steps_of_one_with_the_doubled_batch(tmp_path, by) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_one_rank, (port, str(tmp_path), by), nprocs=PARALLEL)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(PARALLEL)]
    for name, (_, settings) in CASES.items():
        model = made()
        run = ls.finetune(model, TOKENIZER, task(), **BASIC, **settings)
        for history, evaluations, count, thetas in (part[name] for part in parts):
            assert count == PARALLEL
            assert evaluations == parts[0][name][1]
            assert [e["step"] for e in evaluations] == [e["step"] for e in run.evaluations]
            assert len(history) == len(run.history)
            for mine, wanted in zip(history, run.history, strict=True):
                for key, value in wanted.items():
                    assert mine[key] == pytest.approx(value, rel=1e-9), key
            for tensor, theta in ls.trainable(model).items():
                assert torch.equal(thetas[tensor], parts[0][name][3][tensor])
                torch.testing.assert_close(thetas[tensor], theta.detach(), rtol=1e-7, atol=1e-9)


def test_a_model_in_no_wrapper_trains_alone() -> None:
    alone = Processes.of(nn.Linear(2, 2))
    assert (alone.rank, alone.count, alone.first) == (0, 1, True)
    assert alone.total(1.0, 2.5) == [1.0, 2.5]
    alone.wait()
