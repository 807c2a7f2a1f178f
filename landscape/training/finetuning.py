"""Fine-tune the trainable parameters of a model on a task, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.subspace.attachable import unwrapped
from landscape.tasks import Task
from landscape.tasks.encoding import Bos
from landscape.training.lr_schedule import LrSchedule
from landscape.training.optimizer import MakeOptimizer, OptimizerName
from landscape.training.parts import Probe
from landscape.training.point import left_as_found
from landscape.training.run import Run
from landscape.training.schedule import Schedule
from landscape.training.settings import Autocast, LossAverage, SelectBy
from landscape.training.training import Training


def finetune(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    lr: float,
    epochs: int = 5,
    batch_size: int = 8,
    seed: int = 0,
    optimizer: OptimizerName | MakeOptimizer = "adamw",
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    momentum: float = 0.0,
    lr_schedule: LrSchedule = "constant",
    warmup: int | float = 0,
    accumulate: int = 1,
    max_gradient_norm: float = 1.0,
    autocast: Autocast | None = None,
    evaluations_per_epoch: int = 1,
    select_by: SelectBy = "metric",
    patience: int | None = None,
    max_length: int | None = None,
    bos: Bos = "tokenizer",
    schedule: Schedule | None = None,
    dense_lr: float | None = None,
    loss_average: LossAverage = "terms",
    evaluate_every: int | None = None,
    test: bool = True,
    device: str | torch.device | None = None,
    folder: str | Path | None = None,
    overwrite: bool = False,
    checkpoint_every: int | None = None,
    probes: Sequence[Probe] = (),
    progress: bool = False,
) -> Run:
    """Train the model's trainable parameters and keep the checkpoint that is best on dev.

    By default AdamW at a constant learning rate, gradients clipped to a Euclidean norm. The order
    of the examples is a pure function of (seed, epoch) and dropout, where the model has any, of
    (seed, step), so a run that was killed and called again with the same folder ends bit for bit
    like one that was not. A loss that is not finite ends the run as diverged; the best checkpoint
    so far is kept. `Training` does the same a step at a time.

    Args:
        model: a model with trainable parameters (`attach` a mask first, or train what you like).
            It may be wrapped by ``torch.compile``, or by ``DistributedDataParallel`` or accelerate,
            whose processes then share the rows of every step; dev is evaluated without wrapper.
        tokenizer: its tokenizer.
        task: the task; train, dev and test are used.
        lr: the learning rate, above 0.
        epochs: passes over the training examples, at least 1.
        batch_size: examples of a forward, at least 1.
        seed: seed of the order of the examples (the mask has its own).
        optimizer: "adamw", "sgd", "adafactor", "schedule-free", or a function or class called as
            ``optimizer(parameters, lr=lr)``; see `landscape.training.make_optimizer`.
        weight_decay: at least 0; with a mask it is towards the pretrained values.
        betas, eps: of "adamw" and "schedule-free".
        momentum: of "sgd", from 0 to below 1.
        lr_schedule: "constant", or falling to 0: "linear", or as half a "cosine".
        warmup: steps in which the learning rate rises from 0; as a float below 1, their share.
        accumulate: batches whose gradient makes one step: that of one large batch of their
            examples, unless loss_average says otherwise.
        max_gradient_norm: clipping threshold; ``math.inf`` for none.
        autocast: "bf16" computes the training loss in bfloat16 where torch's autocast does;
            evaluations are in the model's own precision.
        loss_average: what weighs the same in a step of several batches: each of the "terms"
            (examples, or tokens of a language model), or each of the "batches", as in the code of
            Xu & Zhang (2024), which averages the batches' means.
        evaluations_per_epoch: dev evaluations an epoch, evenly spaced, the last at its end.
        evaluate_every: steps between dev evaluations instead, one at the end.
        select_by: what makes a checkpoint the best on dev: "metric", the task's, ties going to the
            lower loss ("accuracy" says the same of a task judged by accuracy); or "loss", as in
            the code of Xu & Zhang (2024).
        patience: dev evaluations in a row without a new best after which the run stops; None never.
        max_length: most tokens of a row, at least 2, in training and evaluation; 2048 if absent,
            and never more than the model takes.
        bos: what rows start with; see ``landscape.tasks.encoding.encode``.
        schedule: selects the weights to train during the run; the model starts without a mask. Its
            optimizer is `landscape.AdamW`, whose state follows the mask.
        dense_lr: the learning rate of what is trained whole beside a mask, such as a head
            (`attach`'s ``dense``); None is lr.
        test: whether to evaluate the chosen checkpoint on test.
        device: where to move the model first, such as "cuda"; None leaves it where it is.
        folder: the run's folder; None keeps everything in memory. It knows by hashes what the
            run depends on: base weights, tokenizer, rows, the mask's indices, where theta starts.
        overwrite: start the folder anew, whatever run it holds.
        checkpoint_every: steps between checkpoints in the folder, which dev evaluations write too;
            None is as often as costs about two percent of the time: after the first step and the
            last, and whenever 50 times what writing the last one took has passed, ten minutes at
            most. Ctrl-C in a step writes one in either case.
        probes: called after every step as ``probe(model, record)``; must not change the model,
            may add entries to the record. A method ``start(optimizer)``, if any, is called first.
        progress: show a progress bar on standard error, if that is a terminal.

    Returns:
        The run; the model holds the chosen checkpoint.

    Raises:
        UserError: nothing to train, an argument out of range or without effect beside the others,
            or a folder of another configuration, of other inputs, or that cannot be written.

    Cost: one forward and one activation-gradient a batch; AdamW's state 2 k, and 2 k for the best
        and the first point. With a folder, once a model, a hash of all weights: 0.3 to 1 s for 135
        million.
    Source: Xu & Zhang 2024, appendix B (protocol).
    """
    checks.model(model)
    stays = folder is None or schedule is not None
    with nullcontext() if stays else left_as_found(unwrapped(model)):
        training = Training(
            model, tokenizer, task, lr=lr, epochs=epochs, batch_size=batch_size, seed=seed,
            optimizer=optimizer, weight_decay=weight_decay, betas=betas, eps=eps,
            momentum=momentum, lr_schedule=lr_schedule, warmup=warmup, accumulate=accumulate,
            max_gradient_norm=max_gradient_norm, autocast=autocast,
            evaluations_per_epoch=evaluations_per_epoch, select_by=select_by, patience=patience,
            max_length=max_length, bos=bos, schedule=schedule, dense_lr=dense_lr,
            loss_average=loss_average, evaluate_every=evaluate_every, test=test, device=device,
            folder=folder, overwrite=overwrite, checkpoint_every=checkpoint_every,
            probes=probes,
        )  # fmt: skip
        return run_through(training, progress=progress)


def run_through(training: Training, *, progress: bool = False) -> Run:
    """Go through a training to its end, with `finetune`'s progress bar, and return the run."""
    bar = tqdm(
        training, total=training.total, initial=training.taken, leave=False, unit="step",
        desc=f"train lr {training.settings.lr:g}", disable=None if progress else True,
    )  # fmt: skip
    for record in bar:
        bar.set_postfix_str(f"loss {record['loss']:.3f}")
    return training.run
