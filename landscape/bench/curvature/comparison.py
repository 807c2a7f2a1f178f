"""Time the top eigenvalue of a masked Hessian beside three other libraries, interleaved.

Every library gets the same loss over the same two unequal batches, weighted alike, on the same
trainable parameters: PyHessian and hessian-eigenthings the theta of the attached mask itself, with
its sparse kernels; curvlinops, which differentiates by torch.func, the same theta scattered into
the dense weights (`landscape.curvature.peers`). Construction is timed with the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from statistics import median
from typing import Any

from tqdm import tqdm

from landscape import checks
from landscape.bench.curvature import cases, overhead
from landscape.bench.curvature.algebra import algebra
from landscape.bench.curvature.libraries import (
    ACCURACY,
    PEERS,
    Timing,
    eigenthings_own_rule,
    make_case,
    ours,
    pyhessian_own_rule,
)
from landscape.errors import UserError
from landscape.folders import provenance
from landscape.sources import carriers


def bench_curvature(
    *,
    rounds: int = 1,
    seed: int = 0,
    shapes: tuple[str, ...] = cases.SHAPES,
    memory: bool = True,
) -> dict[str, Any]:
    """Measure every library once a round, in turn, and take medians of the pairwise ratios.

    Args:
        rounds: timed rounds, at least 1.
        seed: of weights, tokens and masks.
        shapes: of the models: "tiny" and "opt-125m", random weights.
        memory: whether to measure peak memory, each side in a process of its own.

    Returns:
        `cases`, one a shape, mask and loss, with each library's median seconds, products and
        error, PyHessian's result by its own rule, and hessian-eigenthings' where a user doubles
        its steps until it says that it has converged, to the tolerance that suffices for ours;
        the speedups, medians over the cases; `algebra`, where a large shape is asked for;
        `hvp_over_gradient` and `peak_memory_over_gradient_step` of the last shape, and
        `tracking_overhead` of a tiny model; what is not installed is None, with a sentence in
        `missing`; provenance.

    Raises:
        UserError: rounds is below 1, or an unknown shape.
    """
    rounds = checks.whole("rounds", rounds, least=1)
    unknown = [shape for shape in shapes if shape not in cases.SHAPES]
    if unknown or not shapes:
        raise UserError(
            f"expected shapes among {', '.join(cases.SHAPES)}, got {shapes}; check the spelling"
        )
    missing = {library: said for library in PEERS if (said := carriers.missing(library))}
    cells = [
        _bench_case(*cell, rounds, seed, [p for p in PEERS if p not in missing])
        for cell in tqdm(_cells(shapes), desc="cases", leave=False, disable=None)
    ]
    result: dict[str, Any] = {
        "cases": cells,
        "accuracy": ACCURACY,
        "rounds": rounds,
        **{
            f"speedup_vs_{name}": None
            if name in missing
            else median(cell["libraries"][name]["over_ours"] for cell in cells)
            for name in PEERS
        },
        "speedup_vs_hessian_eigenthings_own_rule": None
        if "hessian_eigenthings" in missing
        else median(cell["hessian_eigenthings_own_rule"]["over_ours"] for cell in cells),
        "hvp_over_gradient": overhead.product_over_gradient(shapes[-1], rounds, seed),
        "peak_memory_over_gradient_step": None,
    }
    if memory:
        peaks = {what: overhead.peak_of(what, shapes[-1], seed) for what in ("lanczos", "gradient")}
        result["peak_memory"] = peaks
        result["peak_memory_over_gradient_step"] = peaks["lanczos"] / peaks["gradient"]
    result["algebra"] = algebra(rounds, seed) if shapes[-1] != "tiny" else None
    result["tracking"] = overhead.tracking(rounds, seed)
    result["tracking_overhead"] = result["tracking"]["overhead"]
    result["missing"] = missing
    result["provenance"] = provenance()
    return result


def _cells(shapes: Sequence[str]) -> list[tuple[str, str, str]]:
    """List (shape, mask, loss)."""
    cells = []
    for shape in shapes:  # of a large shape only the two pairs on the diagonal
        pair = product if shape == "tiny" else zip
        cells += [(shape, mask, loss) for mask, loss in pair(cases.MASKS, cases.LOSSES)]
    return cells


def _bench_case(
    shape: str, mask: str, loss: str, rounds: int, seed: int, others: list[str]
) -> dict[str, Any]:
    """Time every library on a case, in turn."""
    case = make_case(shape, mask, loss, seed)
    ways = {"ours": ours, **{name: PEERS[name] for name in others}}
    timings: dict[str, list[Timing]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            timings[name].append(way(case))
    libraries = {}
    for name, found in timings.items():
        pairs = zip(found, timings["ours"], strict=True)
        libraries[name] = {
            "seconds": median(t.seconds for t in found),
            "products": median(t.products for t in found),
            "error": max((t.error for t in found), key=abs),
            "over_ours": median(t.seconds / own.seconds for t, own in pairs),
        }
    cell = {
        "shape": shape, "mask": mask, "loss": loss, "sharpness": case.reference,
        "libraries": libraries,
    }  # fmt: skip
    if "pyhessian" in others:
        cell["pyhessian_own_rule"] = pyhessian_own_rule(case)
    if "hessian_eigenthings" in others:
        own = eigenthings_own_rule(case)
        cell["hessian_eigenthings_own_rule"] = {
            "seconds": own.seconds, "products": own.products, "error": own.error,
            "over_ours": own.seconds / libraries["ours"]["seconds"],
        }  # fmt: skip
    return cell
