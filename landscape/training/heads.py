"""Heads of classifiers, fitted before anything else is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError
from landscape.losses import default_split
from landscape.models.kinds import kind
from landscape.models.modes import eval_mode
from landscape.tasks.outputs.labelled import IGNORED


def fit_head(
    model: nn.Module, batches: Sequence[Mapping[str, Any]], *, penalty: float = 1e-2
) -> None:
    """Fit a classifier's last layer, in place, by penalised regression on its inputs.

    Minimises the mean cross-entropy, or squared error of numbers, plus penalty / 2 times the
    squared norm of the weights, by L-BFGS: a linear probe, from which fine-tuning of the body can
    start. The layer is found by what it does: the last linear one that has an output for each label
    and whose outputs, at one token of each example or summed over several, are the logits; of a
    classifier of tokens, at each of them. It may have any name, or no bias.

    Args:
        model: a classifier of transformers, of sequences, tokens or images, or a head with one
            output for numbers; in eval mode meanwhile.
        batches: from `make_batches`, or dicts of the model's arguments with ``labels``.
        penalty: at least 0.

    Raises:
        UserError: no batch, or a model whose logits are no linear layer's outputs.

    Cost: one forward of the batches, and one more of the first. Source: Kumar et al. 2022 (linear
    probing, then fine-tuning).
    """
    checks.model(model)
    checks.several("batches", batches, "batches")
    if not batches:
        checks.refuse("batches", "at least one batch", "none", "make some with make_batches")
    penalty = checks.number("penalty", penalty, least=0)
    with eval_mode(model):
        head = _head(model, batches[0])
        found = [_inputs(model, head, batch) for batch in batches]
    x, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # L-BFGS in half precision ends early
    probe = nn.Linear(head.in_features, head.out_features, bias=head.bias is not None).to(x)
    for p in probe.parameters():
        nn.init.zeros_(p)
    optimizer = torch.optim.LBFGS(
        probe.parameters(), max_iter=500, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    numbers = labels.is_floating_point()

    def objective() -> float:
        optimizer.zero_grad()
        z = probe(x)
        loss = F.mse_loss(z[:, 0], labels.to(z)) if numbers else F.cross_entropy(z, labels)
        total = loss + penalty / 2 * probe.weight.square().sum()
        total.backward()
        return float(total.detach())

    with torch.enable_grad():
        optimizer.step(objective)
    head.load_state_dict(probe.state_dict())


def _head(model: nn.Module, batch: Mapping[str, Any]) -> nn.Linear:
    """Return the last linear layer that a forward calls and that has an output for each label."""
    called: list[nn.Linear] = []

    def note(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Linear)
        called.append(module)

    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    handles = [module.register_forward_hook(note) for module in linear]
    try:
        with torch.no_grad():
            logits, _ = default_split(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    labels = getattr(getattr(model, "config", None), "num_labels", None)
    tokens = kind(model) == "token classifier"
    if logits.dim() == (3 if tokens else 2) and logits.shape[-1] == labels:
        for module in reversed(called):
            if module.out_features == labels:
                return module
    raise _no_head(model, f"logits of shape {tuple(logits.shape)} from no linear layer")


def _inputs(model: nn.Module, head: nn.Linear, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return what the head sees of each label's example or token, (n, d), and the labels, (n,).

    The logits are a sum of its outputs over tokens, w_nt o_nt, as a rule with one w_nt of 1: the
    derivative of the first label's logit by o_nt is w_nt. Those of a classifier of tokens are its
    outputs.
    """
    seen: list[tuple[Tensor, Tensor]] = []

    def stand_in(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        torch.set_grad_enabled(True)  # from here on, until the block below ends
        seen.append((args[0].detach(), output.detach().requires_grad_()))
        return seen[-1][1]

    handle = head.register_forward_hook(stand_in)
    try:
        with torch.no_grad():
            logits, _ = default_split(model, batch)
            gradient = torch.autograd.grad(logits[..., 0].sum(), seen[-1][1], allow_unused=True)[0]
    finally:
        handle.remove()
    (x, output), count = seen[-1], len(logits)
    if gradient is None or len(output) != count or len(seen) != 1:
        raise _no_head(model, "logits that do not follow the last linear layer's outputs")
    labels: Tensor = batch["labels"].to(logits.device)
    if logits.dim() == 3:
        if output.shape != logits.shape or not torch.allclose(output.to(logits.dtype), logits):
            raise _no_head(model, "logits of tokens that are not the last linear layer's outputs")
        asked = labels != IGNORED
        return x[asked], labels[asked]
    weights = gradient.reshape(count, -1, logits.shape[-1])[..., 0]
    tokens, rows = (t.detach().reshape(count, -1, t.shape[-1]) for t in (output, x))
    sums = torch.einsum("nt,ntc->nc", weights, tokens).to(logits.dtype)
    if not torch.allclose(sums, logits.detach(), rtol=1e-4, atol=1e-5):
        raise _no_head(model, "logits that are no sum of the last linear layer's outputs")
    return torch.einsum("nt,ntd->nd", weights, rows), labels


def _no_head(model: nn.Module, found: str) -> UserError:
    return UserError(
        f"expected a classifier whose logits are the outputs of a linear layer, got "
        f"{type(model).__name__} with {found}; load a sequence classifier with num_labels=, or fit "
        "its head yourself"
    )
