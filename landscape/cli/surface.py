"""``landscape surface``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from landscape.cli.arguments import file, number, output_folder, seed, whole
from landscape.cli.guard import resuming
from landscape.cli.parser import Commands
from landscape.cli.point import load_point, point_arguments
from landscape.cli.shared import Outcome

_KINDS = ("random", "eigenvectors", "displacement", "trajectory")


def add(commands: Commands) -> None:
    """Declare the command."""
    scan = commands.add_parser("surface", help="the loss on a line or a plane inside the mask")
    point_arguments(scan)
    where = scan.add_mutually_exclusive_group()
    where.add_argument(
        "--directions", choices=_KINDS, default="random",
        help="random: normalised filter by filter; eigenvectors: the Hessian's top ones; "
        "displacement: from the pretrained weights, with a random one; trajectory: principal ones "
        "of the file --trajectory (random)",
    )  # fmt: skip
    where.add_argument(
        "--to", type=file, help="another delta file: the line from --delta, or from the base of "
        "this one on its task, to it",
    )  # fmt: skip
    scan.add_argument(
        "--trajectory", type=file, help="file of `landscape finetune --trajectory`, drawn too"
    )
    scan.add_argument(
        "--dimensions",
        type=whole(least=1),
        choices=(1, 2),
        default=2,
        help="axes: a line or a plane (2)",
    )
    scan.add_argument(
        "--points", type=whole(least=3), default=21, help="cells along an axis, an odd number (21)"
    )
    scan.add_argument(
        "--span", type=number(above=0), nargs="+",
        help="l2 displacement at the end of an axis, one for all or one each (by the directions)",
    )  # fmt: skip
    scan.add_argument(
        "--direction-seed", type=seed, default=0, help="seed of random directions (0)"
    )
    scan.add_argument("--predict", action="store_true", help="overlay the quadratic prediction")
    scan.add_argument(
        "--output", type=output_folder, required=True,
        help="folder that gets numbers and figures, and goes on from what it holds",
    )  # fmt: skip
    scan.set_defaults(command=_surface)


def _surface(chosen: argparse.Namespace) -> Outcome:
    _check(chosen)
    with resuming(chosen.output, "cells.json"):
        return Outcome(_scan(chosen))


def _scan(chosen: argparse.Namespace) -> dict[str, Any]:
    import landscape as ls
    from landscape.folders import write_json

    folder = Path(chosen.output)
    model, batches = load_point(chosen, other=chosen.to)
    options: dict[str, Any] = {
        "points": chosen.points, "folder": folder, "progress": _progress,
    }  # fmt: skip
    way = None
    if chosen.to:
        end = ls.read_delta(model, chosen.to, force=chosen.force)
        start = ls.delta(model) if chosen.delta else 0.0 * end
        surface = ls.interpolate(model, batches, start, end, **options)
        labels = ("distance to the start", "")
    else:
        directions, spans, labels, way = _plane(chosen, model, batches)
        scan = ls.surface_1d if chosen.dimensions == 1 else ls.surface_2d
        surface = scan(model, batches, directions, span=spans, predict=chosen.predict, **options)
    result = surface.to_dict() | {"labels": labels[: surface.losses.ndim]}
    if chosen.to:
        result["barrier"] = surface.barrier
        print(f"barrier {surface.barrier:.4g}")
    write_json(folder / "surface.json", result)
    drawn: dict[str, Any] = {"labels": labels, "trajectory": way}
    files = [
        folder / "surface.png",
        ls.surface_page(surface, **drawn).save(folder / "surface.html"),
    ]
    ls.plot_surface(surface, files[0], **drawn)
    if surface.losses.ndim == 2:
        files.append(folder / "relief.png")
        ls.plot_surface(surface, files[-1], view="3d", labels=labels)
    print(surface)
    print("files: " + ", ".join(str(f) for f in [folder / "surface.json", *files]))
    return result


def _check(chosen: argparse.Namespace) -> None:
    from landscape.errors import UserError

    if chosen.points % 2 == 0:
        raise UserError(
            f"expected an odd number of --points, got {chosen.points}; the middle one is the model"
        )
    if chosen.directions == "trajectory" and not chosen.trajectory:
        raise UserError(
            "expected --trajectory FILE with --directions trajectory, got none; give one"
        )
    if chosen.directions == "displacement" and not chosen.delta:
        raise UserError("expected --delta FILE with --directions displacement, got none; give one")
    if chosen.to and (chosen.span or chosen.predict or chosen.trajectory):
        raise UserError(
            "expected --to alone, for the two deltas say where the line is, got --span, --predict "
            "or --trajectory too; leave it out"
        )
    if chosen.span and len(chosen.span) not in (1, chosen.dimensions):
        raise UserError(
            f"expected one --span, or {chosen.dimensions} for {chosen.dimensions} axes, got "
            f"{len(chosen.span)}; give one"
        )


def _plane(
    chosen: argparse.Namespace, model: Any, batches: list[Any]
) -> tuple[Any, list[float], tuple[str, str], Any]:
    """Return directions, their spans and names, and the way of training in their plane."""
    import torch

    import landscape as ls

    count = chosen.dimensions
    path = ls.Trajectory.load(chosen.trajectory) if chosen.trajectory else None
    names = [f"random direction {i + 1}" for i in range(count)]
    directions: Any
    if chosen.directions == "eigenvectors":
        H = ls.HessianOperator(model, batches)
        ls.health_check(H)
        directions = ls.lanczos(H, k=count, seed=0)
        values = directions.eigenvalues.tolist()
        names = [f"eigenvector {i + 1}, eigenvalue {v:.3g}" for i, v in enumerate(values)]
        # as far as the top eigenvalue alone would double the loss
        spans = [math.sqrt(2 * abs(float(H.loss())) / max(abs(values[0]), 1e-12))] * count
    elif chosen.directions == "trajectory":
        assert path is not None
        directions = path.pca(model, count)
        shares = directions.explained.tolist()
        names = [f"principal direction {i + 1}, {s:.0%}" for i, s in enumerate(shares)]
        reach = path.coordinates(model, directions, count).abs().amax(0)
        spans = [1.1 * float(r) for r in reach]
    else:
        directions = ls.random_directions(model, count, seed=chosen.direction_seed)
        spans = [float(directions[:, 0].norm())] * count
        if chosen.directions == "displacement":
            directions = torch.stack([ls.displacement(model), *directions.t()], dim=1)[:, :count]
            names = ["displacement", "random direction"][:count]
            spans = [float(directions[:, 0].norm())] * count
    way = None if path is None else path.coordinates(model, directions, count)
    if chosen.span:
        spans = chosen.span * (count if len(chosen.span) == 1 else 1)
    return directions, spans, (names[0], names[-1]), way


def _progress(done: int, total: int) -> None:
    import sys

    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done} of {total} cells", end=end, file=sys.stderr, flush=True)
