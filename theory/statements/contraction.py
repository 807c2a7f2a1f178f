"""Two steps of the proof of proposition 5.2 that are false where d > n; the proposition stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from theory.claim import Claim, Finding
from theory.problems import MaskedRegression

CHAPTER = "Dynamics on one mask"
Vector = tuple[Fraction, ...]
STEPS = 10
#: kept columns x of one sample, its target y, the start w_0
STARTS: tuple[tuple[Sequence[int], int, Sequence[int]], ...] = (
    ((1, 1), 0, (1, -1)),
    ((1, 1), 4, (3, 1)),
    ((3, 4), 25, (4, -3)),
    ((1, 2, 2), 9, (2, 1, 0)),
)


def whole(values: Sequence[int]) -> Vector:
    """Return integers as exact numbers."""
    return tuple(map(Fraction, values))


def dot(a: Vector, b: Vector) -> Fraction:
    """Return the inner product."""
    return sum((s * t for s, t in zip(a, b, strict=True)), Fraction(0))


def step(x: Vector, y: Fraction, w: Vector, eta: Fraction) -> Vector:
    """Return w - eta (x.w - y) x, a step of gradient descent on one sample."""
    error = dot(x, w) - y
    return tuple(wi - eta * error * xi for xi, wi in zip(x, w, strict=True))


def norm_on_row_space(eta: Fraction, positive: Sequence[Fraction], steps: int) -> Fraction:
    """Return max_i |1 - eta lambda_i / n|^steps over the positive lambda_i, at n = 1."""
    return max(abs(1 - eta * value) for value in positive) ** steps


def _norm(
    predict: Callable[[Fraction, Sequence[Fraction], int], Fraction],
    problem: MaskedRegression,
    seed: int,
) -> Finding:
    """Apply I - eta X^T X to (1, -1), which X = (1, 1) does not see, t times, exactly."""
    x, v = whole((1, 1)), whole((1, -1))
    eta = Fraction(1, 4)  # 2n/lambda_1 = 1
    broken, moved = False, v
    for steps in range(1, STEPS + 1):
        moved = step(x, Fraction(0), moved, eta)
        broken = broken or dot(moved, moved) > dot(v, v) * predict(eta, (Fraction(2),), steps) ** 2
    return Finding(
        "violated" if broken else "holds",
        "||(I - eta/n M X'X M)^t||, t = 1",
        float(predict(eta, (Fraction(2),), 1)),
        float(dot(moved, moved) / dot(v, v)) ** 0.5,
        None,
        "certificate",
        note="n=1, X=(1, 1), eta = 1/4 < 2n/lambda_1 = 1: (1, -1) stays as it is, exactly; the "
        "same on every direction that X M does not see, of which there are at least d - n",
    )


def pseudo_inverse_solution(x: Vector, y: Fraction, w0: Vector) -> Vector:
    """Return (XM)^+ y = x y / ||x||^2 of one sample, wherever gradient descent starts."""
    return tuple(xi * y / dot(x, x) for xi in x)


def _limit(
    predict: Callable[[Vector, Fraction, Vector], Vector], problem: MaskedRegression, seed: int
) -> Finding:
    """Run gradient descent at eta = n/lambda_1, which reaches its limit in one step, exactly."""
    farthest, where = Fraction(0), ""
    for x, y, w0 in STARTS:
        features, target, start = whole(x), Fraction(y), whole(w0)
        eta = 1 / dot(features, features)
        limit = step(features, target, start, eta)
        said = predict(features, target, start)
        gap = tuple(s - t for s, t in zip(said, limit, strict=True))
        if dot(gap, gap) > farthest:
            farthest, where = dot(gap, gap), f"X = {x}, y = {y}, w_0 = {w0}"
    return Finding(
        "violated" if farthest > 0 else "holds",
        "distance of the limit from what the proof says",
        0.0,
        float(farthest) ** 0.5,
        None,
        "certificate",
        note=f"n=1, {where}, exactly" if where else f"exact on {len(STARTS)} instances of n = 1",
    )


SOURCE = "paper 1, appendix A.1, the sentence after equation 3 is proved"
CLAIMS = (
    Claim(
        "prop-5.2-norm",
        "if eta < 2n/lambda_1, then ||(I - eta/n M X'X M)^(t+1)|| < 1",
        "if 0 < eta < 2n/lambda_1, then ||(I - eta/n M X^T X M)^(t+1)||_2 < 1",
        SOURCE,
        norm_on_row_space,
        _norm,
        expected="violated",
        chapter=CHAPTER,
        assumptions=("0 < eta < 2n / lambda_1",),
        proof=(
            "X M has at most n rows, so where d > n it has a kernel, and there the matrix is the "
            "identity: its norm is 1 for every t. On the row space of X M the norm is below 1, and "
            "with w_0 in it the proof goes through."
        ),
        measured=(
            "The matrix is applied to a vector of the kernel in rational arithmetic; its length is "
            "compared with what the inequality allows. Violated if it is above."
        ),
        rejects=("at most 1",),
    ),
    Claim(
        "prop-5.2-limit",
        "if eta < 2n/lambda_1, gradient descent converges to (XM)^+ y from every w_0",
        "if 0 < eta < 2n/lambda_1, w_t converges to (XM)^+ y for every initialization w_0",
        SOURCE,
        pseudo_inverse_solution,
        _limit,
        expected="violated",
        chapter=CHAPTER,
        assumptions=("0 < eta < 2n / lambda_1",),
        proof=(
            "The component of w_0 in the kernel of X M never moves, so the limit is (XM)^+ y plus "
            "that component. With X = (1, 1), y = 0 and w_0 = (1, -1) nothing moves, and (XM)^+ y "
            "= 0. From w_0 = 0, where the paper starts its runs, and from every w_0 in the row "
            "space the limit is right; that gradient descent converges is right for every w_0."
        ),
        measured=(
            "Gradient descent of one sample at eta = n/lambda_1, which arrives in one step, in "
            "rational arithmetic, from four starts. Violated if one limit differs."
        ),
        rejects=("with the kernel's component of w_0",),
    ),
)
