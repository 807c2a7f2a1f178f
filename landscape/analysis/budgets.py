"""What each further budget buys: scores against updated weights, checkpoints along the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape.deltas.files import load_delta, save_delta
from landscape.errors import UserError
from landscape.subspace import attached_mask, detach, is_attached
from landscape.tasks import Task
from landscape.tasks.evaluation import evaluate
from landscape.training.run import Run

Row = dict[str, Any]


def score_against_updated(run: Run) -> list[Row]:
    """List the dev scores of a run against how many weights it had updated.

    Returns:
        One row an evaluation: ``step``; ``updated``, weights that the step updated; ``updates``,
        updates of single weights in all steps so far; the evaluation's scores.

    Source: Agarwal et al. 2024, figure 5.
    """
    fixed = run.config["trainable"]
    counts = [int(record.get("updated", fixed)) for record in run.history]
    return [
        {"updated": counts[int(scores["step"]) - 1], "updates": sum(counts[: int(scores["step"])]),
         **scores}
        for scores in run.evaluations
    ]  # fmt: skip


class BudgetProbe:
    """Save a delta each time a growing mask reaches one of several budgets: ``probes=[probe]``.

    One run with the schedule "increment" gives a model for every budget below its own. A file
    that is there already is kept, so that a run which goes on after a kill saves the rest.

    Args:
        folder: of the deltas, ``<budget>.safetensors``.
        budgets: counts of weights, each at least 1.

    Raises:
        UserError: no budget, or one below 1.

    Source: Agarwal et al. 2024, section 6 (intermediate checkpoints).
    """

    def __init__(self, folder: str | Path, budgets: Sequence[int]) -> None:
        if not budgets or min(budgets) < 1:
            raise UserError(
                f"expected budgets of at least 1 weight, got {list(budgets)}; give some, such as "
                "[100, 1000]"
            )
        self.paths = {budget: Path(folder) / f"{budget}.safetensors" for budget in sorted(budgets)}

    def __call__(self, model: nn.Module, record: dict[str, Any]) -> None:
        """Save the model's change for every budget that it has reached and that has no file."""
        count = attached_mask(model).count
        for budget, path in self.paths.items():
            if count >= budget and not path.exists():
                save_delta(model, path)


def score_checkpoints(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    paths: Sequence[str | Path],
    *,
    split: str = "dev",
) -> list[Row]:
    """Score delta files one after another, switching between them in O(k).

    Args:
        model: their base model, without a mask; it is left as it was.
        tokenizer, task, split: as for `evaluate`.
        paths: delta files.

    Returns:
        One row a file: ``path``, ``count``, the task's scores.

    Raises:
        UserError: the model has a mask, or a file does not fit.
    """
    if is_attached(model):
        raise UserError("expected a model without a mask, got one that has one; detach it")
    rows = []
    for path in paths:
        count = load_delta(model, path).mask.count
        try:
            rows.append(
                {"path": str(path), "count": count, **evaluate(model, tokenizer, task, split=split)}
            )
        finally:
            detach(model)
    return rows
