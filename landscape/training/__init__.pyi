from . import baselines
from .finetuning import Run, finetune
from .heads import fit_head
from .optimizer import AdamW
from .schedule import Schedule

__all__ = ["AdamW", "Run", "Schedule", "baselines", "finetune", "fit_head"]
