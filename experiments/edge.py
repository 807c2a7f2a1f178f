"""Sharpness while a mask trains: full-batch gradient descent and AdamW at the edge of stability.

Gradient descent with rate eta is stable on a quadratic whose largest eigenvalue is below 2 / eta.
On whole networks training makes the sharpness rise to that edge and stay there (Cohen et al. 2021);
with Adam the same holds for the preconditioned sharpness and (2 + 2 beta1) / ((1 - beta1) eta)
(Cohen et al. 2022). Here every training example is in every step, as there, but only a random mask
of a pretrained model moves: the rates are multiples of 2 / sharpness at the pretrained weights for
gradient descent, and of 1 / ratio for AdamW. As there, two losses: under cross-entropy the
curvature fades as soon as the examples are fitted, under a squared loss it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

import landscape as ls
from experiments.cell import load_pretrained
from experiments.edge_report import check, render
from experiments.harness import PACKAGED, Artefact, Setting, Store
from landscape.training import Loop, make_optimizer


@dataclass(frozen=True)
class Config(Setting):
    """The sources' setting as far as a language model allows: every example in every step."""

    #: each seed draws its mask and its examples
    seeds: tuple[int, ...] = (0,)
    #: training examples, all of them in every step and every measurement
    num_train: int = 64
    #: training examples that an encoder's head is fitted to, before and outside the descents
    head_examples: int = 640
    #: examples in one pass through the model; the gradient is of all of them
    micro_batch: int = 8
    #: losses that are descended: the task's cross-entropy, or `square_loss`
    losses: tuple[str, ...] = ("cross-entropy", "square")
    #: rates of gradient descent, in units of 2 / sharpness at the pretrained weights
    gd_multiples: tuple[float, ...] = (0.3, 0.7, 1.5)
    #: rates of AdamW are each of these over the ratio
    rate_times_ratio: tuple[float, ...] = (3e-7, 1e-6)
    #: AdamW's moving averages, of the gradients and of their squares
    beta1: float = 0.9
    beta2: float = 0.999
    #: steps of a descent
    steps: int = 400
    #: steps between two measurements of the sharpness
    every: int = 5
    #: relative residual at which Lanczos stops
    tolerance: float = 2e-2
    #: products after which Lanczos stops
    max_products: int = 60


#: difference of scores that the squared loss asks for, between the right candidate and the others
MARGIN = 4.0


