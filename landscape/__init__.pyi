__version__: str

from . import (
    analysis,
    curvature,
    deltas,
    figures,
    kernels,
    losses,
    models,
    selection,
    sources,
    subspace,
    surface,
    tasks,
    training,
)
from .advisor import RateSuggestion, suggest_lr
from .curvature import (
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
from .curvature.tracking import SharpnessProbe
from .deltas.algebra import Delta
from .deltas.comparison import Overlap, compose, overlap
from .deltas.export import Export, export_delta
from .deltas.files import load_delta, read_delta, save_delta
from .deltas.heads import with_heads
from .deltas.peft import load_peft, read_peft, save_peft
from .deltas.switching import apply_delta, delta
from .distances import Distance, cosines, distance
from .errors import NotConvergedWarning, UserError
from .figures import plot_density, plot_surface, surface_page
from .masks import Mask, random_mask
from .models import load_model, tiny_model, tiny_tokenizer
from .models.zero_shot import zero_shot_classifier
from .selection import select_mask, structured_mask
from .subspace import attach, detach, merge, trainable
from .surface import (
    PrincipalDirections,
    Surface,
    Trajectory,
    displacement,
    interpolate,
    random_directions,
    surface_1d,
    surface_2d,
)
from .sweep.config import RunConfig
from .sweep.driver import run_grid
from .sweep.frame import runs
from .sweep.grid import Grid
from .sweep.rates import Rates
from .sweep.store import RunStore
from .tasks import (
    Completion,
    Example,
    Generation,
    ImageExample,
    TaggedExample,
    Task,
    TextExample,
    examples_from,
    load_task,
    task_from,
)
from .tasks.batches import make_batches
from .tasks.evaluation import evaluate
from .tasks.outputs.scoring import task_loss, task_split
from .tasks.predicting import Predicted, predict
from .tasks.protocol import reference_settings
from .training import baselines
from .training.adamw import AdamW
from .training.callbacks import DeltaCallback, MovingMaskCallback
from .training.finetuning import finetune
from .training.heads import fit_head
from .training.moving import MovingMask
from .training.packed import Lane, finetune_packed, lane_of
from .training.run import Run
from .training.schedule import Schedule
from .training.training import Training

__all__ = [
    "AdamW",
    "Completion",
    "Delta",
    "DeltaCallback",
    "Distance",
    "EigenResult",
    "Example",
    "Export",
    "FisherOperator",
    "GGNOperator",
    "Generation",
    "Grid",
    "HessianOperator",
    "ImageExample",
    "Lane",
    "LinearOperator",
    "Mask",
    "MatrixOperator",
    "MovingMask",
    "MovingMaskCallback",
    "NotConvergedWarning",
    "Overlap",
    "Predicted",
    "PrincipalDirections",
    "RateSuggestion",
    "Rates",
    "Run",
    "RunConfig",
    "RunStore",
    "Schedule",
    "SharpnessProbe",
    "Surface",
    "TaggedExample",
    "Task",
    "TextExample",
    "Training",
    "Trajectory",
    "UserError",
    "analysis",
    "apply_delta",
    "attach",
    "baselines",
    "compose",
    "cosines",
    "curvature",
    "delta",
    "deltas",
    "detach",
    "displacement",
    "distance",
    "evaluate",
    "exact_matrix",
    "exact_spectrum",
    "examples_from",
    "export_delta",
    "figures",
    "finetune",
    "finetune_packed",
    "fit_head",
    "health_check",
    "interpolate",
    "kernels",
    "lanczos",
    "lane_of",
    "load_delta",
    "load_model",
    "load_peft",
    "load_task",
    "losses",
    "make_batches",
    "merge",
    "micro_batches",
    "models",
    "module_blocks",
    "norm_bound",
    "overlap",
    "plot_density",
    "plot_surface",
    "power_iteration",
    "preconditioned",
    "predict",
    "random_directions",
    "random_mask",
    "read_delta",
    "read_peft",
    "reference_settings",
    "run_grid",
    "runs",
    "save_delta",
    "save_peft",
    "select_mask",
    "selection",
    "sources",
    "spectral_density",
    "stability_threshold",
    "structured_mask",
    "subspace",
    "suggest_lr",
    "surface",
    "surface_1d",
    "surface_2d",
    "surface_page",
    "task_from",
    "task_loss",
    "task_split",
    "tasks",
    "tiny_model",
    "tiny_tokenizer",
    "trace",
    "trainable",
    "training",
    "with_heads",
    "zero_shot_classifier",
]
