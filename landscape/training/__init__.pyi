from . import baselines
from .callbacks import MovingMaskCallback
from .finetuning import Run, finetune
from .heads import fit_head
from .moving import MovingMask
from .optimizer import AdamW
from .schedule import Schedule

__all__ = [
    "AdamW",
    "MovingMask",
    "MovingMaskCallback",
    "Run",
    "Schedule",
    "baselines",
    "finetune",
    "fit_head",
]