def square_loss(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
    """Return sum ||z - mean(z) - MARGIN (y - 1/c)||^2 / 2 over the examples, and their number.

    z are the c candidates' scores of an example, y is 1 for the right candidate and 0 elsewhere.
    """
    scores, _ = ls.task_split(model, batch)
    labels = batch["labels"].to(scores.device)
    right = torch.nn.functional.one_hot(labels, scores.shape[1]).to(scores)
    error = scores - scores.mean(1, keepdim=True) - MARGIN * (right - 1 / scores.shape[1])
    return error.square().sum() / 2, len(labels)


LOSSES: dict[str, Any] = {"cross-entropy": ls.task_loss, "square": square_loss}

PRESETS: dict[str, dict[str, Any]] = {
    "smoke": PACKAGED | {
        "ratios": (1e-2,), "losses": ("cross-entropy",), "num_train": 4, "gd_multiples": (0.7,),
        "rate_times_ratio": (1e-5,), "steps": 8, "every": 4, "tolerance": 1e-1, "max_products": 16,
    },
    "local": PACKAGED | {
        "model": "minilm-l6", "targets": "*.self.[qv]*.weight", "ratios": (1e-2, 1e-3),
        "num_train": 16, "micro_batch": 16, "gd_multiples": (0.7, 1.5),
        "rate_times_ratio": (1e-5,), "steps": 80, "tolerance": 1e-1, "max_products": 40,
    },
    "paper": {},
}  # fmt: skip


def compute(config: Config, store: Store) -> None:
    """Measure each mask's sharpness at the pretrained weights, then descend from there."""
    for seed in config.seeds:
        task = ls.load_task(
            config.task, source=config.source or None,
            num_train=max(config.num_train, config.head_examples), num_dev=8, num_test=8,
            seed=seed,
        )  # fmt: skip
        model, tokenizer = load_pretrained(config, task)
        batches = ls.make_batches(
            task.train[: config.num_train], tokenizer, config.micro_batch, sort=True, loss=task.loss
        )
        for ratio in config.ratios:
            for loss in config.losses:
                _start_row(config, store, model, batches, loss, ratio, seed)
                for case in descents(config, store, loss, ratio, seed):
                    _descent_row(config, store, model, batches, case)


def descents(
    config: Config, store: Store, loss: str, ratio: float, seed: int
) -> Iterator[dict[str, Any]]:
    """List the descents of a mask and a loss, with their rates."""
    stable = 2 / store[_start_key(loss, ratio, seed)]["sharpness"]
    for optimizer, scale in _cases(config):
        unit = stable if optimizer == "gd" else 1 / ratio
        yield {"optimizer": optimizer, "loss": loss, "scale": scale, "rate": scale * unit,
               "ratio": ratio, "seed": seed}  # fmt: skip


def expected(config: Config) -> list[str]:
    """List the keys of all rows."""
    keys = []
    for seed in config.seeds:
        for ratio in config.ratios:
            for loss in config.losses:
                keys.append(_start_key(loss, ratio, seed))
                keys += [_key(rule, loss, ratio, scale, seed) for rule, scale in _cases(config)]
    return keys


def descend(
    config: Config, model: Any, batches: list[Any], loss: str, optimizer: str, rate: float
) -> dict[str, Any]:
    """Take full-batch steps with a probe; ``losses[t]`` is the loss after t steps.

    A loss that is not finite or above 20 times the first ends the descent as diverged.
    """
    rule: Any = {"gd": "sgd", "adamw": "adamw"}[optimizer]
    stepper = make_optimizer(
        rule, ls.trainable(model).values(), lr=rate, betas=(config.beta1, config.beta2)
    )
    loop = Loop(model, stepper, LOSSES[loss], ceiling=20)
    probe = ls.SharpnessProbe(
        batches, every=config.every, loss=LOSSES[loss], tol=config.tolerance,
        max_matvecs=config.max_products,
    )  # fmt: skip
    probe.start(stepper)
    losses: list[float] = []
    for step in range(1, config.steps + 1):
        losses.append(loop.step(batches)["loss"])
        if loop.diverged:
            break
        probe(model, {"step": step})
    return {"losses": losses, "measured": probe.rows, "diverged": loop.diverged}


def _start_row(
    config: Config, store: Store, model: Any, batches: list[Any], loss: str, ratio: float, seed: int
) -> None:
    key = _start_key(loss, ratio, seed)

    def measure() -> dict[str, Any]:
        mask = ls.random_mask(model, ratio=ratio, targets=config.targets, seed=seed)
        ls.attach(model, mask)
        try:
            top = ls.lanczos(
                ls.HessianOperator(model, batches, loss=LOSSES[loss]), k=1, seed=0,
                tol=config.tolerance, max_matvecs=config.max_products,
            )  # fmt: skip
        finally:
            ls.detach(model)
        return {
            "kind": "start", "loss": loss, "ratio": ratio, "seed": seed, "count": mask.count,
            "sharpness": float(top.eigenvalues[0]), "residual": float(top.residuals[0]),
            "products": top.num_matvecs, "converged": top.converged,
        }  # fmt: skip

    if key not in store:
        store.say(key)
    store.compute(key, measure)


def _descent_row(
    config: Config, store: Store, model: Any, batches: list[Any], case: dict[str, Any]
) -> None:
    def measure() -> dict[str, Any]:
        mask = ls.random_mask(model, ratio=case["ratio"], targets=config.targets, seed=case["seed"])
        ls.attach(model, mask)
        try:
            found = descend(config, model, batches, case["loss"], case["optimizer"], case["rate"])
            moved = ls.distance(model).l2
        finally:
            ls.detach(model)
        return case | found | {"kind": "descent", "count": mask.count, "distance": moved}

    key = _key(case["optimizer"], case["loss"], case["ratio"], case["scale"], case["seed"])
    if key not in store:
        store.say(f"{key}, rate {case['rate']:.3g}")
    store.compute(key, measure)


def _cases(config: Config) -> list[tuple[str, float]]:
    return [("gd", m) for m in config.gd_multiples] + [
        ("adamw", c) for c in config.rate_times_ratio
    ]


def _start_key(loss: str, ratio: float, seed: int) -> str:
    return f"start/{loss}/ratio={ratio:g}/seed={seed}"


def _key(optimizer: str, loss: str, ratio: float, scale: float, seed: int) -> str:
    return f"descent/{optimizer}/{loss}/ratio={ratio:g}/scale={scale:g}/seed={seed}"


ARTEFACT = Artefact(
    name="edge",
    title="Sharpness during training inside a mask, beside the edge of stability",
    source="Cohen et al. 2021 and 2022, inside the masks of Xu & Zhang 2024",
    config=Config,
    presets=PRESETS,
    rows=compute,
    render=render,
    check=check,
    expected=expected,
)
