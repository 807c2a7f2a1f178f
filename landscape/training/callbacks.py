"""Callbacks of a transformers trainer: probes, small checkpoints, and masks that move."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState

from landscape import checks
from landscape.deltas.files import save_delta
from landscape.errors import UserError
from landscape.folders import write_whole
from landscape.subspace import theta_state, trainable
from landscape.subspace.sites import PREFIX
from landscape.tensorfile import read_tensors
from landscape.training.moving import MovingMask
from landscape.training.schedule import Schedule

if TYPE_CHECKING:
    from transformers import TrainingArguments


class Probe(Protocol):
    """What `finetune` calls: `start` once, then the probe itself after every step."""

    def start(self, optimizer: Optimizer) -> None:
        """Begin a run."""

    def __call__(self, model: nn.Module, record: dict[str, Any]) -> None:
        """Look at the model after a step; what it finds goes into the step's record."""


class ProbeCallback(TrainerCallback):
    """Forward the events of a trainer to a probe, and what it finds to ``state.log_history``."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Start the probe."""
        self._probe.start(given["optimizer"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Let the probe look at the model."""
        record: dict[str, Any] = {"step": state.global_step}
        self._probe(given["model"], record)
        if len(record) > 1:
            state.log_history.append(record)


class DeltaCallback(TrainerCallback):
    """Keep theta and its mask alone in a trainer's checkpoints: O(k) instead of the model.

    In each checkpoint folder the model's files give way to ``delta.safetensors``, which
    `landscape.load_delta` reads, and to a ``model.safetensors`` with theta and its indices, from
    which ``train(resume_from_checkpoint=folder)`` and ``load_best_model_at_end`` go on with the
    same mask attached. ``config.json`` goes too: the folder is no model by itself.

    Cost: what the trainer takes to write the model, which it does first.
    """

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Replace the model's files in the checkpoint that was just written."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        if not args.should_save or not folder.is_dir():
            return
        theta = theta_state(given["model"])
        save_delta(given["model"], folder / "delta.safetensors")
        for pattern in ("model*.safetensors*", "pytorch_model*.bin*", "*config.json"):
            for file in folder.glob(pattern):
                file.unlink()
        write_whole(
            folder / "model.safetensors",
            lambda path: save_file(theta, path, metadata={"format": "pt"}),
        )


class MovingMaskCallback(TrainerCallback):
    """Train a model under a schedule with a transformers trainer.

    ::

        callback = MovingMaskCallback(schedule, model)
        optimizer = AdamW(trainable(model).values(), lr=1e-3)
        args = TrainingArguments(..., max_grad_norm=0)
        Trainer(model, args, callbacks=[callback], optimizers=(optimizer, None)).train()

    The mask is selected after the backwards of a step, those of accumulated gradients included,
    and before its update. A trainer clips before that, so its own clipping is refused and this
    does it: over all trainable parameters, by their Euclidean norm.

    Args:
        schedule: the schedule; where it names no number of steps, the trainer's ``max_steps``.
        model: a model without a mask; an empty one is attached to it.
        max_gradient_norm: clipping threshold, above 0; ``math.inf`` for none.

    Raises:
        UserError: as `MovingMask`; and when training begins, a trainer with another optimizer, its
            own clipping, several processes or scaled (float16) gradients.
    """

    def __init__(
        self, schedule: Schedule, model: nn.Module, *, max_gradient_norm: float = 1.0
    ) -> None:
        checks.instance("schedule", schedule, Schedule, "make one")
        self._max_norm = checks.number(
            "max_gradient_norm", max_gradient_norm, above=0, infinite=True
        )
        self.moving = MovingMask(schedule, model)
        self.moving.attach()
        self._model = model
        self._step = ExitStack()

    def go_to(self, checkpoint: str | Path) -> None:
        """Move the mask to a checkpoint's, before ``train(resume_from_checkpoint=checkpoint)``.

        Args:
            checkpoint: a trainer's folder, with ``model.safetensors``.

        Raises:
            UserError: it is missing or damaged, or has no mask of these tensors.
        """
        file = Path(checks.path("checkpoint", checkpoint)) / "model.safetensors"
        stored = read_tensors(file, "a trainer's checkpoint").tensors
        wanted = {}
        for name in self.moving.indices():
            path, _, leaf = name.rpartition(".")
            key = f"{path}.{PREFIX}{leaf}_indices" if path else f"{PREFIX}{leaf}_indices"
            if key not in stored:
                raise UserError(
                    f"expected a checkpoint of a model with a mask of {name}, got {file} without "
                    f"{key}; give a folder that a trainer with this schedule wrote"
                )
            wanted[name] = stored[key]
        self.moving.go_to(wanted)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Refuse a trainer that a moving mask cannot follow."""
        if args.max_grad_norm:
            raise UserError(
                f"expected max_grad_norm=0 in the trainer, which clips before weights are "
                f"selected, got {args.max_grad_norm}; give MovingMaskCallback(max_gradient_norm=)"
            )
        if args.fp16 or args.world_size > 1 or args.n_gpu > 1:
            found = "float16" if args.fp16 else f"{max(args.world_size, args.n_gpu)} processes"
            raise UserError(
                f"expected one process and gradients as they are for a moving mask, got {found}; "
                "train in bfloat16 or float32, on one device"
            )
        if self.moving.steps is None:
            self.moving.steps = state.max_steps

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Ask for whole gradients where this step selects weights."""
        self._step.close()  # of a step that an error has ended
        context = self.moving.step(
            state.global_step, given["optimizer"], backwards=args.gradient_accumulation_steps
        )
        self._step.enter_context(context)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Select and move, then clip."""
        self._step.close()
        torch.nn.utils.clip_grad_norm_(trainable(self._model).values(), self._max_norm)
