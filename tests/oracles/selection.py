"""Slow selections, kept simple: all scores at once, one example at a time, sorted in Python."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.pytorch_utils import Conv1D

Scores = dict[str, Tensor]


def gradients(model: nn.Module, names: Sequence[str], loss: Tensor) -> Scores:
    """Differentiate a loss by whole tensors, the plain way."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    found = torch.autograd.grad(loss, [weights[n] for n in names], allow_unused=True)
    return {n: torch.zeros_like(weights[n]) if g is None else g for n, g in zip(names, found)}


def dense_scores(
    model: nn.Module, names: Sequence[str], score: str, grads: Scores, **options: Any
) -> Scores:
    """Write out the formulas of the papers on dense tensors."""
    weights = {n: p.detach() for n, p in model.named_parameters(remove_duplicate=False)}
    formulas: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "magnitude": lambda w, g: w.abs(),
        "magnitude_smallest": lambda w, g: -w.abs(),
        "gradient": lambda w, g: g.abs(),
        "snip": lambda w, g: w.abs() * g.abs(),
        "id3": lambda w, g: g.abs() * (w.abs() + options["eps"]) ** -options["exp"],
    }
    return {n: formulas[score](weights[n], grads[n]).reshape(-1) for n in names}


def best(scores: Mapping[str, Tensor], count: int) -> dict[str, list[int]]:
    """Sort every score of every tensor: highest first, then first tensor, then lowest index."""
    ranked = [
        (-value, rank, index, name)
        for rank, (name, tensor) in enumerate(scores.items())
        for index, value in enumerate(tensor.tolist())
    ]
    chosen: dict[str, list[int]] = {name: [] for name in scores}
    for _, _, index, name in sorted(ranked)[:count]:
        chosen[name].append(index)
    return {name: sorted(indices) for name, indices in chosen.items()}


def fisher(
    model: nn.Module,
    names: Sequence[str],
    log_probs: Sequence[Callable[[], Tensor]],
    labels: Sequence[int],
    *,
    true: bool,
    power: int,
) -> Scores:
    """Add |grad log p(y|x)|^power over examples; y the label, or in the mean under p where true."""
    total: Scores = {}
    for log_prob, label in zip(log_probs, labels, strict=True):
        classes = range(log_prob().numel()) if true else [label]
        for c in classes:
            value = log_prob()[c]
            weight = math.exp(value.item()) if true else 1.0
            for name, grad in gradients(model, names, value).items():
                term = weight * grad.abs() ** power
                total[name] = total.get(name, torch.zeros_like(grad)) + term
    return {n: t.reshape(-1) for n, t in total.items()}


def wanda(model: nn.Module, names: Sequence[str], forwards: Sequence[Callable[[], Any]]) -> Scores:
    """Collect every input row of every layer, one unpadded example at a time."""
    modules = dict(model.named_modules())
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    handles = [
        modules[name.rpartition(".")[0]].register_forward_pre_hook(
            lambda _, args, name=name: rows[name].append(args[0].detach().flatten(0, -2))
        )
        for name in names
    ]
    with torch.no_grad():
        for forward in forwards:
            forward()
    for handle in handles:
        handle.remove()
    scores = {}
    for name in names:
        module = modules[name.rpartition(".")[0]]
        norm = torch.linalg.vector_norm(torch.cat(rows[name]), dim=0)
        weight = module.weight.detach().abs()
        scores[name] = (
            weight * norm[:, None] if isinstance(module, Conv1D) else weight * norm
        ).reshape(-1)
    return scores


