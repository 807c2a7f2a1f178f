"""Fine-tune the trainable numbers of a model on a task: AdamW, constant rate, clipping."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from landscape.batches import collate, encode, length_limit, pad_id
from landscape.distance import distance
from landscape.errors import UserError
from landscape.evaluate import evaluate
from landscape.runs import open_folder, peak_memory, read_json, write_json, write_whole
from landscape.scoring import task_loss
from landscape.subspace import attached_mask, is_attached, trainable
from landscape.tasks import Task

Probe = Callable[[nn.Module, dict[str, Any]], None]


@dataclass(frozen=True)
class Run:
    """Hold what a fine-tuning run did.

    Args:
        config: everything that determined its numbers.
        history: one dict a step: step, loss, gradient_norm.
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
        test: whether to evaluate the chosen checkpoint on test.
        directory: the run's folder; None keeps everything in memory.
        checkpoint_every: steps between checkpoints in the folder.
        probes: called after every step as ``probe(model, record)``; must not change the model,
            may add numbers to the record. A method ``start(optimizer)``, if any, is called first.
        progress: show a progress bar.

    Returns:
        The run; the model holds the chosen checkpoint.

    Raises:
        UserError: nothing to train, no training examples, an argument out of range, or a folder
            of another configuration.

    Cost: one forward and one activation-gradient a step; optimiser state 2 k.
    Source: Xu & Zhang 2024, appendix B (protocol).
    """
    parameters = trainable(model)
    _check(parameters, task, lr, epochs, batch_size, evaluations_per_epoch)
    config = _config(
        model, task, parameters, lr=lr, epochs=epochs, batch_size=batch_size, seed=seed,
        weight_decay=weight_decay, betas=list(betas), eps=eps, test=test,
        max_gradient_norm=max_gradient_norm, evaluations_per_epoch=evaluations_per_epoch,
    )  # fmt: skip
    folder = None if directory is None else open_folder(directory, config)
    if folder is not None and (folder / "result.json").exists():
        return _reload(folder, parameters)
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay
    )
    best = {name: p.detach().clone() for name, p in parameters.items()}
    state = _State()
    if folder is not None and (folder / "checkpoint.safetensors").exists():
        state = _restore(folder / "checkpoint.safetensors", parameters, optimizer, best)
    for probe in probes:
        if hasattr(probe, "start"):
            probe.start(optimizer)
    encoded = encode(task.train, tokenizer, max_length=length_limit(model))
    per_epoch = -(-len(encoded) // batch_size)
    evaluate_at = {
        per_epoch * (i + 1) // evaluations_per_epoch for i in range(evaluations_per_epoch)
    }
    started = time.perf_counter() - state.seconds
    bar = tqdm(
        total=epochs * per_epoch, initial=state.step, disable=not progress, leave=False,
        desc=f"train lr {lr:g}", unit="step",
    )  # fmt: skip
    training = model.training
    while state.step < epochs * per_epoch and not state.diverged:
        epoch, place = divmod(state.step, per_epoch)
        order = torch.randperm(len(encoded), generator=_generator(seed, "order", epoch)).tolist()
        rows = [encoded[i] for i in order[place * batch_size : (place + 1) * batch_size]]
        batch = collate(rows, pad_id(tokenizer), loss=task.loss)
        dropout_seed = _seed(seed, "dropout", state.step)
        record = _step(model, batch, parameters, optimizer, max_gradient_norm, dropout_seed)
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
            _evaluate_dev(model, tokenizer, task, state, parameters, best)
        if folder is not None and (state.step % checkpoint_every == 0 or place + 1 in evaluate_at):
            state.seconds = time.perf_counter() - started
            _save(folder / "checkpoint.safetensors", state, parameters, optimizer, best)
    bar.close()
    state.seconds = time.perf_counter() - started
    _copy(parameters, best)
    model.train(training)
    run = _finish(model, tokenizer, task, config, state, test, folder)
    if folder is not None:
        save = {name: t.contiguous() for name, t in best.items()}
        write_whole(folder / "theta.safetensors", lambda path: save_file(save, path))
        write_json(folder / "result.json", _as_json(run))
        (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return run


def _step(
    model: nn.Module,
    batch: dict[str, Any],
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    max_norm: float,
    dropout_seed: int,
) -> dict[str, float]:
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(dropout_seed)
        total, count = task_loss(model, batch)
    loss = total / count
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = float(torch.nn.utils.clip_grad_norm_(parameters.values(), max_norm))
    value = float(loss.detach())
    if math.isfinite(value) and math.isfinite(norm):
        optimizer.step()
    return {"loss": value, "gradient_norm": norm}


def _evaluate_dev(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    state: _State,
    parameters: dict[str, nn.Parameter],
    best: dict[str, Tensor],
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
        _copy(best, parameters)


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


def _config(
    model: nn.Module, task: Task, parameters: dict[str, nn.Parameter], **settings: Any
) -> dict[str, Any]:
    mask: dict[str, Any] = {}
    if is_attached(model):
        attached = attached_mask(model)
        mask = {"rule": dict(attached.rule), "count": attached.count, "ratio": attached.ratio}
    name = getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__
    count = sum(p.numel() for p in parameters.values())
    return {
        "model": name, "task": task.name, "source": task.source, "mask": mask,
        "trainable": count, **settings,
    }  # fmt: skip


def _check(
    parameters: dict[str, nn.Parameter],
    task: Task,
    lr: float,
    epochs: int,
    batch_size: int,
    evaluations_per_epoch: int,
) -> None:
    if not sum(p.numel() for p in parameters.values()):
        raise UserError("expected a model with trainable numbers, got none; attach a mask first")
    if not task.train:
        raise UserError(f"task {task.name} has no training example; raise num_train")
    if not (math.isfinite(lr) and lr > 0):
        raise UserError(f"lr must be a finite number above 0, got {lr}")
    counts = {"epochs": epochs, "batch_size": batch_size}
    for name, value in (counts | {"evaluations_per_epoch": evaluations_per_epoch}).items():
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")


def _save(
    path: Path,
    state: _State,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[f"theta/{name}"] = parameter.detach().clone()
        tensors[f"best/{name}"] = best[name].clone()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}/{name}"] = value.clone()
    metadata = {"state": json.dumps(dataclasses.asdict(state))}
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def _restore(
    path: Path,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
) -> _State:
    with safe_open(path, framework="pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        state = _State(**json.loads(file.metadata()["state"]))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[f"theta/{name}"])
            best[name].copy_(stored[f"best/{name}"])
            optimizer.state[parameter] = {
                key: stored[f"{key}/{name}"].to(parameter.device if key != "step" else "cpu")
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
    return state


def _reload(folder: Path, parameters: dict[str, nn.Parameter]) -> Run:
    with safe_open(folder / "theta.safetensors", framework="pt") as file:
        _copy(parameters, {name: file.get_tensor(name) for name in parameters})
    stored = read_json(folder / "result.json")
    return Run(read_json(folder / "config.json"), path=folder, **stored)


def _as_json(run: Run) -> dict[str, Any]:
    keys = ("history", "evaluations", "metrics", "distance")
    return {key: getattr(run, key) for key in keys}


@torch.no_grad()
def _copy(to: Any, source: Any) -> None:
    for name, tensor in to.items():
        tensor.copy_(source[name])


def _seed(*parts: object) -> int:
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "little")


def _generator(*parts: object) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*parts))
