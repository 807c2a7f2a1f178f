"""Masked fine-tuning of pretrained models, and the loss landscape inside the mask."""

import os as _os

# GNU OpenMP's threads wait for each other by spinning, 300,000 turns at every barrier: beside any
# other busy process a step takes ten to twenty times as long. It reads this when torch is loaded,
# so it is too late where torch was imported first; a value that the user has set stays.
_os.environ.setdefault("GOMP_SPINCOUNT", "2000")

from landscape import analysis, baselines
from landscape.adapters import load_delta, read_delta, save_delta, with_heads
from landscape.advisor import RateSuggestion, suggest_lr
from landscape.batches import make_batches
from landscape.curvature import (
    EigenResult,
    FisherOperator,
    GGNOperator,
    HessianOperator,
    LinearOperator,
    MatrixOperator,
    exact_matrix,
    exact_spectrum,
    health_check,
    lanczos,
    micro_batches,
    module_blocks,
    norm_bound,
    power_iteration,
    preconditioned,
    spectral_density,
    stability_threshold,
    trace,
)
from landscape.deltas import Delta, Overlap, apply_delta, compose, delta, overlap
from landscape.distance import Distance, cosines, distance
from landscape.errors import NotConvergedWarning, UserError
from landscape.evaluate import evaluate
from landscape.heads import fit_head
from landscape.masks import Mask, random_mask
from landscape.models import load_model, tiny_model, tiny_tokenizer
from landscape.optimizer import AdamW
from landscape.peft_adapters import load_peft, read_peft, save_peft
from landscape.pictures import plot_density, plot_surface
from landscape.schedule import Schedule
from landscape.scoring import task_loss, task_split
from landscape.selection import select_mask, structured_mask
from landscape.subspace import attach, detach, merge, trainable
from landscape.surface import (
    PrincipalDirections,
    Surface,
    Trajectory,
    displacement,
    interpolate,
    random_directions,
    surface_1d,
    surface_2d,
)
from landscape.tasks import Example, Task, load_task
from landscape.tracking import SharpnessProbe
from landscape.train import Run, finetune

__all__ = [
    "AdamW",
    "Delta",
    "Distance",
    "EigenResult",
    "Example",
    "FisherOperator",
    "GGNOperator",
    "HessianOperator",
    "LinearOperator",
    "Mask",
    "MatrixOperator",
    "NotConvergedWarning",
    "Overlap",
    "PrincipalDirections",
    "RateSuggestion",
    "Run",
    "Schedule",
    "SharpnessProbe",
    "Surface",
    "Task",
    "Trajectory",
    "UserError",
    "analysis",
    "apply_delta",
    "attach",
    "baselines",
    "compose",
    "cosines",
    "delta",
    "detach",
    "displacement",
    "distance",
    "evaluate",
    "exact_matrix",
    "exact_spectrum",
    "finetune",
    "fit_head",
    "health_check",
    "interpolate",
    "lanczos",
    "load_delta",
    "load_model",
    "load_peft",
    "load_task",
    "make_batches",
    "merge",
    "micro_batches",
    "module_blocks",
    "norm_bound",
    "overlap",
    "plot_density",
    "plot_surface",
    "power_iteration",
    "preconditioned",
    "random_directions",
    "random_mask",
    "read_delta",
    "read_peft",
    "save_delta",
    "save_peft",
    "select_mask",
    "spectral_density",
    "stability_threshold",
    "structured_mask",
    "suggest_lr",
    "surface_1d",
    "surface_2d",
    "task_loss",
    "task_split",
    "tiny_model",
    "tiny_tokenizer",
    "trace",
    "trainable",
    "with_heads",
]
