"""Fine-tune the trainable numbers of a model on a task: AdamW, constant rate, clipping."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.baselines import advance, memory, penalty, recall
from landscape.batches import collate, encode, length_limit, pad_id
from landscape.distance import distance
from landscape.errors import UserError
from landscape.evaluate import evaluate
from landscape.optimizer import AdamW, check_betas
from landscape.runs import open_folder, peak_memory, read_json, write_json, write_whole
from landscape.schedule import MovingMask, Schedule, watch
from landscape.scoring import task_loss
from landscape.subspace import attached_mask, is_attached, trainable
from landscape.tasks import Task

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
    """

    config: dict[str, Any]
    history: list[dict[str, float]]
    evaluations: list[dict[str, float]]
    metrics: dict[str, Any]
    distance: dict[str, Any]
    path: Path | None = None

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
    schedule: Schedule | None = None,
    test: bool = True,
    directory: str | Path | None = None,
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
        schedule: selects the weights to train during the run; the model starts without a mask.
        test: whether to evaluate the chosen checkpoint on test.
        directory: the run's folder; None keeps everything in memory.
        checkpoint_every: steps between checkpoints in the folder.
        probes: called after every step as ``probe(model, record)``; must not change the model,
            may add numbers to the record. A method ``start(optimizer)``, if any, is called first.
        progress: show a progress bar.

    Returns:
        The run; the model holds the chosen checkpoint.

    Raises:
        UserError: nothing to train, an argument out of range, or a folder of another
            configuration.

    Cost: one forward and one activation-gradient a step; optimiser state 2 k.
    Source: Xu & Zhang 2024, appendix B (protocol).
    """
    settings = _check(
        lr=lr, epochs=epochs, batch_size=batch_size, seed=seed, weight_decay=weight_decay,
        betas=betas, eps=eps, test=test, max_gradient_norm=max_gradient_norm,
        evaluations_per_epoch=evaluations_per_epoch,
    )  # fmt: skip
    checkpoint_every = checks.whole("checkpoint_every", checkpoint_every, least=1)
    _check_kinds(model, task, schedule)
    per_epoch = -(-len(task.train) // batch_size)
    moving = None if schedule is None else MovingMask(schedule, model, epochs * per_epoch)
    count = moving.budget if moving else sum(p.numel() for p in trainable(model).values())
    if not count:
        raise UserError("expected a model with trainable numbers, got none; attach a mask first")
    selection = {} if schedule is None else {"schedule": schedule.as_dict()}
    config = _config(model, task, count, **settings, **selection)
    folder = None if directory is None else open_folder(directory, config)
    if moving is not None:
        moving.attach()
    parameters = trainable(model)
    if folder is not None and (folder / "result.json").exists():
        return _reload(folder, parameters, moving)
    make = torch.optim.AdamW if moving is None else AdamW
    optimizer = make(parameters.values(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    best = _point(parameters, moving)
    state = _State()
    if folder is not None and (folder / "checkpoint.safetensors").exists():
        state = _restore(
            folder / "checkpoint.safetensors", model, parameters, optimizer, best, moving
        )
    for probe in probes:
        if hasattr(probe, "start"):
            probe.start(optimizer)
    encoded = encode(task.train, tokenizer, max_length=length_limit(model))
    evaluate_at = {
        per_epoch * (i + 1) // evaluations_per_epoch for i in range(evaluations_per_epoch)
    }
    started = time.perf_counter() - state.seconds
    bar = tqdm(
        total=epochs * per_epoch, initial=state.step, disable=not progress, leave=False,
        desc=f"train lr {lr:g}", unit="step",
    )  # fmt: skip
    while state.step < epochs * per_epoch and not state.diverged:
        epoch, place = divmod(state.step, per_epoch)
        order = torch.randperm(len(encoded), generator=_generator(seed, "order", epoch)).tolist()
        rows = [encoded[i] for i in order[place * batch_size : (place + 1) * batch_size]]
        batch = collate(rows, pad_id(tokenizer), loss=task.loss)
        dropout_seed = _seed(seed, "dropout", state.step)
        with watch(moving, state.step, optimizer):
            loss = _backward(model, batch, optimizer, dropout_seed)
        record = _update(parameters, optimizer, max_gradient_norm, loss)
        advance(model, state.step)
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
            _evaluate_dev(model, tokenizer, task, state, parameters, best, moving)
        if folder is not None and (state.step % checkpoint_every == 0 or place + 1 in evaluate_at):
            state.seconds = time.perf_counter() - started
            _save(
                folder / "checkpoint.safetensors", state, model, parameters, optimizer, best, moving
            )
    bar.close()
    state.seconds = time.perf_counter() - started
    _go_to(parameters, best, moving)
    run = _finish(model, tokenizer, task, config, state, test, folder)
    if folder is not None:
        save = {name: t.contiguous() for name, t in best.items()}
        write_whole(folder / "theta.safetensors", lambda path: save_file(save, path))
        write_json(folder / "result.json", _as_json(run))
        (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return run


def _backward(
    model: nn.Module, batch: dict[str, Any], optimizer: torch.optim.Optimizer, dropout_seed: int
) -> float:
    """Put the gradient of a batch's mean loss into the parameters and return the loss.

    The model is in training mode meanwhile and in its own mode afterwards, also when interrupted.
    """
    training = model.training
    model.train()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(dropout_seed)
            total, count = task_loss(model, batch)
        loss = total / count
        optimizer.zero_grad(set_to_none=True)
        (loss + penalty(model)).backward()
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
    return {"loss": loss, "gradient_norm": norm}


def _point(parameters: dict[str, nn.Parameter], moving: MovingMask | None) -> dict[str, Tensor]:
    """Copy the trainable numbers and, where the mask moves, its indices."""
    point = {name: p.detach().clone() for name, p in parameters.items()}
    if moving is not None:
        point |= {f"{name}.indices": i.clone() for name, i in moving.indices().items()}
    return point


@torch.no_grad()
def _go_to(
    parameters: dict[str, nn.Parameter], point: dict[str, Tensor], moving: MovingMask | None
) -> None:
    """Give the model the numbers of a point, and the mask they belong to."""
    if moving is not None:
        moving.go_to({name: point[f"{name}.indices"] for name in parameters})
    for name, parameter in parameters.items():
        parameter.copy_(point[name])


def _evaluate_dev(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    state: _State,
    parameters: dict[str, nn.Parameter],
    best: dict[str, Tensor],
    moving: MovingMask | None,
) -> None:
    """Evaluate on dev; a higher accuracy, or the same at a lower loss, becomes the best."""
    if not all(torch.isfinite(p).all() for p in parameters.values()):
        state.diverged = True
        return
    scores = evaluate(model, tokenizer, task, split="dev")
    accuracy, loss = scores[task.metric], scores["loss"]
    state.evaluations.append({"step": state.step, task.metric: accuracy, "loss": loss})
    if (accuracy, -loss) > (state.best_accuracy, -state.best_loss):
        state.best_step, state.best_accuracy, state.best_loss = state.step, accuracy, loss
        best.update(_point(parameters, moving))


def _finish(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    config: dict[str, Any],
    state: _State,
    test: bool,
    folder: Path | None,
) -> Run:
    metrics: dict[str, Any] = {
        "diverged": state.diverged,
        "best_step": state.best_step,
        "steps": state.step,
        "dev": next((e for e in state.evaluations if e["step"] == state.best_step), None),
        "test": evaluate(model, tokenizer, task, split="test") if test else None,
        "seconds": state.seconds,
        "peak_memory": peak_memory(),
    }
    moved = dataclasses.asdict(distance(model)) if is_attached(model) else {}
    return Run(config, state.history, state.evaluations, metrics, moved, folder)


def _config(model: nn.Module, task: Task, count: int, **settings: Any) -> dict[str, Any]:
    mask: dict[str, Any] = {}
    if is_attached(model):
        attached = attached_mask(model)
        mask = {"rule": dict(attached.rule), "count": attached.count, "ratio": attached.ratio}
    name = getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__
    return {
        "model": name, "task": task.name, "source": task.source, "mask": mask,
        "trainable": count, **settings,
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
    }
    return {name: kinds[name](name, value) for name, value in given.items()}


def _check_kinds(model: Any, task: Any, schedule: Any) -> None:
    checks.instance("model", model, nn.Module, "load or build one")
    checks.instance("task", task, Task, "load or make one")
    if schedule is not None:
        checks.instance("schedule", schedule, Schedule, "make one, or leave it out")


def _save(
    path: Path,
    state: _State,
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    moving: MovingMask | None,
) -> None:
    tensors = {f"theta/{key}": value for key, value in _point(parameters, moving).items()}
    tensors |= {f"best/{key}": value.clone() for key, value in best.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"state/{key}/{name}"] = value.clone()
    tensors |= {f"method/{key}": value for key, value in memory(model).items()}
    metadata = {"state": json.dumps(dataclasses.asdict(state))}
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def _restore(
    path: Path,
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    moving: MovingMask | None,
) -> _State:
    with safe_open(path, framework="pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        state = _State(**json.loads(file.metadata()["state"]))
    _go_to(parameters, _below(stored, "theta"), moving)
    recall(model, _below(stored, "method"))
    best.update({key: value.to(best[key].device) for key, value in _below(stored, "best").items()})
    for key, value in _below(stored, "state").items():
        kind, _, name = key.partition("/")
        parameter = parameters[name]
        # torch's AdamW keeps its one count of steps on the processor
        optimizer.state[parameter][kind] = value if value.dim() == 0 else value.to(parameter.device)
    return state


def _below(stored: dict[str, Tensor], folder: str) -> dict[str, Tensor]:
    start = f"{folder}/"
    return {k.removeprefix(start): v for k, v in stored.items() if k.startswith(start)}


def _reload(folder: Path, parameters: dict[str, nn.Parameter], moving: MovingMask | None) -> Run:
    with safe_open(folder / "theta.safetensors", framework="pt") as file:
        point = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    _go_to(parameters, point, moving)
    stored = read_json(folder / "result.json")
    return Run(read_json(folder / "config.json"), path=folder, **stored)


def _as_json(run: Run) -> dict[str, Any]:
    keys = ("history", "evaluations", "metrics", "distance")
    return {key: getattr(run, key) for key in keys}


def _seed(*parts: object) -> int:
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "little")


def _generator(*parts: object) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*parts))
