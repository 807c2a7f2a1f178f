"""Heads of classifiers, fitted before anything else is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.batches import Batch
from landscape.tasks.scoring import task_loss


def fit_head(model: Any, batches: Sequence[Batch], *, penalty: float = 1e-2) -> None:
    """Fit a classifier's last layer, in place, by penalised logistic regression on its inputs.

    Minimises the mean cross-entropy plus penalty / 2 times the squared norm of the weights, by
    L-BFGS: a linear probe, from which fine-tuning of the body can start.

    Args:
        model: a sequence classifier of transformers whose last layer is `model.classifier`.
        batches: from `make_batches`, with the labels.
        penalty: at least 0.

    Raises:
        UserError: the model has no such layer.

    Cost: one forward of the batches. Source: Kumar et al. 2022 (linear probing, then fine-tuning).
    """
    if not isinstance(getattr(model, "classifier", None), torch.nn.Linear):
        raise UserError(
            "expected a classifier whose last layer is model.classifier, got "
            f"{type(model).__name__}; load an encoder with num_labels="
        )
    checks.several("batches", batches, "batches")
    if not batches:
        checks.refuse("batches", "at least one batch", "none", "make some with make_batches")
    penalty = checks.number("penalty", penalty, least=0)
    head, inputs = model.classifier, []
    hook = head.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    with torch.no_grad():
        for batch in batches:
            task_loss(model, batch)
    hook.remove()
    x, labels = torch.cat(inputs), torch.cat([batch["labels"] for batch in batches])
    probe = torch.nn.Linear(head.in_features, head.out_features).to(x)
    torch.nn.init.zeros_(probe.weight)
    torch.nn.init.zeros_(probe.bias)
    optimizer = torch.optim.LBFGS(
        probe.parameters(), max_iter=500, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def objective() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(probe(x), labels)
        total = loss + penalty / 2 * probe.weight.square().sum()
        total.backward()
        return float(total.detach())

    optimizer.step(objective)
    head.load_state_dict(probe.state_dict())
