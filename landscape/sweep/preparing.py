"""Prepared runs: from a configuration to a model with its trainable parameters, and its task.

A frozen model is loaded once a process and always given back bit for bit: a mask is detached;
whatever else changes a model, it changes a copy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.masks import Mask
from landscape.models import PACKAGED, load_model, num_labels_for
from landscape.models.kinds import CLASSIFIERS, head_modules, sees_all_tokens
from landscape.models.reading import note_revision
from landscape.models.tensors import num_parameters
from landscape.models.wanted import held_kind
from landscape.sources.carriers import hash_folder
from landscape.sources.hub import ask_hub
from landscape.subspace import attach, detach, is_attached
from landscape.sweep.config import RunConfig
from landscape.sweep.executors.executor import Places
from landscape.sweep.methods import METHODS, Given, give
from landscape.sweep.rows import MODEL_FILES, TASK_FILES
from landscape.tasks import Completion, Example, TaggedExample, Task, load_task
from landscape.tasks.batches import make_batches
from landscape.training.baselines import method_of
from landscape.training.heads import fit_head
from landscape.training.inputs import run_identity
from landscape.training.schedule import Schedule

HEAD_BATCH = 32
"""Examples a forward of the features that a head is fitted to."""

LOADED = (
    "*.safetensors", "*.safetensors.index.json", "pytorch_model*", "config.json", "tokenizer*",
    "vocab*", "merges*", "*.model", "*.tiktoken", "*.bpe", "special_tokens_map.json",
    "added_tokens.json", "*processor_config.json", "chat_template*",
)  # fmt: skip
"""Patterns of the files that are loaded from a model's folder."""


@dataclass(frozen=True)
class Base:
    """Hold what runs share: a pretrained model with its head, and a task.

    Args:
        model: without mask, in eval mode; shared by all runs of the process.
        tokenizer: of the model; the image processor of one that sees images.
        task: with the examples of the run's seed.
        head: names of the modules that are the model's head; none of a language model.
    """

    model: nn.Module
    tokenizer: Any
    task: Task
    head: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """Hold a run at its start.

    Args:
        config: of the run.
        model: with its trainable parameters; with a schedule, plain.
        tokenizer, task: of the run.
        mask: the one that is attached, None without one.
        schedule: of a mask that moves, None without one.
        size: parameters of the pretrained model, tied ones once: what a ratio is of.
        identity: hashes of the run's inputs.
    """

    config: RunConfig
    model: nn.Module
    tokenizer: Any
    task: Task
    mask: Mask | None
    schedule: Schedule | None
    size: int
    identity: Mapping[str, Any]

    @property
    def device(self) -> torch.device:
        """Return where the model is."""
        return next(self.model.parameters()).device


@contextmanager
def prepared(config: RunConfig, places: Places | None = None) -> Iterator[Prepared]:
    """Prepare a run, and give the pretrained model back afterwards, bit for bit.

    Args:
        config: of the run.
        places: where its inputs lie, and the device.

    Raises:
        UserError: a method, option, model or task that is none, or that do not fit each other.

    Cost: of the first run of a model and seed, loading both and fitting the head; then the mask.
    """
    base = load_base(config, places or Places())
    given = give(config, base.model, base.tokenizer, base.task, base.head)
    try:
        if given.mask is not None:
            attach(given.model, given.mask, dense=given.dense)
        yield _at_start(config, base, given)
    finally:
        if is_attached(given.model):
            detach(given.model)


def _at_start(config: RunConfig, base: Base, given: Given) -> Prepared:
    identity = run_identity(
        given.model, base.tokenizer, base.task, test=True, scheduled=given.schedule is not None,
        method=method_of(given.model).state_dict(),
    )  # fmt: skip
    if (files := files_of(config.model)) is not None:
        identity[MODEL_FILES] = files
    if (told := base.task.source.get("sha256")) is not None:
        identity[TASK_FILES] = told
    return Prepared(
        config, given.model, base.tokenizer, base.task, given.mask, given.schedule,
        num_parameters(base.model), identity,
    )  # fmt: skip


def load_base(config: RunConfig, places: Places) -> Base:
    """Load the model and the task of a run, or find them from the run before.

    Raises:
        UserError: as `landscape.load_model`, `landscape.load_task` and `landscape.fit_head`.
    """
    checks.choice("method", config.method, METHODS)
    asked = asked_of(config, places)
    task = task_of(*asked)
    labels, kind = head_for(config.model, task)
    fitted = config.head == "fitted" or labels is None
    seed = None if fitted else config.seed  # a model whose head is fitted is none of a drawn one
    state = state_of(None if config.model in PACKAGED else config.model)
    loaded = (config.model, state, config.dtype, places.device, labels, kind, seed)
    model, tokenizer = _model(*loaded)
    if labels is None:
        return Base(model, tokenizer, task, ())
    head = tuple(head_modules(model))
    if fitted:
        found = _fitted_head(loaded, asked)
        with torch.no_grad():
            for name, value in _head_values(model, head).items():
                value.copy_(found[name])
    return Base(model, tokenizer, task, head)


