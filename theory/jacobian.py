"""Real features: a network as the linear model of its own weights, by per-example gradients."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from landscape import checks
from landscape.curvature.derivatives.point import evaluating
from landscape.errors import UserError
from landscape.losses import Split, as_split
from landscape.losses.given import halves
from landscape.masks import Mask, random_mask
from landscape.subspace import attach, detach, trainable
from landscape.tasks.batches import make_batches
from theory.distributions import JACOBIAN
from theory.features import Array, Features, Indices, from_array

OUTPUTS = 256  # most outputs of a batch: candidates or classes, not a vocabulary
NO_CURVATURE = 1e-12  # eigenvalues of a loss in its outputs, over the largest, that count as 0


@dataclass(frozen=True, eq=False)
class Linearised:
    """Hold a network's linear model in the weights of its target tensors.

    With J_i the Jacobian of example i's outputs z_i, and A_i' A_i the Hessian of its loss in z_i,
    X has the rows of all A_i J_i, scaled so that M X' X M / n is the Gauss-Newton matrix of the
    network's mean loss inside the mask M, at its present weights, and -M X' y / n its gradient.

    Args:
        features: X, n rows by d weights.
        y: the step of each row that minimises its loss, to second order, (n,).
        outputs: z of each example, float64.
        shapes: tensor -> shape; the weights of all tensors, flattened and one after the other, are
            the features.
    """

    features: Features
    y: Array
    outputs: tuple[Array, ...]
    shapes: Mapping[str, tuple[int, ...]]

    def indices(self, mask: Mask) -> Indices:
        """Return which features a mask of the network keeps, sorted.

        Raises:
            UserError: a mask of other tensors.
        """
        if dict(mask.shapes) != dict(self.shapes):
            raise UserError(
                f"expected a mask of the {len(self.shapes)} tensors that were linearised, got one "
                f"of {len(mask.shapes)} tensors; draw it with the same targets"
            )
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        parts = [start + mask.indices[name].cpu().numpy()
                 for name, start in zip(self.shapes, starts, strict=True)]  # fmt: skip
        return np.concatenate(parts)


def linearise(
    model: nn.Module,
    batches: Sequence[object],
    *,
    targets: str | Sequence[str] = "auto",
    split: Split | None = None,
) -> Linearised:
    """Take the per-example gradients of a network's outputs as features.

    A softmax over c classes with probabilities pi has the Hessian D - pi pi' in its logits, D the
    diagonal of pi: X has D^(1/2) (I - 1 pi') J, in c - 1 rows an example. For two classes that is
    one row, sqrt(pi_0 pi_1) times the gradient of z_1 - z_0, and y is its label's
    (1 - pi) / sqrt(pi (1 - pi)), negative for class 0.

    Args:
        model: without a mask; measured in evaluation mode, and left as it was.
        batches: of one example each, as ``make_batches(examples, tokenizer, 1)``; the rows of one
            of several examples may mix them.
        targets: patterns of the maskable tensors, as of `landscape.random_mask`.
        split: (model, batch) -> (outputs, loss of them), a loss that is convex in them; default
            `landscape.task_split`.

    Raises:
        UserError: a loss that is not convex in at most 256 outputs or has no curvature there, or
            too little room for X; the sentence says how many rows fit.

    Cost: n gradients, and n d numbers of the network's precision in a file without a name (4 bytes
    each: 0.2 GiB for 32 rows of the 1.8 million of minilm-l6, 0.8 GiB for 16 of the 13 million of
    smollm2-135m), which blocks are read from.
    Source: Jacot et al. (2018), neural tangent kernel; Schraudolph (2002), Gauss-Newton.
    """
    checks.model(model)
    checks.several("batches", batches, "batches")
    objective = as_split(split, None)
    with evaluating(model), _whole(model, targets) as (mask, parameters):
        shapes = dict(mask.shapes)
        curved = [_curved(model, batch, objective) for batch in batches]
        n, total = sum(len(one.factor) for one in curved), sum(one.count for one in curved)
        scale = math.sqrt(n / total)
        x = _room(n, mask.size, np.dtype(str(parameters[0].dtype).removeprefix("torch.")))
        row = 0
        for batch, one in zip(batches, curved, strict=True):
            outputs, _ = halves(objective(model, batch))
            for weights in one.factor:
                given = torch.from_numpy(scale * weights).to(outputs).reshape(outputs.shape)
                last = weights is one.factor[-1]
                parts = torch.autograd.grad(
                    outputs, parameters, given, retain_graph=not last, allow_unused=True
                )
                x[row] = _flat(parts, parameters)
                row += 1
    y = scale * np.concatenate([one.step for one in curved])
    return Linearised(from_array(x, JACOBIAN), y, tuple(one.outputs for one in curved), shapes)


def jacobian_features(
    n: int = 16, *, seed: int = 0, model: str = "minilm-l6", task: str = "rotten_tomatoes"
) -> Features:
    """Take X (n, d) from a packaged model: the gradients of its outputs on n examples.

    See `linearise`; d is 1,769,472 for minilm-l6 and 13,271,040 for smollm2-135m. An encoder's head
    is fitted to the same examples, as `landscape.fit_head` does.

    Args:
        n: number of examples, at least 1; of two classes, hence rows.
        seed: of the choice of examples.
        model: name or path, as for `landscape.load_model`.
        task: name, as for `landscape.load_task`.

    Raises:
        UserError: n is below 1, or the model or task cannot be loaded or linearised.
    """
    from landscape.sweep.config import RunConfig
    from landscape.sweep.preparing import prepared

    n = checks.whole("n", n, least=1)
    config = RunConfig(model=model, task=task, method="none", seed=seed,
                       num_train=max(2, n), num_dev=1, num_test=1)  # fmt: skip
    with prepared(config) as made:
        examples = made.task.train[:n]
        batches = make_batches(examples, made.tokenizer, 1, loss=made.task.loss)
        return linearise(made.model, batches).features


@dataclass(frozen=True)
class _Curved:
    """Hold A with A' A the Hessian of a batch's loss in its outputs, and y with A' y = -slope."""

    outputs: Array
    factor: Array
    step: Array
    count: float


