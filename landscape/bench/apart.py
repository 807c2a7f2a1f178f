"""A variant in a process of its own, as a user's training is."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

import torch

from landscape.bench.memory import peak_memory, resident
from landscape.bench.variants import Shape, Variant, build


class Apart:
    """Hold a variant in a process of its own, which steps when it is told to."""

    def __init__(self, variant: Variant, seed: int, shape: Shape) -> None:
        processes = multiprocessing.get_context("spawn")
        self._pipe, self._served = processes.Pipe()
        told = self._served, variant, seed, shape, torch.get_num_threads()
        self._process = processes.Process(target=_serve, args=told, daemon=True)

    def __enter__(self) -> Apart:
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


def _serve(pipe: Connection, variant: Variant, seed: int, shape: Shape, threads: int) -> None:
    torch.set_num_threads(threads)
    step = build(variant, seed, shape)
    with peak_memory():
        while True:
            if pipe.recv() == "peak":
                pipe.send(resident("VmHWM"))
                continue
            start = time.perf_counter()
            step()
            pipe.send(time.perf_counter() - start)
