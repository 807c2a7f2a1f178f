"""How much memory a kept gradient graph holds, and how much may be held."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from landscape.curvature.rows import leaves

_SHARE = 0.4
"""Share of the available memory that kept graphs may hold by default."""


def available_bytes(device: torch.device) -> int:
    """Return the bytes that this device could still allocate now.

    CUDA: what the driver reports free plus what torch holds unused. Elsewhere: the kernel's
    estimate of the memory available without swapping; 4 GiB where there is none.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + unused)
    with contextlib.suppress(OSError), open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 4 * 1024**3


class GraphRoom:
    """Decide which batches may keep the graph of their gradient between products.

    The graph of the largest batch is built first and measured (the bytes that autograd saves,
    each storage once, the model's own tensors aside); the others are taken to cost in proportion
    to their numbers of input entries, which errs on the safe side.

    Args:
        batches: all batches.
        keep: True all, False none, ``"auto"`` as many as fit.
        budget: bytes for kept graphs under ``"auto"``; default 40 % of what is available.
        device: where the graphs live.
    """

    def __init__(
        self,
        batches: Sequence[object],
        keep: bool | Literal["auto"],
        budget: int | None,
        device: torch.device,
    ) -> None:
        self._keep = keep
        self._extents = [_extent(batch) for batch in batches]
        self._alone = len(batches) == 1
        self._free = int(_SHARE * available_bytes(device)) if budget is None else budget
        self._cost: float | None = None
        self.order = sorted(range(len(batches)), key=lambda n: -self._extents[n])
        """Numbers of the batches, the largest first: the order in which to build."""

    def has_place_for(self, number: int) -> bool:
        """Tell whether this batch may keep its graph, and take the room for it."""
        if self._keep != "auto" or self._alone:
            return bool(self._keep)
        if self._cost is None:
            return self._free > 0
        self._free -= int(self._cost * self._extents[number])
        return self._free >= 0

    @contextlib.contextmanager
    def measuring(self, model: nn.Module, number: int) -> Iterator[None]:
        """Measure the graph that is built inside this block, if it is the first of several."""
        if self._keep != "auto" or self._alone or self._cost is not None or self._free <= 0:
            yield
            return
        own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
        saved: dict[int, int] = {}

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            yield
        self._cost = sum(saved.values()) / self._extents[number]
        self._free -= sum(saved.values())


def _extent(batch: object) -> int:
    """Count the entries of a batch's tensors, at least 1."""
    return sum(tensor.numel() for _, tensor in leaves(batch, "")) or 1
