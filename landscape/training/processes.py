"""The processes that train one model together, each on its share of a step's rows."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """Say which of how many processes this one is.

    Args:
        rank: from 0 to below count.
        count: of processes.
        parallel: the wrapper that averages their gradients; None where there is one process.
    """

    rank: int = 0
    count: int = 1
    parallel: DistributedDataParallel | None = None

    @classmethod
    def of(cls, model: nn.Module) -> Processes:
        """Find the processes of a model: those of torch's data parallel wrapper, compiled or not.

        A model without the wrapper trains alone, also where torch.distributed is in use.
        """
        inner: Any = model
        while not isinstance(inner, DistributedDataParallel):
            if not hasattr(inner, "_orig_mod"):  # what torch.compile wraps
                return cls()
            inner = inner._orig_mod
        group = inner.process_group
        ranks = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
        return cls(*ranks, inner)

    @property
    def first(self) -> bool:
        """Tell whether this process is the one that writes files."""
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """Return the sums of some values over all processes."""
        if self.parallel is None:
            return list(values)
        device = next(self.parallel.parameters()).device
        sums = torch.tensor(values, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(sums, group=self.parallel.process_group)
        return sums.tolist()

    def first_says(self, claim: bool) -> bool:
        """Return what the first process says, where each says something of its own."""
        return self.total(float(claim and self.first))[0] > 0

    def wait(self) -> None:
        """Wait until every process is here."""
        self.total(0.0)

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        """Return the context of a backward; gradients are averaged in the last of a step only."""
        if self.parallel is None or last:
            return nullcontext()
        context: AbstractContextManager[None] = self.parallel.no_sync()
        return context
