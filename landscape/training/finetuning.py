"""Fine-tune the trainable numbers of a model on a task: AdamW, constant rate, clipping."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from landscape import checks, seeds
from landscape.distances import distance
from landscape.errors import UserError
from landscape.identity import precision
from landscape.runs import open_folder, peak_memory, read_json, write_json
from landscape.subspace import (
    attached_mask,
    detach,
    is_attached,
    refuse_unseen_readers,
    trainable,
)
from landscape.subspace.attachable import refuse_wrapped
from landscape.tasks import Task
from landscape.tasks.batches import Bos, collate, encode, length_limit, pad_id
from landscape.tasks.evaluation import evaluate
from landscape.tasks.scoring import task_loss
from landscape.tensorfile import write_tensors
from landscape.training.baselines import method_of
from landscape.training.checkpoint import (
    from_one_start,
    go_to,
    identity_of,
    point,
    read_numbers,
    restore,
    run_key,
    save,
)
from landscape.training.moving import MovingMask, watch
from landscape.training.optimizer import AdamW, check_betas
from landscape.training.schedule import Schedule

SelectBy = Literal["accuracy", "loss"]
Probe = Callable[[nn.Module, dict[str, Any]], None]


@dataclass(frozen=True)
class Run:
    """Hold what a fine-tuning run did.

    Args:
        config: everything that determined its numbers.
        history: one dict a step: step, loss, gradient_norm and, with a schedule, updated: how many
            scalars the step updated.
        evaluations: one dict an evaluation on dev: step, accuracy, loss.
        metrics: dev and test results of the chosen checkpoint, `best_step`, `diverged`, `seconds`.
        distance: the distance of the chosen checkpoint to initialisation.
        path: the run's folder, or None.
        stored: whether the run was finished before, and this was read from its folder.
    """

    config: dict[str, Any]
    history: list[dict[str, float]]
    evaluations: list[dict[str, float]]
    metrics: dict[str, Any]
    distance: dict[str, Any]
    path: Path | None = None
    stored: bool = False

    @property
    def diverged(self) -> bool:
        """Tell whether the loss became NaN or infinite, which ended the run."""
        return bool(self.metrics["diverged"])


@dataclass
class _State:
    step: int = 0
    best_step: int = 0
    best_accuracy: float = -1.0
    best_loss: float = math.inf
    diverged: bool = False
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)


@from_one_start
def finetune(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    lr: float,
    epochs: int = 5,
    batch_size: int = 8,
    seed: int = 0,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    max_gradient_norm: float = 1.0,
    evaluations_per_epoch: int = 1,
    select_by: SelectBy = "accuracy",
    max_length: int | None = None,
    bos: Bos = "tokenizer",
    schedule: Schedule | None = None,
    test: bool = True,
    directory: str | Path | None = None,
    overwrite: bool = False,
    checkpoint_every: int = 50,
    probes: Sequence[Probe] = (),
    progress: bool = False,
) -> Run:
    """Train the model's trainable numbers and keep the checkpoint that is best on dev.

    AdamW at a constant rate, gradients clipped to a Euclidean norm. The order of the examples is
    a pure function of (seed, epoch) and dropout, where the model has any, of (seed, step), so a
    run that was killed and called again with the same folder ends bit for bit like one that was
    not. A loss that is not finite ends the run as diverged; the best checkpoint so far is kept.

    Args:
        model: a model with trainable numbers (`attach` a mask first, or train what you like).
        tokenizer: its tokenizer.
        task: the task; train, dev and test are used.
        lr: the learning rate, above 0.
        epochs: passes over the training examples, at least 1.
        batch_size: examples a step.
        seed: seed of the order of the examples (the mask has its own).
        weight_decay: AdamW's, on the trainable numbers (with a mask: towards the pretrained value).
        betas, eps: AdamW's.
        max_gradient_norm: clipping threshold; ``math.inf`` for none.
        evaluations_per_epoch: dev evaluations an epoch, evenly spaced, the last at its end.
        select_by: what makes a checkpoint the best on dev: "accuracy", ties going to the lower
            loss, or "loss", as in the code of paper 1.
        max_length: most tokens of a row, at least 2, in training and evaluation; 2048 if absent,
            and never more than the model takes.
        bos: what rows start with; see ``landscape.tasks.batches.encode``.
        schedule: selects the weights to train during the run; the model starts without a mask.
        test: whether to evaluate the chosen checkpoint on test.
        directory: the run's folder; None keeps everything in memory. It knows by hashes what the
            run depends on: base weights, tokenizer, rows, the mask's indices, where theta starts.
        overwrite: start the folder anew, whatever run it holds.
        checkpoint_every: steps between checkpoints in the folder.
        probes: called after every step as ``probe(model, record)``; must not change the model,
            may add numbers to the record. A method ``start(optimizer)``, if any, is called first.
        progress: show a progress bar on standard error, if that is a terminal.

    Returns:
        The run; the model holds the chosen checkpoint.

    Raises:
        UserError: nothing to train, an argument out of range, or a folder of another
            configuration or of other inputs.

    Cost: one forward and one activation-gradient a step; optimiser state 2 k, and 2 k for the best
        and the first point. With a folder, once a model, a hash of all weights: 0.3 to 1 s for 135
        million.
    Source: Xu & Zhang 2024, appendix B (protocol).
    """
    settings = _check(
        lr=lr, epochs=epochs, batch_size=batch_size, seed=seed, weight_decay=weight_decay,
        betas=betas, eps=eps, test=test, max_gradient_norm=max_gradient_norm,
        evaluations_per_epoch=evaluations_per_epoch, select_by=select_by,
    )  # fmt: skip
    checkpoint_every = checks.whole("checkpoint_every", checkpoint_every, least=1)
    _check_kinds(model, tokenizer, task, schedule, probes)
    if max_length is not None:
        max_length = checks.whole("max_length", max_length, least=2)
    if directory is not None:
        directory = checks.path("directory", directory)
    per_epoch = -(-len(task.train) // batch_size)
    moving = None if schedule is None else MovingMask(schedule, model, epochs * per_epoch)
    count = moving.budget if moving else sum(p.numel() for p in trainable(model).values())
    if not count:
        raise UserError("expected a model with trainable numbers, got none; attach a mask first")
    rows_of: dict[str, Any] = {"max_length": length_limit(model, max_length), "bos": bos}
    selection = {} if schedule is None else {"schedule": schedule.as_dict()}
    config = _config(model, task, count, **settings, **rows_of, **selection)
    folder = None
    if directory is not None:
        identity = identity_of(model, tokenizer, task, Path(directory), test, schedule, overwrite)
        folder = open_folder(directory, config, identity=identity, overwrite=overwrite)
        config = read_json(folder / "config.json")
    if moving is not None:
        if is_attached(model) and folder is not None:  # what a stopped run of it has left
            detach(model)
        moving.attach()
    parameters = trainable(model)
    if folder is not None and (folder / "result.json").exists():
        return _reload(folder, config, parameters, moving)
    make = torch.optim.AdamW if moving is None else AdamW
    optimizer = make(parameters.values(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    best = point(parameters, moving)
    start = dict(best)  # where distances begin; no copy until the first checkpoint is chosen
    state = _State()
    if folder is not None and (folder / "checkpoint.safetensors").exists():
        path, fields = folder / "checkpoint.safetensors", set(dataclasses.asdict(state))
        told = restore(path, config, fields, model, parameters, optimizer, best, moving)
        state = _State(**told)
    for probe in probes:
        if hasattr(probe, "start"):
            probe.start(optimizer)
    encoded = encode(task.train, tokenizer, **rows_of)
    evaluate_at = {
        per_epoch * (i + 1) // evaluations_per_epoch for i in range(evaluations_per_epoch)
    }
    started = time.perf_counter() - state.seconds
    bar = tqdm(
        total=epochs * per_epoch, initial=state.step, leave=False, unit="step",
        desc=f"train lr {lr:g}", disable=None if progress else True,
    )  # fmt: skip
    while state.step < epochs * per_epoch and not state.diverged:
        epoch, place = divmod(state.step, per_epoch)
        order = torch.randperm(
            len(encoded), generator=seeds.generator(seeds.derived(seed, "order", epoch))
        ).tolist()
        rows = [encoded[i] for i in order[place * batch_size : (place + 1) * batch_size]]
        batch = collate(rows, pad_id(tokenizer), loss=task.loss)
        dropout_seed = seeds.derived(seed, "dropout", state.step)
        with watch(moving, state.step, optimizer):
            loss = _backward(model, batch, optimizer, dropout_seed, first=not state.step)
        record = _update(parameters, optimizer, max_gradient_norm, loss)
        method_of(model).step(state.step)
        if isinstance(optimizer, AdamW):
            record["updated"] = optimizer.count
        state.step += 1
        record["step"] = state.step
        state.history.append(record)
        state.diverged = not (
            math.isfinite(record["loss"]) and math.isfinite(record["gradient_norm"])
        )
        bar.update()
        bar.set_postfix_str(f"loss {record['loss']:.3f}")
        for probe in probes:
            probe(model, record)
        if not state.diverged and place + 1 in evaluate_at:
            state.diverged = not all(torch.isfinite(p).all() for p in parameters.values())
            if not state.diverged:
                found = evaluate(model, tokenizer, task, split="dev", **rows_of)
                if _is_best(state, found[task.metric], found["loss"], task.metric, select_by):
                    best.update(point(parameters, moving))
        if folder is not None and (state.step % checkpoint_every == 0 or place + 1 in evaluate_at):
            state.seconds = time.perf_counter() - started
            save(
                folder / "checkpoint.safetensors", config, dataclasses.asdict(state), model,
                parameters, optimizer, best, moving,
            )  # fmt: skip
    bar.close()
    state.seconds = time.perf_counter() - started
    go_to(parameters, best, moving)
    tested = evaluate(model, tokenizer, task, split="test", **rows_of) if test else None
    run = _finish(model, config, state, start, tested, folder)
    if folder is not None:
        write_tensors(folder / "theta.safetensors", best, {"run": run_key(config)})
        write_json(folder / "result.json", _as_json(run))
        (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return run


def _backward(
    model: nn.Module,
    batch: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    dropout_seed: int,
    *,
    first: bool,
) -> float:
    """Put the gradient of a batch's mean loss into the parameters and return the loss.

    The model is in training mode meanwhile and in its own mode afterwards, also when interrupted.
    """

    def mean() -> Tensor:
        total, count = task_loss(model, batch)
        return total / count

    training = model.training
    model.train()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(dropout_seed)
            loss = refuse_unseen_readers(model, mean) if first else mean()
        optimizer.zero_grad(set_to_none=True)
        (loss + method_of(model).penalty()).backward()
    finally:
        model.train(training)
    return float(loss.detach())


def _update(
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    max_norm: float,
    loss: float,
) -> dict[str, float]:
    """Clip the gradients and, when all is finite, step."""
    norm = float(torch.nn.utils.clip_grad_norm_(parameters.values(), max_norm))
    if math.isfinite(loss) and math.isfinite(norm):
        optimizer.step()
        torch.clear_autocast_cache()  # of weights as they were, inside a user's autocast
    return {"loss": loss, "gradient_norm": norm}


def _is_best(state: _State, accuracy: float, loss: float, metric: str, by: SelectBy) -> bool:
    """Note what dev says of a checkpoint, and tell whether it is the best so far."""
    state.evaluations.append({"step": state.step, metric: accuracy, "loss": loss})
    key = (-loss, accuracy) if by == "loss" else (accuracy, -loss)
    best = (-state.best_loss, state.best_accuracy)
    if not key > (best if by == "loss" else best[::-1]):
        return False
    state.best_step, state.best_accuracy, state.best_loss = state.step, accuracy, loss
    return True


def _finish(
    model: nn.Module,
    config: dict[str, Any],
    state: _State,
    start: dict[str, Tensor],
    tested: dict[str, Any] | None,
    folder: Path | None,
) -> Run:
    metrics: dict[str, Any] = {
        "diverged": state.diverged,
        "best_step": state.best_step,
        "steps": state.step,
        "dev": next((e for e in state.evaluations if e["step"] == state.best_step), None),
        "test": tested,
        "seconds": state.seconds,
        "peak_memory": peak_memory(),
    }
    moved = dataclasses.asdict(distance(model, start))
    return Run(config, state.history, state.evaluations, metrics, moved, folder)


def _config(model: nn.Module, task: Task, count: int, **settings: Any) -> dict[str, Any]:
    mask: dict[str, Any] = {}
    if is_attached(model) and "schedule" not in settings:
        attached = attached_mask(model)
        mask = {"rule": dict(attached.rule), "count": attached.count, "ratio": attached.ratio}
    name = getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__
    return {
        "model": name, "dtype": precision(model), "task": task.name, "source": task.source,
        "mask": mask, "trainable": count, **settings,
    }  # fmt: skip


def _check(**given: Any) -> dict[str, Any]:
    """Return the settings of a run in plain types, as its configuration holds them."""
    whole = partial(checks.whole, least=1)
    kinds: dict[str, Callable[[str, Any], Any]] = {
        "lr": partial(checks.number, above=0),
        "epochs": whole,
        "batch_size": whole,
        "seed": lambda name, value: checks.seed(value, name),
        "weight_decay": partial(checks.number, least=0),
        "betas": lambda name, value: list(check_betas(name, value)),
        "eps": partial(checks.number, least=0),
        "test": checks.flag,
        "max_gradient_norm": partial(checks.number, above=0, infinite=True),
        "evaluations_per_epoch": whole,
        "select_by": lambda name, value: checks.choice(name, value, get_args(SelectBy)),
    }
    return {name: kinds[name](name, value) for name, value in given.items()}


def _check_kinds(model: Any, tokenizer: Any, task: Any, schedule: Any, probes: Any) -> None:
    checks.model(model)
    refuse_wrapped(model, "finetune")
    checks.tokenizer(tokenizer)
    checks.instance("task", task, Task, "load or make one")
    checks.several("probes", probes, "functions")
    for probe in probes:
        checks.has("each probe", probe, "a function", "__call__", do="give probe(model, record)")
    if schedule is not None:
        checks.instance("schedule", schedule, Schedule, "make one, or leave it out")


def _reload(
    folder: Path,
    config: dict[str, Any],
    parameters: dict[str, nn.Parameter],
    moving: MovingMask | None,
) -> Run:
    path, cure = folder / "result.json", "train again with overwrite=True (--force)"
    stored = read_json(path)
    kinds = {"history": list, "evaluations": list, "metrics": dict, "distance": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(stored.get(key), kind)]
    if wrong or stored.keys() != kinds.keys() or "diverged" not in stored["metrics"]:
        raise UserError(
            f"expected a run's result in {path}, got {', '.join(stored) or 'an empty object'}; "
            f"{cure}"
        )
    best, _ = read_numbers(folder / "theta.safetensors", config, cure)
    go_to(parameters, best, moving)
    for record in stored["history"]:  # JSON has no NaN
        record |= {key: math.nan for key, value in record.items() if value is None}
    with contextlib.suppress(OSError):  # a folder that cannot be written can still be read
        (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return Run(config, path=folder, stored=True, **stored)


def _as_json(run: Run) -> dict[str, Any]:
    keys = ("history", "evaluations", "metrics", "distance")
    return {key: getattr(run, key) for key in keys}
