"""Slow references, kept simple: dense masks, dense gradients, dense optimizer states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape.masks import Mask


class DenseMasked:
    """Train a model with full dense gradients multiplied by 0/1 masks, the textbook way."""

    def __init__(self, model: nn.Module, mask: Mask) -> None:
        self.model = model.requires_grad_(True)
        parameters = dict(model.named_parameters())
        self.weights = {name: parameters[name] for name in mask.indices}
        self.start = {name: w.detach().clone() for name, w in self.weights.items()}
        self.masks = {}
        for name, indices in mask.indices.items():
            dense = torch.zeros(self.weights[name].numel(), dtype=self.weights[name].dtype)
            dense[indices] = 1
            self.masks[name] = dense.view_as(self.weights[name])
        self.m = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        self.v = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        self.step = 0

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        names = list(self.weights)
        grads = torch.autograd.grad(loss, [self.weights[n] for n in names])
        return {n: g * self.masks[n] for n, g in zip(names, grads, strict=True)}

    @torch.no_grad()
    def sgd(self, grads: dict[str, Tensor], lr: float) -> None:
        for name, grad in grads.items():
            self.weights[name] -= lr * grad

    @torch.no_grad()
    def adamw(
        self, grads: dict[str, Tensor], lr: float, decay: float, betas=(0.9, 0.999), eps=1e-8
    ) -> None:
        """AdamW written out (Loshchilov & Hutter 2019, algorithm 2), decaying towards the start."""
        self.step += 1
        for name, grad in grads.items():
            weight = self.weights[name]
            weight -= lr * decay * (weight - self.start[name]) * self.masks[name]
            self.m[name] = betas[0] * self.m[name] + (1 - betas[0]) * grad
            self.v[name] = betas[1] * self.v[name] + (1 - betas[1]) * grad**2
            m_hat = self.m[name] / (1 - betas[0] ** self.step)
            v_hat = self.v[name] / (1 - betas[1] ** self.step)
            weight -= lr * m_hat / (v_hat.sqrt() + eps) * self.masks[name]


def dense_hessian(loss: Tensor, tensors: list[Tensor]) -> Tensor:
    """Differentiate a loss twice, one row at a time, over all entries of the tensors."""
    grads = torch.autograd.grad(loss, tensors, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in grads])
    rows = []
    for i in range(flat.numel()):
        row = torch.autograd.grad(flat[i], tensors, retain_graph=True, allow_unused=True)
        parts = [torch.zeros_like(t) if r is None else r for r, t in zip(row, tensors, strict=True)]
        rows.append(torch.cat([r.reshape(-1) for r in parts]))
    return torch.stack(rows)
