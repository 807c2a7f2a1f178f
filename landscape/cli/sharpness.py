"""``landscape sharpness``."""

from __future__ import annotations

import argparse

from landscape.cli.arguments import number, whole
from landscape.cli.guard import DONE, NOT_CONVERGED
from landscape.cli.parser import Commands
from landscape.cli.point import load_point, point_arguments
from landscape.cli.shared import Outcome, describe_search

SIGNED = (
    "The largest eigenvalue is signed. What a sweep measures as sharpness is the Hessian's "
    "eigenvalue of largest magnitude, which may be negative: --which LM."
)


def add(commands: Commands) -> None:
    """Declare the command."""
    sharp = commands.add_parser(
        "sharpness", help="top eigenvalue of the curvature inside the mask", epilog=SIGNED
    )
    point_arguments(sharp)
    sharp.add_argument(
        "--operator", choices=("hessian", "gauss-newton", "fisher"), default="hessian",
        help="the matrix: Hessian, generalised Gauss-Newton or empirical Fisher (hessian)",
    )  # fmt: skip
    sharp.add_argument("--k", type=whole(least=1), default=1, help="number of eigenvalues (1)")
    sharp.add_argument(
        "--which", choices=("LA", "SA", "LM"), default="LA",
        help="LA: the largest, SA: the smallest, LM: the largest in magnitude (LA)",
    )  # fmt: skip
    sharp.add_argument(
        "--tol",
        type=number(above=0),
        default=1e-2,
        help="largest residual, relative to the eigenvalue (0.01)",
    )
    sharp.add_argument(
        "--confirm", action="store_true",
        help="search on from a fresh random vector, for a copy or a larger one that was missed",
    )  # fmt: skip
    sharp.add_argument(
        "--max-matvecs", type=whole(least=1), default=100, help="matvecs at most (100)"
    )
    sharp.set_defaults(command=_sharpness)


def _sharpness(chosen: argparse.Namespace) -> Outcome:
    import landscape as ls

    model, batches = load_point(chosen)
    kinds = {
        "hessian": ls.HessianOperator, "gauss-newton": ls.GGNOperator, "fisher": ls.FisherOperator,
    }  # fmt: skip
    H = kinds[chosen.operator](model, batches)
    ls.health_check(H)
    top = ls.lanczos(
        H, k=chosen.k, which=chosen.which, tol=chosen.tol, max_matvecs=chosen.max_matvecs, seed=0,
        confirm=chosen.confirm or None,
    )  # fmt: skip
    for value, residual in zip(top.eigenvalues, top.residuals, strict=True):
        print(f"eigenvalue {float(value):.6g} ± {float(residual):.2g}")
    print(describe_search(top))
    state = "converged" if top.converged else "not converged"
    print(f"{state} after {top.num_matvecs} matvecs; loss {float(H.loss()):.4f}")
    result = {
        "operator": H.kind,
        "size": H.size,
        "eigenvalues": [float(v) for v in top.eigenvalues],
        "residuals": [float(r) for r in top.residuals],
        "num_matvecs": top.num_matvecs,
        "converged": bool(top.converged),
        "ceiling": top.ceiling,
        "loss": float(H.loss()),
    }
    return Outcome(result, DONE if top.converged else NOT_CONVERGED)
