"""Every public function of theory, given what cannot be: refused in a sentence, never answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import theory
from landscape.errors import UserError
from theory.restricted import Restricted

X = np.random.default_rng(0).standard_normal((3, 12))
FEATURES = theory.from_array(X)
PARTS = theory.divide(FEATURES, 3)
PROBLEM = theory.make_problem(FEATURES, p=0.5)
MASK: Restricted = PROBLEM.draw(0)
NET = theory.LinearNetwork(3)
BATCH = (torch.ones(2, 3).double(), torch.ones(2).double())

LEAST = ("x", -1, math.nan, [], True, 1.5, math.inf, np.float64(2))
NUMBER = ("x", math.nan, math.inf, -math.inf, [], True, 1j)
VECTOR = ("x", -1, math.nan, [], [math.nan] * 3, [math.inf] * 3, np.ones(2), np.ones((3, 1)),
          ["a"] * 3, [1j] * 3, [True] * 3, [[1], [1, 2]])  # fmt: skip
#: what is never a value of a kind
WRONG: dict[str, tuple[Any, ...]] = {
    "object": (None, "x", -1, math.nan, True),
    "list": (None, "x", -1, math.nan, True),
    "several": ("x", -1, math.nan, True),
    "named": (None, -1, math.nan, [], True),
    "text": (None, "nowhere", -1, math.nan, [], True),
    "path": (None, -1, math.nan, [], True, ""),
    "whole": LEAST,
    "count": (*LEAST, 13),
    "size": ("x", -1, math.nan, True, 1.5, math.inf, 13),
    "positive": (*LEAST, 0),
    "number": NUMBER,
    "above": (*NUMBER, 0, -1),
    "least": (*NUMBER, -1),
    "bound": ("x", math.nan, [], True, None, -1.0),
    "share": (*NUMBER, -0.1, 1.1),
    "inside": (*NUMBER, -0.1, 1.1, 0, 1),
    "columns": (None, "x", -1, math.nan, np.array([1.0]), np.array([[1]]), [[1], [1, 2]], [2, 1],
                [1, 1], [1, 99], [-1, 1], [True, False]),
    "vector": VECTOR,
    "spectrum": ("x", -1, [], [math.nan], [math.inf], [-1.0], np.ones(9), np.ones((1, 1)),
                 [[1], [1, 2]], [True]),
    "matrix": (None, -1, math.nan, [], [[math.nan]], np.ones(3), [["a"]], [[1j]], [[1], [1, 2]]),
    "batch": ((torch.ones(2, 3).double(), torch.ones(2, 1).double()),),
}  # fmt: skip


def drawn(iterate: Callable[..., Iterable[object]]) -> Callable[..., object]:
    return lambda **given: list(iterate(**given))


INTERVAL = {"parts": PARTS, "mask": np.array([1, 8]), "p": 0.5}
SIGNAL = {"signal": np.ones(3), "sigma": 1.0}
ENTERED = "parts:object mask:columns p:share delta:inside"
START = {"w0": np.zeros(MASK.k), "eta": 0.1, "steps": 2}
#: function, its other arguments, and the kind of each argument that is given wrongly
PUBLIC: list[tuple[Callable[..., object], dict[str, object], str]] = [
    (theory.certify, {"bound": 1.0},
     "bound:bound d:positive p:share r:above delta:inside"),
    (theory.sharpness_interval, INTERVAL, ENTERED),
    (theory.squared_distance_interval, INTERVAL | SIGNAL,
     f"{ENTERED} signal:vector sigma:least"),
    (theory.draw, {"name": "uniform", "n": 2, "d": 3},
     "name:text n:positive d:positive seed:whole"),
    (theory.prescribed, {"spectrum": [1.0, 2.0], "d": 5},
     "spectrum:spectrum d:positive seed:whole"),
    (theory.from_array, {"x": X}, "x:matrix name:named"),
    (theory.load_features, {"path": "x.npy"}, "path:path"),
    (theory.divide, {"features": FEATURES, "heavy": 3}, "features:object heavy:size heavy:columns"),
    (theory.largest_leverages, {"features": FEATURES, "count": 3}, "features:object count:count"),
    (theory.hidden_states, {}, "n:positive seed:whole model:path task:text"),
    (theory.jacobian_features, {}, "n:positive seed:whole model:path task:text"),
    (theory.linearise, {"model": NET, "batches": [BATCH]}, "model:object batches:list"),
    (theory.LinearNetwork, {}, "d:positive"),
    (theory.squared_loss, {"model": NET}, "batch:batch"),
    (theory.make_problem, {},
     "features:matrix n:positive d:positive p:share delta:inside sigma:least r:least seed:whole"),
    (theory.MaskedRegression, {"features": FEATURES, "p": 0.5},
     "features:object p:share delta:inside sigma:least seed:whole target:vector"),
    (PROBLEM.draw, {}, "seed:whole p:share"),
    (PROBLEM.restrict, {}, "indices:columns"),
    (drawn(PROBLEM.masks), {"count": 2}, "count:whole seed:whole"),
    (drawn(PROBLEM.grams), {"count": 2}, "count:whole seed:whole"),
    (drawn(PROBLEM.factors), {"count": 2}, "count:whole seed:whole"),
    (theory.Restricted, {"indices": [0, 1], "columns": np.ones((2, 3)), "y": np.ones(3)},
     "columns:matrix y:vector"),
    (MASK.descend, START, "w0:vector eta:number steps:whole"),
    (MASK.closed_form, START, "w0:vector eta:number steps:whole"),
    (MASK.filtered, {"eta": 0.1, "steps": 2}, "eta:number steps:whole"),
    (MASK.loss, {}, "w:vector"),
    (MASK.gradient, {}, "w:vector"),
    (MASK.minimum_norm, {}, "y:vector"),
    (PARTS.centre, {"mask": [1], "p": 0.5}, "mask:columns p:share"),
    (PARTS.kept_gram, {}, "mask:columns"),
    (theory.Features, {"name": "x", "n": 2, "d": 3, "read": lambda a, b: np.ones((b - a, 2))},
     "name:named n:positive d:positive read:object"),
    (FEATURES.take, {}, "indices:columns"),
    (FEATURES.prefix, {}, "d:positive d:count"),
    (theory.verify, {"claim_id": "prop-5.2", "problem": PROBLEM},
     "claim_id:text problem:object seed:whole"),
    (theory.claims()[0].verify, {"problem": PROBLEM}, "problem:object seed:whole"),
    (theory.verify_all, {"problems": [PROBLEM]}, "problems:several seed:whole"),
    (theory.default_problems, {}, "seed:whole delta:inside"),
]  # fmt: skip


def wrong_values(kinds: str) -> Iterator[tuple[str, Any]]:
    for argument, kind in (one.split(":") for one in kinds.split()):
        yield from ((argument, value) for value in WRONG[kind])


@pytest.mark.parametrize(
    ("function", "others", "kinds"), PUBLIC, ids=[one[0].__qualname__ for one in PUBLIC]
)
def test_a_public_function_of_theory_refuses_what_cannot_be_in_a_sentence(
    function: Callable[..., object], others: dict[str, object], kinds: str
) -> None:
    """Neither a raw exception nor a number."""
    found = []
    for argument, value in wrong_values(kinds):
        try:
            function(**{**others, argument: value})
        except UserError as error:
            if not str(error).startswith("expected ") or "; " not in str(error):
                found.append(f"{argument}={value!r}: {error}")
        except Exception as error:
            found.append(f"{argument}={value!r}: {error!r}")
        else:
            found.append(f"{argument}={value!r}: accepted")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("indices", "told"), [
    ([0, 4, 4], "4 twice"), ([5, 2], "2 after 5"), ([1, 12], "12"), ([-1, 1], "-1"),
    ([True, False], r"bool of shape \(2,\)"),
])  # fmt: skip
def test_a_mask_that_keeps_a_column_twice_or_none_of_x_is_told_which(
    indices: list[int], told: str
) -> None:
    expected = f"distinct columns below d=12, got {told}; numpy.unique makes them of a list"
    with pytest.raises(UserError, match=expected):
        PROBLEM.restrict(np.array(indices))


def test_booleans_are_no_targets_until_it_is_said_which_numbers_they_are() -> None:
    """0 and 1 are another regression than -1 and 1; of X they are 0 and 1, as in any product."""
    y = np.array([True, False, True])
    with pytest.raises(
        UserError, match=r"of bool; write the two numbers they stand for.*1\.0 \* y"
    ):
        theory.MaskedRegression(FEATURES, 0.5, target=y)
    assert theory.MaskedRegression(FEATURES, 0.5, target=1.0 * y).y.tolist() == [1, 0, 1]
    assert theory.MaskedRegression(FEATURES, 0.5, target=2.0 * y - 1).y.tolist() == [1, -1, 1]
    assert theory.from_array(np.array([[True, False]])).columns().tolist() == [[1.0], [0.0]]


def test_a_regression_whose_columns_repeat_is_solved_as_dense_algebra_solves_it() -> None:
    """X = [Y Y Y] of rank n and [Z Z Z Z] of rank 2 < n: Hessians are singular, masks or not."""
    rng = np.random.default_rng(3)
    full, low = np.tile(rng.standard_normal((4, 5)), 3), np.tile(rng.standard_normal((4, 2)), 4)
    for x in (full, low):
        drawn = theory.make_problem(x, p=0.7, seed=2).draw(1)
        dense, w0 = x[:, drawn.indices], rng.standard_normal(drawn.k)
        inverse = np.linalg.pinv(dense, rcond=1e-12)
        top = np.linalg.eigvalsh(dense.T @ dense)[-1]
        assert drawn.top == pytest.approx(top, rel=1e-12)
        assert drawn.minimum_norm() == pytest.approx(inverse @ drawn.y, rel=1e-9)
        power = np.linalg.matrix_power(np.eye(drawn.k) - dense.T @ dense / top, 50)
        moved = power @ (w0 - inverse @ drawn.y) + inverse @ drawn.y
        assert drawn.closed_form(w0, 4 / top, 50) == pytest.approx(moved, rel=1e-9)


def test_laws_that_need_rank_n_say_nothing_of_repeated_columns_that_lack_it() -> None:
    repeated = theory.make_problem(np.tile(X[:, :2], 9), p=0.5)  # rank 2 of 3
    for claim in ("distance-law", "distance-leverage"):
        result = theory.verify(claim, repeated)
        assert result.verdict == "vacuous"
        assert result.finding.note.startswith("numerically rank-deficient: 1 of 3 singular values")
    with pytest.raises(UserError, match="expected X of rank n = 3, got rank 2; leave out rows"):
        theory.largest_leverages(repeated.features, 2)