def _curved(model: nn.Module, batch: object, objective: Split) -> _Curved:
    with torch.no_grad():
        outputs, loss = halves(objective(model, batch))
    z = outputs.detach().double().requires_grad_()
    if z.numel() > OUTPUTS:
        raise UserError(
            f"expected a loss of at most {OUTPUTS} outputs a batch, candidates or classes, got "
            f"{z.numel()}; give batches of one example, or another task"
        )
    terms, count = loss(z)
    (slope,) = torch.autograd.grad(terms.sum(), z, create_graph=True)
    rows = [
        torch.autograd.grad(entry, z, retain_graph=True)[0].flatten() for entry in slope.flatten()
    ]
    values, vectors = np.linalg.eigh(torch.stack(rows).numpy())
    kept = values > NO_CURVATURE * max(values[-1], 0.0)
    if values[0] < -1e-9 * abs(values[-1]) or not kept.any():
        raise UserError(
            "expected a loss that is convex in the outputs and curved, got one whose Hessian there "
            f"has the eigenvalues {values[0]:.3g} to {values[-1]:.3g}; give another split"
        )
    signs = np.where(vectors[-1, kept] < 0, -1.0, 1.0)
    factor = (vectors[:, kept] * signs * np.sqrt(values[kept])).T
    down = -slope.detach().flatten().numpy()
    step = (factor @ down) / values[kept]
    if np.abs(factor.T @ step - down).max() > 1e-6 * np.abs(down).max():
        raise UserError(
            "expected a loss that has a minimum to second order, got one whose slope its curvature "
            "does not see, as at saturated probabilities; give examples that are less certain"
        )
    return _Curved(z.detach().numpy(), factor, step, float(count))


@contextmanager
def _whole(
    model: nn.Module, targets: str | Sequence[str]
) -> Iterator[tuple[Mask, list[nn.Parameter]]]:
    """Attach a mask of all target weights, and detach it whatever happens."""
    mask = random_mask(model, density=1.0, targets=targets)
    attach(model, mask)
    try:
        yield mask, list(trainable(model).values())
    finally:
        detach(model)


def _flat(parts: Sequence[Tensor | None], like: Sequence[Tensor]) -> npt.NDArray[np.generic]:
    whole = [torch.zeros_like(p) if part is None else part
             for part, p in zip(parts, like, strict=True)]  # fmt: skip
    return np.asarray(torch.cat([part.detach().flatten() for part in whole]).cpu().numpy())


def _room(n: int, d: int, dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
    """Return an empty X (n, d) in a file without a name.

    Raises:
        UserError: the disk has no room for it.
    """
    free, needed = shutil.disk_usage(tempfile.gettempdir()).free, n * d * dtype.itemsize
    if needed > free:
        raise UserError(
            f"expected features that fit into the {free / 2**30:.1f} GiB free for temporary files, "
            f"got {n} rows of {d:,} weights, which need {needed / 2**30:.1f} GiB; take at most "
            f"{free // (d * dtype.itemsize)} rows, fewer targets, or another TMPDIR"
        )
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=(n, d))
