"""Gradient descent by the engine while its mask grows, as in ID3, at one fixed rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

import landscape as ls
from landscape import seeds
from theory import purposes
from theory.features import Array, Indices
from theory.network import TARGET, LinearNetwork, batches, squared_loss
from theory.problems import MaskedRegression


@dataclass(frozen=True)
class Growth:
    """Hold what a growing mask did to one run.

    Args:
        sharpness: lambda_1(S_t) / n of the mask of each step, (T,).
        losses: L before each step and after the last, (T + 1,).
    """

    sharpness: Array
    losses: Array


def pretrained(problem: MaskedRegression, order: Indices) -> LinearNetwork:
    """Return a network whose weights are tiny and fall in size along an order of the features.

    A schedule by magnitude selects them in this order, so its masks are known before training.

    Args:
        order: the features, the first to be selected first, (d,).
    """
    model, d = LinearNetwork(problem.d), problem.d
    sizes = torch.linspace(1e-9, 1e-10, d, dtype=torch.float64)
    with torch.no_grad():
        model.linear.weight[0, torch.from_numpy(order)] = sizes
    return model


def grow(
    problem: MaskedRegression,
    order: Indices,
    *,
    add: int,
    every: int,
    stages: int,
    lr: float,
    noise: float = 0.0,
) -> Growth:
    """Train by gradient descent while the engine's schedule adds features of an order.

    Args:
        order: the features, the first to be selected first, (d,).
        add: features that each stage adds.
        every: steps a stage.
        stages: how many stages.
        lr: the fixed rate.
        noise: standard deviation of fresh noise in the targets of each step. Without any, what is
            about to grow may have decayed to rounding by then; batches do the same to a network.

    Returns:
        The run; cost stages every n d.
    """
    model, (whole,) = pretrained(problem, order), batches(problem)
    steps = stages * every
    increments = [add if step % every == 0 else 0 for step in range(steps)]
    schedule = ls.Schedule("increment", score="magnitude", increments=increments, targets=TARGET)
    moving = ls.MovingMask(schedule, model)
    moving.attach()
    optimizer = ls.AdamW(ls.trainable(model).values(), lr=1.0)  # its state follows the mask
    rng = seeds.numbered(problem.seed, purposes.FIGURE_NOISE)
    sharpness, losses, top = [], [], 0.0
    for step in range(steps):
        optimizer.zero_grad()
        with torch.no_grad():
            losses.append(float(squared_loss(model, whole)[0]) / problem.n)
        fresh = noise * rng.standard_normal(problem.n)
        with moving.step(step, optimizer):
            total, count = squared_loss(model, (whole[0], whole[1] + torch.from_numpy(fresh)))
            (total / count).backward()
        if increments[step]:
            chosen = moving.indices()[f"{TARGET}.weight"].numpy()
            top = problem.restrict(chosen).top / problem.n
        sharpness.append(top)
        with torch.no_grad():
            for theta in ls.trainable(model).values():
                assert theta.grad is not None
                theta.sub_(lr * theta.grad)
    with torch.no_grad():
        losses.append(float(squared_loss(model, whole)[0]) / problem.n)
    return Growth(np.array(sharpness), np.array(losses))


def stage_grams(problem: MaskedRegression, order: Indices, *, add: int, stages: int) -> Array:
    """Return X M X^T / n of the mask of each stage, (stages, n, n)."""
    kept = [problem.features.take(np.sort(order[: add * (s + 1)])) for s in range(stages)]
    return np.stack([columns.T @ columns for columns in kept]) / problem.n


def nested_sharpness(
    problem: MaskedRegression, order: Indices, *, add: int, every: int, stages: int
) -> Array:
    """Return lambda_1(S_t) / n of each step, (stages every,), from the spectrum alone."""
    grams = stage_grams(problem, order, add=add, stages=stages)
    return np.repeat(np.linalg.eigvalsh(grams)[:, -1], every)


def residual_run(
    problem: MaskedRegression,
    order: Indices,
    *,
    add: int,
    every: int,
    stages: int,
    lr: float,
    noise: float = 0.0,
) -> Growth:
    """Return the run of ``grow`` from its residuals: e - lr X M X^T / n (e - noise).

    Arguments as in ``grow``, which it equals to rounding and the pretrained weights of 1e-9.
    """
    grams = stage_grams(problem, order, add=add, stages=stages)
    rng = seeds.numbered(problem.seed, purposes.FIGURE_NOISE)
    error, losses = -problem.y, [float(problem.y @ problem.y) / (2 * problem.n)]
    for gram in np.repeat(grams, every, axis=0):
        error = error - lr * gram @ (error - noise * rng.standard_normal(problem.n))
        losses.append(float(error @ error) / (2 * problem.n))
    return Growth(np.repeat(np.linalg.eigvalsh(grams)[:, -1], every), np.array(losses))