class DenseSchedule:
    """Train whole tensors under a schedule: dense gradients, moments, ages and 0/1 selections.

    Written from the papers' definitions: static, increment (all chosen stay), repeat (dropped
    weights keep their values) and drop_regrow (dropped weights go back).
    """

    def __init__(self, model: nn.Module, names: Sequence[str], score: str, **options: Any) -> None:
        self.model, self.names, self.score, self.options = model, list(names), score, options
        weights = dict(model.named_parameters())
        self.weights = {n: weights[n] for n in names}
        self.start = {n: w.detach().clone() for n, w in self.weights.items()}
        self.m, self.v, self.age = (
            {n: torch.zeros_like(w).reshape(-1) for n, w in self.weights.items()} for _ in "mva"
        )
        self.active = {n: torch.zeros(w.numel(), dtype=torch.bool) for n, w in self.weights.items()}
        self.updates = 0

    def choose(self, grads: Scores, budgets: Mapping[str, int] | int, exclude: bool) -> Any:
        scores = dense_scores(self.model, self.names, self.score, grads, **self.options)
        if exclude:
            scores = {n: torch.where(self.active[n], -torch.inf, s) for n, s in scores.items()}
        return self._sort(scores, budgets)

    def least_moved(self, budgets: Mapping[str, int] | int) -> dict[str, list[int]]:
        moved = {
            n: torch.where(self.active[n], -(w.detach() - self.start[n]).reshape(-1).abs(), -10.0)
            for n, w in self.weights.items()
        }
        return self._sort(moved, budgets)

    def _sort(self, scores: Scores, budgets: Mapping[str, int] | int) -> dict[str, list[int]]:
        if isinstance(budgets, int):
            return best(scores, budgets)
        return {n: best({n: s}, budgets[n])[n] for n, s in scores.items()}

    def select(self, chosen: Mapping[str, list[int]], kind: str, dropped: Any = None) -> None:
        for n in self.names:
            new = torch.zeros_like(self.active[n])
            new[chosen[n]] = True
            if kind in ("increment", "drop_regrow"):
                stay = self.active[n].clone()
                if dropped is not None:
                    stay[dropped[n]] = False
                    with torch.no_grad():
                        flat = self.weights[n].view(-1)
                        flat[dropped[n]] = self.start[n].reshape(-1)[dropped[n]]
                new |= stay
            fresh = ~(new & self.active[n])
            for table in (self.m, self.v, self.age):
                table[n][fresh] = 0.0
            self.active[n] = new

    @torch.no_grad()
    def update(self, grads: Scores, lr: float, decay: float, max_norm: float) -> None:
        masked = {n: g.reshape(-1) * self.active[n] for n, g in grads.items()}
        norm = math.sqrt(sum(float(g.square().sum()) for g in masked.values()))
        scale = min(1.0, max_norm / (norm + 1e-6))
        for n, g in masked.items():
            on = self.active[n].to(g.dtype)
            self.updates += int(on.sum())
            self.age[n] += on
            self.m[n] = torch.where(on > 0, 0.9 * self.m[n] + 0.1 * g * scale, self.m[n])
            squared = (g * scale) ** 2
            self.v[n] = torch.where(on > 0, 0.999 * self.v[n] + 0.001 * squared, self.v[n])
            m_hat = self.m[n] / (1 - 0.9 ** self.age[n].clamp(min=1))
            v_hat = self.v[n] / (1 - 0.999 ** self.age[n].clamp(min=1))
            flat = self.weights[n].view(-1)
            theta = flat - self.start[n].reshape(-1)
            flat -= on * lr * (decay * theta + m_hat / (v_hat.sqrt() + 1e-8))


class LiveMemory(TorchDispatchMode):
    """Watch every tensor that operators make, and record the most bytes alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._alive = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = {
            t.untyped_storage()._cdata
            for t in torch.utils._pytree.tree_leaves((args, kwargs))
            if isinstance(t, Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._watch(tensor.untyped_storage(), inputs)
        return out

    def _watch(self, storage: torch.UntypedStorage, inputs: set[int]) -> None:
        key = storage._cdata
        if key in self._seen or key in inputs:
            return
        self._seen.add(key)
        self._alive += storage.nbytes()
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._release, key, storage.nbytes())

    def _release(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._alive -= size
