"""The spectral density of a symmetric operator, by stochastic Lanczos quadrature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from landscape import checks, seeds
from landscape.curvature.operators.linear import LinearOperator
from landscape.curvature.spectrum.algebra import append
from landscape.curvature.spectrum.recurrence import tridiagonal
from landscape.curvature.spectrum.result import EigenResult, random_unit
from landscape.errors import UserError
from landscape.shown import card


@dataclass(frozen=True, repr=False)
class SpectralDensity:
    """Hold a quadrature of the spectrum for each of several random vectors.

    For a random unit vector v_l the measure mu_l = sum_i (v_l'y_i)^2 delta(lambda_i) has the
    density of the eigenvalues as its expectation. Its Gauss quadrature, nodes theta_lj and
    weights tau_lj that sum to 1, agrees with it on polynomials up to degree 2 steps - 1.
    """

    nodes: Tensor
    """Ritz values, shape (vectors, steps), float64, on the CPU."""
    weights: Tensor
    """Their weights, shape (vectors, steps), each row summing to 1; 0 where a run ended early."""
    size: int
    """Rows of the operator."""
    num_matvecs: int
    """Matvecs spent."""
    known: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.float64, device="cpu"))
    """Eigenvalues that were put in exactly, shape (m,); they are among the nodes of every row."""

    def drawn(self) -> tuple[Tensor, Tensor]:
        """Return nodes and weights of the vectors alone, without the known eigenvalues."""
        keep = torch.ones_like(self.nodes, dtype=torch.bool)
        for value in self.known:
            same = (self.nodes == value) & keep & (self.weights == 1 / self.size)
            keep[torch.arange(len(keep), device="cpu"), same.double().argmax(1)] = False
        shape = (len(keep), -1)
        return self.nodes[keep].reshape(shape), self.weights[keep].reshape(shape)

    def mean(
        self, values: Float[Tensor, "*shape vectors steps"]
    ) -> tuple[Float64[Tensor, "*shape"], Float64[Tensor, "*shape"]]:
        """Average a function of the eigenvalues over the spectrum, (1/n) sum_i f(lambda_i).

        Args:
            values: f at the nodes, shape (..., vectors, steps).

        Returns:
            The estimate and its standard error over the vectors, each of shape (...). Infinite
            with a single vector. For a polynomial of degree below 2 steps that is the whole
            error; else that of the quadrature itself is not in it (for a step, a jump, it may be
            larger). With few vectors an interval takes Student's quantile, 2.4 errors for 95 %
            with 8; and it is too narrow where single eigenvalues that are not `known` weigh most.
        """
        samples = (self.weights * values).sum(-1)
        count = samples.shape[-1]
        if count == 1:
            return samples[..., 0], torch.full_like(samples[..., 0], torch.inf)
        return samples.mean(-1), samples.std(-1) / count**0.5

    def moment(self, power: int) -> tuple[float, float]:
        """Return (1/n) tr A^power with its standard error; power at least 0."""
        value, error = self.mean(self.nodes**power)
        return float(value), float(error)

    def cumulative(
        self, grid: Float[Tensor, " m"]
    ) -> tuple[Float64[Tensor, " m"], Float64[Tensor, " m"]]:
        """Return the share of eigenvalues at or below each grid point, with standard errors.

        The quadrature counts whole nodes: near zero, where most eigenvalues are, it says little
        about how many are negative; see `negative_share`.
        """
        points = grid.double().cpu()[:, None, None]
        return self.mean((self.nodes <= points).double())

    def density(
        self, grid: Float[Tensor, " m"], width: float
    ) -> tuple[Float64[Tensor, " m"], Float64[Tensor, " m"]]:
        """Return the density smoothed by a Gaussian, sum_i N(t; lambda_i, width^2) / n.

        Args:
            grid: points t, shape (m,).
            width: standard deviation of the Gaussian, in units of the eigenvalues, positive.

        Returns:
            The density and its standard error, shapes (m,), float64.

        Raises:
            UserError: width is not positive.
        """
        if not width > 0:
            raise UserError(
                f"expected a positive width of the smoothing, got {width}; "
                "a few hundredths of the range of the eigenvalues are usual"
            )
        distance = (grid.double().cpu()[:, None, None] - self.nodes) / width
        return self.mean((-0.5 * distance**2).exp() / (width * (2 * torch.pi) ** 0.5))

    def grid(self, points: int = 400, margin: float = 0.05) -> Float64[Tensor, " points"]:
        """Return equidistant points over the range of the nodes and a margin on both sides."""
        low, high = float(self.nodes.min()), float(self.nodes.max())
        room = margin * (high - low) or margin * abs(high) or margin
        return torch.linspace(low - room, high + room, points, dtype=torch.float64)

    def to_dict(self) -> dict[str, Any]:
        """Return nodes, weights and costs as plain values for a result file."""
        return {
            "nodes": self.nodes.tolist(),
            "weights": self.weights.tolist(),
            "size": self.size,
            "num_matvecs": self.num_matvecs,
            "known": self.known.tolist(),
        }

    def __repr__(self) -> str:
        mean, error = self.moment(1)
        return (
            f"spectrum of {self.size} eigenvalues in [{float(self.nodes.min()):.4g}, "
            f"{float(self.nodes.max()):.4g}], mean {mean:.4g} ± {error:.1g}, "
            f"{self.num_matvecs} matvecs"
        )

    def _repr_html_(self) -> str:
        return card(
            repr(self), {"random vectors": len(self.nodes), "nodes of each": self.nodes.shape[1]}
        )


def spectral_density(
    operator: LinearOperator,
    *,
    num_vectors: int = 8,
    steps: int = 32,
    seed: int = 0,
    known: Sequence[EigenResult] = (),
) -> SpectralDensity:
    """Estimate how the eigenvalues of a symmetric operator are distributed.

    Runs Lanczos with full reorthogonalisation from random unit vectors; without it, copies of
    converged eigenvalues would take weight that is not theirs. A single eigenvalue outside the
    bulk gets n (v'y)^2 times its share from a vector v, anything from none of it to several
    times it; what is `known` gets exactly its share, and the vectors see the rest.

    Args:
        operator: any symmetric operator.
        num_vectors: random vectors, at least 1; standard errors need 2.
        steps: matvecs a vector, at least 1; at most `size` less the known pairs are made.
        seed: of the vectors.
        known: eigenpairs of this operator, from `lanczos` or `power_iteration`.

    Returns:
        The quadrature; ask it for the density, the cumulative share or moments.

    Raises:
        UserError: an argument out of its range, known pairs of another size, an eigenpair that is
            known twice, or a product that is not finite.

    Cost: at most num_vectors * steps matvecs, `steps` vectors and the known ones. Source: Golub
    & Welsch (1969) (quadrature); Ubaru, Chen & Saad (2017) (stochastic).

    >>> from landscape.curvature.operators.linear import MatrixOperator
    >>> spectral_density(MatrixOperator([[2.0, 1.0], [1.0, 2.0]]), steps=2).moment(0)[0]
    1.0
    """
    checks.operator(operator)
    num_vectors = checks.whole("num_vectors", num_vectors, least=1)
    steps = checks.whole("steps", steps, least=1)
    seed = checks.seed(seed)
    generator = seeds.generator(seed)
    values, basis = _known(operator, known)
    rest = operator.size - len(values)
    steps = min(steps, rest)
    nodes = torch.empty(num_vectors, steps + len(values), dtype=torch.float64, device="cpu")
    weights = torch.zeros_like(nodes)
    nodes[:, steps:], weights[:, steps:] = values, 1 / operator.size
    spent = 0
    for row in range(num_vectors if rest else 0):
        v = random_unit(operator, generator)
        ritz, vectors = torch.linalg.eigh(tridiagonal(operator, v, steps, basis)[0])
        reached = len(ritz)
        spent += reached
        nodes[row, :reached], nodes[row, reached:steps] = ritz, ritz[-1]
        weights[row, :reached] = vectors[0].square() * (rest / operator.size)
    order = nodes.argsort(dim=1)
    nodes, weights = nodes.gather(1, order), weights.gather(1, order)
    return SpectralDensity(nodes, weights, operator.size, spent, values)


def _known(operator: LinearOperator, known: Sequence[EigenResult]) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (m,) and orthonormal rows (m, size) that span their eigenvectors."""
    checks.several("known", known, "results of lanczos")
    for found in known:
        checks.instance("each of known", found, EigenResult, "give results of lanczos")
        if len(found.eigenvectors) != operator.size:
            raise UserError(
                f"expected eigenpairs of this operator, of size {operator.size}, got vectors of "
                f"{len(found.eigenvectors)}; give what lanczos found for it"
            )
    values = [float(value) for found in known for value in found.eigenvalues]
    rows = [y for found in known for y in found.eigenvectors.t()]
    basis = torch.empty(len(rows), operator.size, dtype=operator.dtype, device=operator.device)
    for number, y in enumerate(rows):
        if append(basis, number, y.to(basis).clone()) < 0.5:
            raise UserError(
                f"expected every known eigenpair once, got the one of {values[number]:.4g} "
                "twice; leave one out"
            )
    return torch.tensor(values, dtype=torch.float64, device="cpu"), basis
