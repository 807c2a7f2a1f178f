"""What a seed's measurements share: model, task, data; training at a rate, curvature at a point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import landscape as ls
from experiments.kit.cells import Cell, key
from experiments.kit.store import Store

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from experiments.kit.settings import Setting, Tuned
    from landscape.tasks.padding import Batch
    from landscape.training.callbacks import Probe

ENDS = ("before", "after")


class Data(Protocol):
    """Say which task is loaded, and the folder of its files if it is not the hub."""

    @property
    def task(self) -> str:
        """Return the task's name."""

    @property
    def source(self) -> str:
        """Return the folder, or nothing."""


@dataclass(frozen=True)
class Setup:
    """Hold what the measurements of one seed share.

    Args:
        config: the artefact's configuration.
        store: its rows so far.
        model: the pretrained model; every measurement leaves it as it was.
        tokenizer: the model's.
        task: with the examples of the seed.
    """

    config: Any
    store: Store
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    task: ls.Task

    def batches(self, count: int, size: int) -> list[Batch]:
        """Return the first training examples, in batches of a size and of similar length."""
        return ls.make_batches(
            self.task.train[:count], self.tokenizer, size, sort=True, loss=self.task.loss
        )


def load_setup(config: Setting, store: Store, cell: Cell, **sizes: int) -> Setup:
    """Load the model and the task of a configuration with the examples of a cell's seed.

    Args:
        config: the artefact's configuration.
        store: the artefact's rows so far.
        cell: any cell of the seed.
        sizes: examples of a split (``num_train`` and so on), instead of the configuration's.
    """
    task = load_task(config, cell["seed"], **sizes)
    return Setup(config, store, *load_pretrained(config.model, task), task)


def load_task(config: Data, seed: int, **sizes: int) -> ls.Task:
    """Load a task with the examples of one seed.

    Args:
        config: says the task and its source, and how many examples its splits have; a split that
            it does not mention is not used, and has 8.
        seed: draws the examples.
        sizes: examples of a split, instead of the configuration's.

    Raises:
        UserError: a task that is not judged by accuracy, which the rows of artefacts hold.
    """
    splits = ("num_train", "num_dev", "num_test")
    chosen: dict[str, int] = {name: sizes.get(name, getattr(config, name, 8)) for name in splits}
    task = ls.load_task(config.task, source=config.source or None, seed=seed, **chosen)  # type: ignore[arg-type]
    if task.metric != "accuracy":
        raise ls.UserError(
            f"expected a task judged by accuracy, which the rows of artefacts hold, got {task.name}"
            f" ({task.metric}); choose another, or train on it with landscape finetune"
        )
    return task


def load_pretrained(name: str, task: ls.Task) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """Load a model; an encoder gets a head for the task's labels.

    The head is fitted to the training examples on the pretrained features and frozen, so every
    way of fine-tuning starts from the same linear probe and differs in the body alone.
    """
    from landscape.models import num_labels_for

    candidates = task.num_labels
    num_labels = num_labels_for(name, candidates)
    model, tokenizer = ls.load_model(name, num_labels=num_labels)
    if num_labels is None:
        return model, tokenizer
    ls.fit_head(model, ls.make_batches(task.train, tokenizer, 32, sort=True))
    return model, tokenizer


@contextmanager
def attached(model: nn.Module, what: ls.Mask | Path) -> Iterator[None]:
    """Attach a mask, or the delta of a file, and detach it whatever happens."""
    if isinstance(what, Path):
        ls.load_delta(model, what)
    else:
        ls.attach(model, what)
    try:
        yield
    finally:
        ls.detach(model)


