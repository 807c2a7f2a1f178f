"""Callbacks of a transformers trainer: the probes of `finetune`, and small checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback

from landscape.deltas.files import save_delta
from landscape.runs import write_whole
from landscape.subspace import theta_state


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

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Start the probe."""
        self._probe.start(given["optimizer"])

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Let the probe look at the model."""
        record: dict[str, Any] = {"step": state.global_step}
        self._probe(given["model"], record)
        if len(record) > 1:
            state.log_history.append(record)


class DeltaCallback(TrainerCallback):
    """Keep theta and its mask alone in a trainer's checkpoints: k numbers instead of the model.

    In each checkpoint folder the model's files give way to ``delta.safetensors``, which
    `landscape.load_delta` reads, and to a ``model.safetensors`` with theta and its indices, from
    which ``train(resume_from_checkpoint=folder)`` and ``load_best_model_at_end`` go on with the
    same mask attached. ``config.json`` goes too: the folder is no model by itself.

    Cost: what the trainer takes to write the model, which it does first.
    """

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Replace the model's files in the checkpoint that was just written."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
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
