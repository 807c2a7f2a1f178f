"""Slow fine-tuning, kept simple: dense weights, one forward a candidate, AdamW in numpy."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.masks import Mask
from landscape.tasks import Example


def seed_of(*parts: object) -> int:
    """Return the seed that runs derive from some parts: changing it would change every result."""
    return int.from_bytes(
        hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:7], "little"
    )


def order(seed: int, epoch: int, count: int) -> list[int]:
    """Return the order of the examples in an epoch."""
    generator = torch.Generator().manual_seed(seed_of(seed, "order", epoch))
    return torch.randperm(count, generator=generator).tolist()


def mean_loss(model: Any, tokenizer: Any, examples: Sequence[Example], loss: str) -> Tensor:
    """Return the mean loss of some examples, a forward for every candidate and no padding."""
    terms = []
    for example in examples:
        scores = [_log_probs(model, tokenizer, example, c) for c in example.candidates]
        if loss == "language modelling":
            terms.extend(-scores[example.label])
        else:
            means = torch.stack([s.mean() for s in scores])
            terms.append(means.logsumexp(0) - means[example.label])
    return torch.stack(terms).mean()


def _log_probs(model: Any, tokenizer: Any, example: Example, candidate: str) -> Tensor:
    prompt = tokenizer(example.prompt)["input_ids"]
    whole = tokenizer(example.prompt + candidate)["input_ids"]
    assert whole[: len(prompt)] == prompt
    log_probs = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    return torch.stack([log_probs[i - 1, whole[i]] for i in range(len(prompt), len(whole))])


@dataclass
class Slow:
    """Train the masked weights of a dense model in float64, as Loshchilov & Hutter write AdamW.

    The decay is towards the weights it starts from; the gradient is clipped to a Euclidean norm
    over all masked weights together.
    """

    model: nn.Module
    mask: Mask
    lr: float
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_gradient_norm: float = 1.0

    def __post_init__(self) -> None:
        parameters = dict(self.model.requires_grad_(True).named_parameters())
        self.weights = {name: parameters[name] for name in self.mask.indices}
        self.start = {n: self._masked(n, w.detach()) for n, w in self.weights.items()}
        self.theta = {n: np.zeros_like(s) for n, s in self.start.items()}
        self.m, self.v = ({n: np.zeros_like(s) for n, s in self.start.items()} for _ in "mv")
        self.steps = 0

    def _masked(self, name: str, dense: Tensor) -> np.ndarray:
        return dense.reshape(-1).numpy()[self.mask.indices[name].numpy()].astype(np.float64)

    def step(self, loss: Tensor) -> dict[str, float]:
        """Take one step and return the loss and the norm of the gradient before clipping."""
        dense = torch.autograd.grad(loss, list(self.weights.values()))
        grads = {n: self._masked(n, g) for n, g in zip(self.weights, dense, strict=True)}
        norm = math.sqrt(sum(float((g**2).sum()) for g in grads.values()))
        factor = min(1.0, self.max_gradient_norm / (norm + 1e-6))  # torch adds 1e-6
        self.steps += 1
        beta1, beta2 = self.betas
        for name, g in grads.items():
            g = factor * g
            self.m[name] = beta1 * self.m[name] + (1 - beta1) * g
            self.v[name] = beta2 * self.v[name] + (1 - beta2) * g**2
            m_hat = self.m[name] / (1 - beta1**self.steps)
            v_hat = self.v[name] / (1 - beta2**self.steps)
            theta = self.theta[name]
            self.theta[name] = (
                theta
                - self.lr * self.weight_decay * theta
                - self.lr * m_hat / (np.sqrt(v_hat) + self.eps)
            )
            with torch.no_grad():
                values = torch.from_numpy(self.start[name] + self.theta[name])
                self.weights[name].view(-1)[self.mask.indices[name]] = values
        return {"loss": float(loss.detach()), "gradient_norm": norm}


def run(
    slow: Slow,
    examples: Sequence[Example],
    loss: Callable[[nn.Module, list[Example], int], Tensor],
    *,
    epochs: int,
    batch_size: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Train for some epochs; yield what every step gave, with its theta."""
    step = 0
    for epoch in range(epochs):
        shuffled = [examples[i] for i in order(seed, epoch, len(examples))]
        while shuffled:
            batch, shuffled = shuffled[:batch_size], shuffled[batch_size:]
            record = slow.step(loss(slow.model, batch, step))
            step += 1
            yield {**record, "theta": {n: t.copy() for n, t in slow.theta.items()}}
