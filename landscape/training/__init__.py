"""Fine-tuning: the run, its baselines, schedules, optimizers, checkpoints and callbacks."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
