"""Masked fine-tuning of pretrained models, and the loss landscape inside the mask."""

from landscape import baselines
from landscape.adapters import load_delta, read_delta, save_delta
from landscape.curvature import (
    EigenResult,
    HessianOperator,
    health_check,
    lanczos,
    power_iteration,
)
from landscape.deltas import Delta, Overlap, apply_delta, compose, delta, overlap
from landscape.distance import Distance, distance
from landscape.errors import NotConvergedWarning, UserError
from landscape.evaluate import evaluate
from landscape.masks import Mask, random_mask
from landscape.models import load_model, tiny_model, tiny_tokenizer
from landscape.optimizer import AdamW
from landscape.schedule import Schedule
from landscape.scoring import task_loss
from landscape.selection import select_mask, structured_mask
from landscape.subspace import attach, detach, merge, trainable
from landscape.tasks import Example, Task, load_task
from landscape.train import Run, finetune

__all__ = [
    "AdamW",
    "Delta",
    "Distance",
    "EigenResult",
    "Example",
    "HessianOperator",
    "Mask",
    "NotConvergedWarning",
    "Overlap",
    "Run",
    "Schedule",
    "Task",
    "UserError",
    "apply_delta",
    "attach",
    "baselines",
    "compose",
    "delta",
    "detach",
    "distance",
    "evaluate",
    "finetune",
    "health_check",
    "lanczos",
    "load_delta",
    "load_model",
    "load_task",
    "merge",
    "overlap",
    "power_iteration",
    "random_mask",
    "read_delta",
    "save_delta",
    "select_mask",
    "structured_mask",
    "task_loss",
    "tiny_model",
    "tiny_tokenizer",
    "trainable",
]
