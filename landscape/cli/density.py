"""``landscape density``."""

from __future__ import annotations

import argparse
import dataclasses

from landscape.cli.arguments import output_file, whole
from landscape.cli.guard import DONE, NOT_CONVERGED
from landscape.cli.parser import Commands
from landscape.cli.point import load_point, point_arguments
from landscape.cli.shared import Outcome, describe_search


def add(commands: Commands) -> None:
    """Declare the command."""
    dense = commands.add_parser(
        "density", help="how the Hessian's eigenvalues inside the mask are distributed"
    )
    point_arguments(dense)
    least = whole(least=1)
    dense.add_argument("--num-vectors", type=least, default=8, help="random vectors averaged (8)")
    dense.add_argument("--steps", type=least, default=32, help="matvecs a vector (32)")
    dense.add_argument("--bins", type=least, default=12, help="rows of the table (12)")
    dense.add_argument("--figure", type=output_file, help="also draw it: .png, .pdf or .svg (no)")
    dense.set_defaults(command=_density)


def _density(chosen: argparse.Namespace) -> Outcome:
    import torch

    import landscape as ls
    from landscape.curvature import negative_share
    from landscape.figures.canvas import check_format

    if chosen.figure:
        check_format(chosen.figure)
    model, batches = load_point(chosen)
    H = ls.HessianOperator(model, batches)
    ls.health_check(H)
    ends = [ls.lanczos(H, which="LA", seed=0)]
    if H.size > 1:
        ends.append(ls.lanczos(H, which="SA", seed=0))
    for end in ends:
        print(end, describe_search(end), sep="\n  ")
    found = ls.spectral_density(
        H, num_vectors=chosen.num_vectors, steps=chosen.steps, seed=0,
        known=[end for end in ends if end.converged],
    )  # fmt: skip
    edges = torch.linspace(
        float(found.nodes.min()), float(found.nodes.max()), chosen.bins + 1, dtype=torch.float64
    )
    edges[0], edges[-1] = -torch.inf, torch.inf  # every node is in a bin, rounding or not
    places = torch.bucketize(found.nodes, edges[1:-1].contiguous())
    rows = []
    print("eigenvalues              share of all, ± standard error")
    for row in range(chosen.bins):
        low, high = float(edges[row]), float(edges[row + 1])
        share, error = (float(t) for t in found.mean((places == row).double()))
        rows.append({"from": low, "to": high, "share": share, "error": error})
        print(f"{low:>10.4g} … {high:<10.4g} {share:>12.5f} ± {error:.5f}")
    negative = negative_share(found)
    print(f"negative share of the sum of |eigenvalue|: {negative}\n{found}")
    if chosen.figure:
        ls.plot_density(found, chosen.figure)
        print(f"figure: {chosen.figure}")
    mean, mean_error = found.moment(1)
    result = found.to_dict() | {
        "mean": mean, "mean_error": mean_error, "negative_share": dataclasses.asdict(negative),
        "bins": rows, "loss": float(H.loss()), "ends": [end.to_dict() for end in ends],
    }  # fmt: skip
    return Outcome(result, DONE if all(end.converged for end in ends) else NOT_CONVERGED)
