"""Results of packed runs compared with those of solo runs."""

from __future__ import annotations

import math

import torch

import landscape as ls


def close(found: object, wanted: object, tolerance: float = 1e-10) -> bool:
    """Whether nested results are equal, their numbers to a tolerance, NaN to NaN."""
    if isinstance(wanted, dict):
        passing = {"seconds", "peak_memory"}
        return found.keys() == wanted.keys() and all(
            close(found[k], wanted[k], tolerance) for k in wanted if k not in passing
        )
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(
            close(a, b, tolerance) for a, b in zip(found, wanted, strict=True)
        )
    if isinstance(wanted, torch.Tensor):
        return found.shape == wanted.shape and torch.allclose(found, wanted, 0, tolerance)
    if isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=tolerance, abs_tol=tolerance) or (
            math.isnan(wanted) and math.isnan(found)
        )
    return found == wanted


def same(run: ls.Run, wanted: ls.Run, tolerance: float = 1e-10) -> bool:
    parts = ("config", "history", "evaluations", "metrics", "distance")
    return all(close(getattr(run, p), getattr(wanted, p), tolerance) for p in parts)
