from . import baselines
from .adamw import AdamW
from .callbacks import DeltaCallback, MovingMaskCallback
from .finetuning import finetune
from .groups import parameter_groups
from .heads import fit_head
from .loop import Loop
from .lr_schedule import make_lr_schedule
from .moving import MovingMask
from .optimizer import make_optimizer
from .run import Run
from .schedule import Schedule
from .training import Training

__all__ = [
    "AdamW",
    "DeltaCallback",
    "Loop",
    "MovingMask",
    "MovingMaskCallback",
    "Run",
    "Schedule",
    "Training",
    "baselines",
    "finetune",
    "fit_head",
    "make_lr_schedule",
    "make_optimizer",
    "parameter_groups",
]
