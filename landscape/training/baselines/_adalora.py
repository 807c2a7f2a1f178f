"""AdaLoRA: low-rank updates whose ranks are shared out during training, made by peft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.models.targets import AUTO
from landscape.training.baselines.wrapping import peft_package, target_layers, wrapped

#: importances as peft's rank allocator names them: of the last step, averaged, and their spread
_AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def adalora(
    model: nn.Module,
    *,
    steps: int,
    rank: int = 8,
    first_rank: int = 12,
    alpha: float = 16,
    targets: str | Sequence[str] = AUTO,
    seed: int = 0,
) -> nn.Module:
    """Add updates P E Q, E diagonal, whose ranks are shared out during training.

    `finetune` adds the orthogonality penalty and shares out the ranks after each step; the first
    tenth of the steps keeps all ranks, the last third keeps them fixed.

    Args:
        model: the model to wrap; it is changed in place.
        steps: of the whole run.
        rank: average rank at the end.
        first_rank: at the start, above `rank`.
        alpha, targets, seed: as for `lora`.

    Returns:
        peft's model around it.

    Raises:
        UserError: peft is missing, or targets match nothing.

    Source: Zhang et al. 2023 (AdaLoRA).
    """
    rank = checks.whole("rank", rank, least=1)
    first_rank = checks.whole("first_rank", first_rank, least=rank)
    config = peft_package().AdaLoraConfig(
        target_r=rank, init_r=first_rank, lora_alpha=alpha, total_step=steps, tinit=steps // 10,
        tfinal=steps // 3, **target_layers(model, targets),
    )  # fmt: skip
    return wrapped(model, config, seed)


class AdaLora:
    """What training does for AdaLoRA: a penalty, and ranks that move after each step.

    Its state lies in peft's rank allocator: three averages a trainable parameter, and the ranks
    that are kept.

    Args:
        model: a model of peft with an AdaLoRA configuration.
        config: that configuration, as `config_of` finds it.
    """

    def __init__(self, model: nn.Module, config: object) -> None:
        self._model: Any = model
        self._config: Any = config

    @staticmethod
    def config_of(model: nn.Module) -> Any:
        """Return the AdaLoRA configuration of a model of peft, None where it has none."""
        configs = getattr(model, "peft_config", {}).values()
        return next((c for c in configs if hasattr(c, "orth_reg_weight")), None)

    def penalty(self) -> Tensor:
        """Return the orthogonality penalty, a scalar.

        weight * mean of ||P^T P - I||_F and ||Q Q^T - I||_F over all factors P and Q
        """
        terms = [
            torch.linalg.matrix_norm(gram - torch.eye(gram.shape[0], device=gram.device))
            for name, p in self._model.named_parameters()
            for gram in ([p @ p.T] if "lora_A" in name else [p.T @ p] if "lora_B" in name else [])
        ]
        weight: float = self._config.orth_reg_weight
        return weight * torch.stack(terms).mean()

    def step(self, step: int) -> None:
        """Average the importances of update number `step`, and share out the ranks by them."""
        self._model.base_model.update_and_allocate(step)

    def state_dict(self) -> dict[str, Tensor]:
        """Copy the averages, one number a trainable one, and the ranks that are kept (booleans)."""
        allocator = self._model.base_model.rankallocator
        averages = {
            f"{average}/{name}": value.clone()
            for average in _AVERAGES
            for name, value in getattr(allocator, average).items()
        }
        kept = self._config.rank_pattern or {}
        return averages | {f"ranks/{name}": torch.tensor(ranks) for name, ranks in kept.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a state: the next step is then that of a run that was never stopped.

        Args:
            state: what `state_dict` returned, of a model that was made as this one.
        """
        base = self._model.base_model
        devices = {name: p.device for name, p in base.model.named_parameters()}
        base.rankallocator.reset_ipt()
        ranks = {}
        for key, value in state.items():
            kind, _, name = key.partition("/")
            if kind == "ranks":
                ranks[name] = value.tolist()
            else:
                getattr(base.rankallocator, kind)[name] = value.to(devices[name])
        self._config.rank_pattern = ranks or None
