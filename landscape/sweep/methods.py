"""Methods: from a run's configuration to what of its model is trained."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape import checks, seeds
from landscape.errors import UserError
from landscape.masks import Mask, random_mask
from landscape.models.kinds import labels_of
from landscape.models.tensors import num_parameters
from landscape.selection import select_mask, structured_mask
from landscape.selection.scores import SCORES, make_score
from landscape.sweep.config import RunConfig
from landscape.sweep.naming import known
from landscape.sweep.sizes import nearest_size
from landscape.tasks import Task
from landscape.tasks.batches import make_batches
from landscape.training.baselines import BASELINES
from landscape.training.schedule import Kind, Schedule

METHODS = ("none", "random", "structured", *SCORES, *BASELINES)
"""What a run may be: nothing is trained, a mask, or another way to give a model parameters."""

INSERTED = {"lora": ("rank", "*.lora_*"), "adapter": ("width", "*.adapter.*")}
"""Baselines whose size a budget may choose, and that take a mask on top: the option that is their
size, and the pattern of what they insert."""

#: options of masks beside those of their functions that the configuration says itself
_OF_SCORES = ("scope", "granularity", "block", "max_live", "examples", "batch_size")
_OF_SCHEDULES = ("scope", "steps", "increments", "every", "drop")
_OF_MASKS = {"random": ("sampling",), "structured": ("granularity", "block", "order")}


@dataclass(frozen=True)
class Given:
    """Hold what a method gives: a model, and what is to be attached to it.

    Args:
        model: the pretrained one, untouched, or a changed copy.
        mask: to attach; None without one.
        schedule: to train with; None without one.
        dense: names of what is trained whole beside the mask.
    """

    model: nn.Module
    mask: Mask | None = None
    schedule: Schedule | None = None
    dense: tuple[str, ...] = ()


def give(
    config: RunConfig,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    head: tuple[str, ...],
) -> Given:
    """Return what a run trains.

    Options are those of the function that makes it: `random_mask`, `structured_mask`,
    `select_mask`, `Schedule` or the baseline. Beside them a score has ``examples``, the training
    examples that it sees (all), and their ``batch_size`` (the run's); a mask on top of a baseline
    ``on``, "lora" or "adapter", with the options of that one, whose ``targets`` are the run's while
    the mask chooses from what it inserts. Where such a baseline has no ``rank`` or ``width``, it
    has the one nearest to the run's budget, times ``surplus`` under a mask.

    Args:
        config: of the run.
        model: the pretrained one; it is not changed.
        tokenizer, task: of the run.
        head: modules that are trained as well where the configuration says so.

    Raises:
        UserError: a method or option that is none, or a budget where none is due.
    """
    refuse_unfit(config)
    options, own = dict(config.options), head if config.head == "trained" else ()
    if config.method == "none":
        return Given(model)
    if config.method in BASELINES:
        return Given(_baseline(config, config.method, options, model, tokenizer, task, own))
    targets, made, budget = list(config.targets), model, _budget(config)
    if on := options.pop("on", None):
        taken = {name: options.pop(name) for name in _of_baseline(on) if name in options}
        if "ratio" in budget:
            budget = {"count": max(1, round(budget["ratio"] * num_parameters(model)))}
        wanted = config.replace(ratio=None, count=budget.get("count"))
        made = _baseline(wanted, on, taken, model, tokenizer, task, own)
        targets = [INSERTED[on][1]]
        own = _under_new_names(made, model, own)
    elif config.schedule:
        made = copy.deepcopy(model)
    if config.schedule:
        return Given(made, schedule=_schedule(config, options, targets, budget, own))
    return Given(made, _mask(config, options, targets, budget, made, tokenizer, task), dense=own)


def refuse_unfit(config: RunConfig) -> None:
    """Refuse a method that is none, and options, a schedule or a budget that it has not.

    Raises:
        UserError: the run has one of these.
    """
    method, options = checks.choice("method", config.method, METHODS), dict(config.options)
    if config.schedule and method not in SCORES:
        raise UserError(
            f"expected a score with a schedule ({', '.join(SCORES)}), got {method!r}; name "
            "one as the method, or leave schedule out"
        )
    if method == "none" or (method in BASELINES and method not in INSERTED):
        _refuse_budget(config)
    if method == "none" or method in BASELINES:
        _refuse_left(method, options, _of_baseline(method) if method in BASELINES else ())
        return
    if on := options.pop("on", None):
        checks.choice("on", on, INSERTED)
        options = {name: value for name, value in options.items() if name not in _of_baseline(on)}
    if method in _OF_MASKS:
        _refuse_left(method, options, _OF_MASKS[method])
    elif config.schedule:
        checks.choice("schedule", config.schedule, get_args(Kind))
        known = (*_OF_SCHEDULES, *_parameters(SCORES[method]))
        _refuse_left(f"{method} by {config.schedule}", options, known)
    else:
        _refuse_left(method, options, (*_OF_SCORES, *_parameters(SCORES[method])))


def _of_baseline(name: str) -> tuple[str, ...]:
    """Return the options of a baseline."""
    more = {"prefix": ("length",), "lora": ("surplus",), "adapter": ("surplus",)}
    return (*_parameters(BASELINES[name]), *more.get(name, ()))


def drawn_by(config: RunConfig) -> int:
    """Return the seed of a run's mask, or of what its baseline draws."""
    return config.seed if config.mask_seed is None else config.mask_seed


def _mask(
    config: RunConfig, options: dict[str, Any], targets: list[str], budget: dict[str, Any],
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, task: Task,
) -> Mask:  # fmt: skip
    if "block" in options:
        options["block"] = tuple(options["block"])
    if config.method in _OF_MASKS:
        make: Any = random_mask if config.method == "random" else structured_mask
        mask: Mask = make(model, targets=targets, seed=drawn_by(config), **budget, **options)
        return mask
    count = checks.whole("examples", options.pop("examples", len(task.train)), least=1)
    size = checks.whole("batch_size", options.pop("batch_size", config.batch_size), least=1)
    batches = None
    of_score = {k: v for k, v in options.items() if k in _parameters(SCORES[config.method])}
    if make_score(config.method, of_score).source != "weights":
        batches = make_batches(task.train[:count], tokenizer, size, sort=True, loss=task.loss)
    return select_mask(
        model, score=config.method, batches=batches, targets=targets, **budget, **options
    )


def _schedule(
    config: RunConfig, options: dict[str, Any], targets: list[str], budget: dict[str, Any],
    dense: tuple[str, ...],
) -> Schedule:  # fmt: skip
    known = _parameters(SCORES[config.method])
    of_score = {name: options.pop(name) for name in known if name in options}
    return Schedule(
        config.schedule, score=config.method, options=of_score, targets=targets, dense=dense,  # type: ignore[arg-type]
        **budget, **options,
    )  # fmt: skip


def _baseline(
    config: RunConfig, name: str, options: dict[str, Any], model: nn.Module,
    tokenizer: PreTrainedTokenizerBase, task: Task, head: tuple[str, ...],
) -> nn.Module:  # fmt: skip
    """Return a changed copy of a model."""
    make = BASELINES[name]
    surplus = checks.number("surplus", options.pop("surplus", 1.0), above=0)
    options |= _told(config, name, options, model, tokenizer, task)
    if (
        name in INSERTED
        and (wanted := _count(config, model)) is not None
        and INSERTED[name][0] not in options
    ):
        size = INSERTED[name][0]
        options[size] = nearest_size(
            lambda plain, n: make(plain, **options, **{size: n}), model, round(surplus * wanted)
        )
    changed = copy.deepcopy(model)
    heads = [p for part in head for p in changed.get_submodule(part).parameters()]
    changed = make(changed, **options)
    for p in heads:
        p.requires_grad_(True)
    return changed


def _told(
    config: RunConfig, name: str, options: dict[str, Any], model: nn.Module,
    tokenizer: PreTrainedTokenizerBase, task: Task,
) -> dict[str, Any]:  # fmt: skip
    """Return what the configuration itself says to a baseline."""
    told: dict[str, Any] = {}
    if name in ("lora", "adalora"):
        told["targets"] = list(config.targets)
    if name in ("lora", "adalora", "adapter"):
        told["seed"] = drawn_by(config)
    if name == "adalora":
        rows = config.batch_size * int(config.settings.get("accumulate", 1))
        told["steps"] = config.epochs * -(-len(task.train) // rows)
    if name == "prefix":
        if labels_of(model):
            raise UserError(
                f"expected a language model for prefix, got {type(model).__name__} with a head; "
                "choose another method for it"
            )
        length = checks.whole("length", options.pop("length", 5), least=1)
        words = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
        drawn = seeds.generator(seeds.derived(drawn_by(config), "prefix"))
        at = torch.randint(len(words), (length,), generator=drawn)
        told["tokens"] = torch.tensor(words)[at]
    return told


def _under_new_names(made: nn.Module, model: nn.Module, head: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that a wrapped copy has for modules of a model."""
    names = [name for name, _ in made.named_modules()]
    return tuple(next(n for n in names if n == h or n.endswith(f".{h}")) for h in head)


def _count(config: RunConfig, model: nn.Module) -> int | None:
    if config.ratio is not None:
        return max(1, round(config.ratio * num_parameters(model)))
    return config.count


def _budget(config: RunConfig) -> dict[str, Any]:
    found = {"ratio": config.ratio, "count": config.count}
    return {name: value for name, value in found.items() if value is not None}


def _refuse_budget(config: RunConfig) -> None:
    for name, value in _budget(config).items():
        raise UserError(
            f"expected no budget for {config.method}, which has its own size, got {name} {value:g};"
            " leave it out, in a grid of its own where other methods need one"
        )


def _parameters(make: Callable[..., Any]) -> tuple[str, ...]:
    """Return the options of a function that the configuration does not say itself."""
    said = ("model", "seed", "targets", "steps", "tokens")
    return tuple(name for name in inspect.signature(make).parameters if name not in said)


def _refuse_left(method: str, options: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in options:
        known(f"options of {method}", name, names)
