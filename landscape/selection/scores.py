"""Scores: how much a weight deserves to be trained, from its value and one statistic."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from landscape.errors import UserError

Source = Literal["weights", "gradient", "examples", "activations"]


@dataclass(frozen=True)
class Score:
    """Hold a score: what it needs to see, and its formula.

    Args:
        name: its name.
        source: its statistic: nothing but the "weights"; the "gradient" of the mean loss; the
            gradients of single "examples", put together by `term`; the norms of "activations".
        formula: (weight, statistic) -> score, all of one shape.
        options: its settings, all explicit.
        term: what a single example's gradient adds to the statistic.
        weighs: whether the formula reads the weight.
    """

    name: str
    source: Source
    formula: Callable[[Tensor, Tensor], Tensor]
    options: Mapping[str, Any]
    term: Callable[[Tensor], Tensor] = lambda gradient: gradient
    weighs: bool = True

    def of(self, read: Callable[[], Tensor], statistic: Tensor) -> Tensor:
        """Return the scores of one tensor in float32 or wider; `read` gives its weight."""
        if not self.weighs:
            return self.formula(statistic, statistic)
        weight = read()
        weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
        return self.formula(weight, statistic.to(weight.device))


def magnitude() -> Score:
    """Score |w|: the largest weights."""
    return Score("magnitude", "weights", lambda w, _: w.abs(), {})


def magnitude_smallest() -> Score:
    """Score -|w|: the smallest weights. Source: Liao et al. 2023 (PaFi)."""
    return Score("magnitude_smallest", "weights", lambda w, _: -w.abs(), {})


def gradient() -> Score:
    """Score |g|, g the gradient of the mean loss."""
    return Score("gradient", "gradient", lambda _, g: g.abs(), {}, weighs=False)


def snip() -> Score:
    """Score |g w|: the first-order change of the loss without w. Source: Lee et al. 2019."""
    return Score("snip", "gradient", lambda w, g: (g * w).abs(), {})


def id3(*, eps: float, exp: float) -> Score:
    """Score H = |g| / (|w| + eps)^exp. Source: Agarwal et al. 2024 (ID3), equation 1.

    Args:
        eps: above 0.
        exp: positive prefers small weights, negative large ones, 0 is |g|. The paper recommends
            -1 in its text and uses 2 and 0 in its tables, so there is no default.

    Raises:
        UserError: eps or exp out of range.
    """
    if not (eps > 0 and math.isfinite(eps) and math.isfinite(exp)):
        raise UserError(
            f"expected a finite eps above 0 and a finite exp for id3, got {eps} and {exp}; the "
            "paper's tables have exp=2 and 0"
        )

    def formula(w: Tensor, g: Tensor) -> Tensor:
        return g.abs().div_(w.abs().add_(eps).pow_(exp))

    return Score("id3", "gradient", formula, {"eps": eps, "exp": exp})


Information = Literal["empirical", "true"]


def fisher(*, information: Information = "empirical", power: Literal[1, 2] = 2) -> Score:
    """Score sum_i |g_i|^power over examples i. Source: Sung et al. 2021 (FISH), equation 5.

    Args:
        information: "empirical" takes the gradient g_i of each example's loss at its own label;
            "true" the mean of |g_i|^power over all labels, weighted by the model's own
            probabilities, at one backward a label.
        power: 2 for the diagonal of the Fisher information, 1 for absolute gradients.

    Raises:
        UserError: an unknown choice.
    """
    if information not in get_args(Information) or power not in (1, 2):
        raise UserError(
            "expected information='empirical' or 'true' and power=1 or 2 for fisher, got "
            f"{information!r} and {power!r}; leave out what should be the default"
        )
    options = {"information": information, "power": power}
    term = (lambda g: g.square()) if power == 2 else (lambda g: g.abs())
    return Score("fisher", "examples", lambda _, total: total, options, term, weighs=False)


def wanda() -> Score:
    """Score |w_ij| ||x_j||, x_j the j-th input over all tokens. Source: Sun et al. 2024."""
    return Score("wanda", "activations", lambda w, norm: w.abs() * norm, {})


_SCORES = (magnitude, magnitude_smallest, gradient, snip, id3, fisher, wanda)
SCORES: dict[str, Callable[..., Score]] = {make.__name__: make for make in _SCORES}
"""Score name -> the function that makes it from its options."""


def make_score(name: str, options: Mapping[str, Any]) -> Score:
    """Make a score from its name and options.

    Raises:
        UserError: an unknown name, an option that the score lacks, or one that it needs.
    """
    if name not in SCORES:
        raise UserError(
            f"expected a score among {', '.join(SCORES)}, got {name!r}; check the spelling"
        )
    known = inspect.signature(SCORES[name]).parameters
    extra = sorted(set(options) - set(known))
    if extra:
        takes = ", ".join(known) or "none"
        raise UserError(
            f"expected the options of the score {name}, {takes}, got {', '.join(extra)}; leave it "
            "out"
        )
    missing = [
        key for key, p in known.items() if p.default is inspect.Parameter.empty
        and key not in options
    ]  # fmt: skip
    if missing:
        raise UserError(
            f"expected {' and '.join(missing)} for the score {name}, which has no default, got "
            f"none; give {', '.join(f'{key}=' for key in missing)}"
        )
    return SCORES[name](**options)
