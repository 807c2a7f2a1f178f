"""Other libraries on the same loss: PyHessian, curvlinops and hessian-eigenthings in one call.

Each function takes what `HessianOperator` takes and returns that library's own object for the
same matrix: the Hessian of the mean loss over the batches, weighted by loss terms, on the
trainable parameters. The model may be plain, LoRA or masked; its loss is computed in evaluation
mode with math attention, as the libraries differentiate twice and leave both to the user.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from landscape.curvature.derivatives.point import twice_differentiable
from landscape.errors import UserError
from landscape.losses import Loss, as_batches, as_loss, sum_and_count
from landscape.sources.carriers import optional
from landscape.subspace import attached_mask, is_attached, merge, trainable


def pyhessian(model: nn.Module, batches: Iterable[object], *, loss: Loss | None = None) -> Any:
    """Return PyHessian's ``hessian`` of a model: ``.eigenvalues()``, ``.trace()``, ``.density()``.

    With several batches PyHessian builds the graph anew for every product. It draws its vectors
    from torch's global generator, and uses the parameters' ``.grad``, which is None afterwards.
    Its default eigenvalue is usually low: it stops when two estimates agree, converged or not.

    Args:
        model, batches, loss: see `HessianOperator`.

    Raises:
        UserError: PyHessian is not installed, or nothing is trainable.

    Cost: one gradient and its graph with one batch; a forward a batch with several.
    Source: Yao et al. (2020), PyHessian.
    """
    library = optional("pyhessian")
    mean = _MeanLoss(model, batches, loss)
    data = [(which, which) for which in mean.data]
    one = {"data": data[0]} if len(data) == 1 else {"dataloader": data}
    on_gpu = mean.parameters_used[0].device.type == "cuda"
    found = library.hessian(mean, lambda value, _: value + mean.nothing(), **one, cuda=on_gpu)
    for parameter in mean.parameters_used:
        parameter.grad = None
    found.density = partial(_density, found.density)
    return found


def curvlinops(model: nn.Module, batches: Iterable[object], *, loss: Loss | None = None) -> Any:
    """Return curvlinops' ``HessianLinearOperator`` of a model.

    It differentiates by ``torch.func``, which cannot see through the sparse kernels of a masked
    model; so theta is scattered into the dense weights of a copy, by plain torch.

    Args:
        model, batches, loss: see `HessianOperator`.

    Raises:
        UserError: curvlinops is not installed, nothing is trainable, or a masked layer is
            quantised.

    Cost: with a mask a copy of the model. Source: Dangel, Mucsanyi et al. (2025), curvlinops.
    """
    library = optional("curvlinops")
    mean = _MeanLoss(model, batches, loss)
    function = _Scattered(mean) if is_attached(model) else mean
    data = [(which, which) for which in mean.data]
    return library.HessianLinearOperator(
        function, _Given(), mean.parameters_used, data, check_deterministic=False
    )


def eigenthings(model: nn.Module, batches: Iterable[object], *, loss: Loss | None = None) -> Any:
    """Return hessian-eigenthings' ``HessianOperator`` of a model, which its algorithms take.

    By itself that library gives every batch the same weight; here each is weighted by its terms.

    Args:
        model, batches, loss: see `HessianOperator`.

    Raises:
        UserError: hessian-eigenthings is not installed, or nothing is trainable.

    Cost: a forward a batch. Source: Golmant et al. (2018), hessian-eigenthings.
    """
    library = optional("hessian_eigenthings")
    mean = _MeanLoss(model, batches, loss)
    share = len(mean.data) / sum(len(which) for which in mean.data)

    def weighted(module: nn.Module, which: Tensor) -> Tensor:
        return share * len(which) * module(which) + mean.nothing()

    return library.HessianOperator(mean, mean.data, weighted)


class _MeanLoss(nn.Module):
    """The mean loss of a batch as a module of what all three libraries accept as its input.

    The input stands for a batch: a vector of as many entries as the batch has loss terms, each
    the batch's number. So a library that averages over rows averages over loss terms.
    """

    def __init__(self, model: nn.Module, batches: Iterable[object], loss: Loss | None) -> None:
        super().__init__()
        self.model = model
        self.batches = as_batches(batches)
        self.loss: Loss = as_loss(loss)
        self.parameters_used = list(trainable(model).values())
        """The trainable parameters, in the order of `trainable`."""
        if not self.parameters_used or not self.batches:
            raise UserError(
                f"expected trainable parameters and a batch, got {len(self.parameters_used)} "
                f"tensors and {len(self.batches)} batches; attach a mask, pass a list of batches"
            )
        several, device = len(self.batches) > 1, self.parameters_used[0].device
        counts = [self._count(batch) if several else 1 for batch in self.batches]
        self.data = [torch.full((c,), n, device=device) for n, c in enumerate(counts) if c]
        """What stands for each batch; a batch without a loss term is left out."""

    def train(self, mode: bool = True) -> _MeanLoss:
        """Leave the model in its mode, whatever a library asks for."""
        return self

    def forward(self, which: Tensor) -> Tensor:
        enabled = torch.is_grad_enabled()
        with twice_differentiable(self.model), torch.set_grad_enabled(enabled):
            value, count = sum_and_count(self.loss(self.model, self.batches[int(which[0])]))
            return value / count

    def nothing(self) -> Tensor:
        """Return zero as a function of all trainable parameters: PyHessian fails on unused ones."""
        return 0.0 * torch.stack([p.square().sum() for p in self.parameters_used]).sum()

    def _count(self, batch: object) -> int:
        with torch.no_grad(), twice_differentiable(self.model), torch.no_grad():
            return round(float(sum_and_count(self.loss(self.model, batch))[1]))


class _Scattered(nn.Module):
    """The loss of a masked model as a function of theta that is made of plain torch alone."""

    def __init__(self, mean: _MeanLoss) -> None:
        super().__init__()
        mask, thetas = attached_mask(mean.model), trainable(mean.model)
        plain = merge(copy.deepcopy(mean.model)).requires_grad_(False)
        self.theta = nn.ParameterList(thetas.values())
        self.start = [theta.detach().clone() for theta in thetas.values()]
        tensors = dict(plain.named_parameters(remove_duplicate=False))
        self.weights = {f"model.{name}": tensors[name] for name in thetas}
        whole = {name: torch.arange(tensors[name].numel()) for name in thetas.keys() - mask.indices}
        indices = whole | dict(mask.indices)
        self.indices = [indices[name].to(tensors[name].device) for name in thetas]
        self.inner = copy.copy(mean)
        self.inner._modules = {"model": plain}

    def forward(self, which: Tensor) -> Tensor:
        given = {}
        places = zip(self.weights.items(), self.theta, self.start, self.indices, strict=True)
        for (name, weight), theta, start, indices in places:
            change = (theta - start).reshape(-1).to(weight.dtype)
            flat = weight.flatten().index_add(0, indices, change)
            given[name] = flat.view(weight.shape)
        value: Tensor = functional_call(self.inner, given, (which,))
        return value


class _Given(nn.Module):
    """The loss function of a model whose output is its loss."""

    reduction = "mean"

    def forward(self, value: Tensor, _: Tensor) -> Tensor:
        return value


def _density(original: Any, *arguments: Any, **named: Any) -> Any:
    """Call PyHessian's density with the function that torch has dropped since."""
    library: Any = torch
    dropped = library.eig
    library.eig = _eig
    try:
        return original(*arguments, **named)
    finally:
        library.eig = dropped


def _eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues of a symmetric matrix as (real, imaginary) rows, and the vectors."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], dim=1), vectors