def asked_of(config: RunConfig, places: Places) -> tuple[Any, ...]:
    """Return what a run's task is loaded by: name, source and its state, sizes, seed."""
    source = places.sources.get(config.task)
    return (config.task, source, state_of(source), config.num_train, config.num_dev,
            config.num_test, config.seed)  # fmt: skip


def state_of(path: str | None) -> tuple[tuple[str, int, int], ...]:
    """Return names, sizes and times of the files at a path: what was loaded before may be old."""
    place = None if path is None else Path(path).expanduser()
    if place is None or not place.exists():
        return ()
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    stats = [(str(file), file.stat()) for file in files]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def files_of(model: str) -> str | None:
    """Return the hash of a model folder's files; None for a packaged model or one on the hub."""
    place = Path(model).expanduser()
    return None if model in PACKAGED or not place.is_dir() else hash_folder(place, LOADED)


def head_for(name: str, task: Task) -> tuple[int | None, str]:
    """Return how many labels a model gets for a task, and what it gives them to.

    None for a language model, which scores candidates or generates; an encoder, and whatever
    answers a task without prompts, has a head for the task's labels.
    """
    if task.kind not in (Example, Completion):
        return task.num_labels, "tokens" if task.kind is TaggedExample else "sequence"
    if name in PACKAGED:
        return num_labels_for(name, task.num_labels), "sequence"
    config = _configuration(name)
    headed = config is not None and (held_kind(config) in CLASSIFIERS or sees_all_tokens(config))
    return (task.num_labels if headed else None), "sequence"


def _configuration(name: str) -> Any:
    """Return the configuration of a folder or a hub model; None where `load_model` refuses it."""
    try:
        return configuration_of(name)
    except (OSError, ValueError):
        return None


def configuration_of(name: str) -> Any:
    """Return the configuration of a folder, or of a hub model.

    Raises:
        OSError: there is neither, or its files cannot be read.
        ValueError: they are no configuration.
    """
    return _read_configuration(name, state_of(name))


@lru_cache(maxsize=8)
def _read_configuration(name: str, state: tuple[Any, ...]) -> Any:
    from transformers import AutoConfig

    where, revision = os.path.expanduser(name), None
    if not os.path.isdir(where) and (answer := ask_hub(name, "model")).reachable:
        revision = answer.revision
    elif not os.path.isdir(where):
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(name, "config.json")
        except HFValidationError:
            found = None
        if not isinstance(found, str):
            raise FileNotFoundError(answer.reason)
        where = os.path.dirname(found)
        revision = os.path.basename(where)
    config = AutoConfig.from_pretrained(where, trust_remote_code=False)
    note_revision(config, revision)
    return config


@lru_cache(maxsize=8)
def task_of(
    name: str, source: str | None, state: tuple[Any, ...], train: int, dev: int, test: int,
    seed: int,
) -> Task:  # fmt: skip
    """Load the task of a run, as `asked_of` says; one that fails is tried anew."""
    return load_task(name, source=source, num_train=train, num_dev=dev, num_test=test, seed=seed)


@lru_cache(maxsize=2)
def _model(
    name: str,
    state: tuple[Any, ...],
    dtype: str,
    device: str | None,
    labels: int | None,
    kind: str,
    seed: int | None,
) -> tuple[nn.Module, Any]:
    told: dict[str, Any] = {}
    if labels is not None:
        told = {"num_labels": labels, "head": kind, "seed": seed or 0}
        told["new_head"] = name not in PACKAGED  # their files hold none
    return load_model(name, dtype=dtype, device=device, **told)


@lru_cache(maxsize=32)
def _fitted_head(loaded: tuple[Any, ...], asked: tuple[Any, ...]) -> dict[str, Tensor]:
    """Return the values of a head that is fitted to a task's training examples."""
    (model, tokenizer), task = _model(*loaded), task_of(*asked)
    fit_head(model, make_batches(task.train, tokenizer, HEAD_BATCH, sort=True))
    values = _head_values(model, tuple(head_modules(model)))
    return {name: value.detach().clone() for name, value in values.items()}


def _head_values(model: nn.Module, head: tuple[str, ...]) -> dict[str, Tensor]:
    return {
        f"{name}.{own}": value
        for name in head
        for own, value in model.get_submodule(name).named_parameters()
    }