def zero_shot(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Evaluate the pretrained model on test."""
    task = setup.task
    scores = ls.evaluate(setup.model, setup.tokenizer, task, split="test", progress=True)
    return {"test_accuracy": scores[task.metric], "test_loss": scores["loss"], "n": scores["n"]}


def tuned_run(
    setup: Setup, model: nn.Module, cell: Cell, *, schedule: ls.Schedule | None = None,
    directory: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train a model's trainable parameters at the cell's rate; return what the row says of it.

    A run that diverged before its first evaluation has accuracy -1 on dev, below every other.
    With a directory a run that was stopped goes on where it was.
    """
    config, task = setup.config, setup.task
    run = ls.finetune(
        model, setup.tokenizer, task, lr=cell["rate"], epochs=config.epochs, seed=cell["seed"],
        batch_size=config.batch_size, schedule=schedule, directory=directory, progress=True,
    )  # fmt: skip
    dev, test = run.metrics["dev"] or {}, run.metrics["test"]
    updated = {"updated": [h["updated"] for h in run.history]} if schedule else {}
    return {
        "count": run.config["trainable"],
        "dev_accuracy": dev.get(task.metric, -1.0), "dev_loss": dev.get("loss", 1e9),
        "test_accuracy": test[task.metric], "test_loss": test["loss"],
        "distance": run.distance.get("l2"), "relative_distance": run.distance.get("relative"),
        "diverged": run.diverged, "select_by": run.config["select_by"],
        "steps": run.metrics["steps"], "train_loss": [h["loss"] for h in run.history], **updated,
    }  # fmt: skip


def trained_once(
    setup: Setup, cell: Cell, *, probes: Sequence[Probe] = (),
    conclude: Callable[[], dict[str, Any]] = dict,
) -> dict[str, Any]:  # fmt: skip
    """Train a random mask at the rate of its ratio; its delta lies in the store's folder.

    Args:
        setup: with a `Trained` configuration.
        cell: the mask's ratio and seed.
        probes: as `landscape.finetune`.
        conclude: called at the chosen checkpoint; what it returns joins the row.
    """
    config, model, task = setup.config, setup.model, setup.task
    mask, rate = random_mask(setup, cell), config.rate(cell["ratio"])
    with attached(model, mask):
        done = ls.finetune(
            model, setup.tokenizer, task, lr=rate, epochs=config.epochs, seed=cell["seed"],
            batch_size=config.batch_size, test=False, probes=probes, progress=True,
        )  # fmt: skip
        ls.save_delta(model, delta_path(setup.store, cell))
        concluded = conclude()
    dev = done.metrics["dev"] or {}
    return {
        "rate": rate, "count": mask.count, "density": mask.density,
        "dev_accuracy": dev.get(task.metric), "distance": done.distance["l2"],
        "diverged": done.diverged, "train_loss": [record["loss"] for record in done.history],
        **concluded,
    }  # fmt: skip


def random_mask(setup: Setup, cell: Cell) -> ls.Mask:
    """Draw the random mask of a cell's ratio and seed."""
    return ls.random_mask(
        setup.model, ratio=cell["ratio"], targets=setup.config.targets, seed=cell["seed"]
    )


def train_cell(ratio: float, seed: int) -> Cell:
    """Return the cell of `trained_once`."""
    return {"kind": "train", "ratio": ratio, "seed": seed}


def delta_path(store: Store, cell: Cell) -> Path:
    """Return where the trained parameters of `trained_once` lie."""
    return store.folder / "runs" / f"ratio={cell['ratio']:g}_seed={cell['seed']}.safetensors"


def at_end(setup: Setup, cell: Cell, when: str) -> ls.Mask | Path:
    """Return what `attached` needs to be before or after `trained_once`."""
    return random_mask(setup, cell) if when == "before" else delta_path(setup.store, cell)


def largest(config: Tuned, H: ls.LinearOperator) -> dict[str, Any]:
    """Return the eigenvalue of largest magnitude with its residual and what it cost."""
    top = ls.lanczos(
        H, k=1, which="LM", tol=config.tolerance, max_matvecs=config.max_products, seed=0
    )
    return {"sharpness": float(top.eigenvalues[0]), "residual": float(top.residuals[0]),
            "products": top.num_matvecs, "converged": bool(top.converged)}  # fmt: skip


def hessian(setup: Setup) -> ls.HessianOperator:
    """Average over the first training examples, in small batches of similar length."""
    return ls.HessianOperator(setup.model, setup.batches(setup.config.hessian_examples, 4))


def file_of(cell: Cell) -> str:
    """Return the name under which files of a cell lie."""
    return key(cell).replace("/", "_")
