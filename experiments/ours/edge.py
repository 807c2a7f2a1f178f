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
from typing import TYPE_CHECKING, Any

import landscape as ls
from experiments.kit.artefact import Artefact
from experiments.kit.cells import Cell, key
from experiments.kit.measure import Setup, attached, load_setup, random_mask
from experiments.kit.settings import ENCODER, PACKAGED, Setting
from experiments.kit.store import Store
from experiments.ours.edge_report import PAGE, check, draw, tables

if TYPE_CHECKING:
    import torch
    from torch import nn

    from landscape.tasks.padding import Batch


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
    #: matvecs after which Lanczos stops
    max_products: int = 60


#: difference of scores that the squared loss asks for, between the right candidate and the others
MARGIN = 4.0


def square_loss(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, int]:
    """Return sum ||z - mean(z) - MARGIN (y - 1/c)||^2 / 2 over the examples, and their number.

    z are the c candidates' scores of an example, y is 1 for the right candidate and 0 elsewhere.
    """
    import torch

    scores, _ = ls.task_split(model, batch)
    labels = batch["labels"].to(scores.device)
    right = torch.nn.functional.one_hot(labels, scores.shape[1]).to(scores)
    error = scores - scores.mean(1, keepdim=True) - MARGIN * (right - 1 / scores.shape[1])
    return error.square().sum() / 2, len(labels)


def loss_of(name: str) -> Any:
    """Return one of the losses that can be descended, a function of model and batch."""
    return {"cross-entropy": ls.task_loss, "square": square_loss}[name]


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": PACKAGED | {
        "ratios": (1e-2,), "losses": ("cross-entropy",), "num_train": 4, "gd_multiples": (0.7,),
        "rate_times_ratio": (1e-5,), "steps": 8, "every": 4, "tolerance": 1e-1, "max_products": 16,
    },
    "local": ENCODER | {
        "ratios": (1e-2, 1e-3),
        "num_train": 16, "micro_batch": 16, "gd_multiples": (0.7, 1.5),
        "rate_times_ratio": (1e-5,), "steps": 80, "tolerance": 1e-1, "max_products": 40,
    },
    "paper": {},
}  # fmt: skip


def cells(config: Config) -> Iterator[Cell]:
    """List the start of each mask under each loss, then its descents."""
    for seed in config.seeds:
        for ratio in config.ratios:
            for loss in config.losses:
                yield start_cell(loss, ratio, seed)
                for optimizer, scale in _rules(config):
                    yield {"kind": "descent", "optimizer": optimizer, "loss": loss, "ratio": ratio,
                           "scale": scale, "seed": seed}  # fmt: skip


def start_cell(loss: str, ratio: float, seed: int) -> Cell:
    """Return the cell of the pretrained weights."""
    return {"kind": "start", "loss": loss, "ratio": ratio, "seed": seed}


def _rules(config: Config) -> list[tuple[str, float]]:
    return [("gd", m) for m in config.gd_multiples] + [
        ("adamw", c) for c in config.rate_times_ratio
    ]


def load(config: Config, store: Store, cell: Cell) -> Setup:
    """Load the model with as many examples as head and descents need."""
    most = max(config.num_train, config.head_examples)
    return load_setup(config, store, cell, num_train=most)


def start(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Measure a mask's sharpness at the pretrained weights."""
    config, model = setup.config, setup.model
    batches, mask = setup.batches(config.num_train, config.micro_batch), random_mask(setup, cell)
    with attached(model, mask):
        top = ls.lanczos(
            ls.HessianOperator(model, batches, loss=loss_of(cell["loss"])), k=1, seed=0,
            tol=config.tolerance, max_matvecs=config.max_products,
        )  # fmt: skip
    return {
        "count": mask.count, "sharpness": float(top.eigenvalues[0]),
        "residual": float(top.residuals[0]), "products": top.num_matvecs,
        "converged": top.converged,
    }  # fmt: skip


def descent(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Descend from the pretrained weights at a multiple of the optimizer's own unit of rates."""
    config, model, optimizer, loss = setup.config, setup.model, cell["optimizer"], cell["loss"]
    unit = 1 / cell["ratio"]
    if optimizer == "gd":
        unit = 2 / setup.store[key(start_cell(loss, cell["ratio"], cell["seed"]))]["sharpness"]
    batches, mask = setup.batches(config.num_train, config.micro_batch), random_mask(setup, cell)
    rate = cell["scale"] * unit
    with attached(model, mask):
        found = descend(config, model, batches, loss, optimizer, rate)
        moved = ls.distance(model).l2
    return found | {"rate": rate, "count": mask.count, "distance": moved}


def descend(
    config: Config, model: nn.Module, batches: list[Batch], loss: str, optimizer: str, rate: float
) -> dict[str, Any]:
    """Take full-batch steps with a probe; ``losses[t]`` is the loss after t steps.

    A loss that is not finite or above 20 times the first ends the descent as diverged.
    """
    rule: Any = {"gd": "sgd", "adamw": "adamw"}[optimizer]
    stepper = ls.training.make_optimizer(
        rule, ls.trainable(model).values(), lr=rate, betas=(config.beta1, config.beta2)
    )
    loop = ls.training.Loop(model, stepper, loss_of(loss), ceiling=20)
    probe = ls.SharpnessProbe(
        batches, every=config.every, loss=loss_of(loss), tol=config.tolerance,
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


ARTEFACT = Artefact(
    name="edge",
    title="Sharpness during training inside a mask, beside the edge of stability",
    source="Cohen et al. 2021 and 2022, inside the masks of Xu & Zhang 2024",
    config=Config, presets=PRESETS, cells=cells, setup=load,
    measures={"start": start, "descent": descent},
    check=check, tables=tables, draw=draw,
    page=PAGE,
)  # fmt: skip
