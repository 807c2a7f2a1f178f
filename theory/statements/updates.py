"""How many updates ID3 (paper 2) makes: counted, and as its sums and its algorithm print them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from landscape import seeds
from theory import purposes
from theory.claim import Claim, Finding, ratio
from theory.features import Array
from theory.problems import MaskedRegression
from theory.restricted import Restricted

CHAPTER = "ID3"
BATCHES = (1, 2, 3, 8)
SCHEDULES = ((1, 1, 1), (2, 2, 2, 2), (3, 0, 0), (1, 0, 4))  # u_t, new weights before each step
Counts = Callable[[int, int], tuple[int, int]]


def update_counts(budget: int, steps: int) -> tuple[int, int]:
    """Return scalar updates of static selection, T B, and of uniform increments, B (T+1)/2.

    Needs T to divide B.

    >>> update_counts(3, 3)
    (9, 6)
    """
    return steps * budget, budget * (steps + 1) // 2


def trained_updates(
    mask: Restricted, schedule: Sequence[int], eta: float, *, late: bool = False
) -> int:
    """Train with H at eps = 1, exp = 0, and count the entries that move.

    Args:
        mask: the regression.
        schedule: u_t, how many weights of largest |gradient| outside the selection are added
            before each step.
        eta: the rate.
        late: mask the step by the selection before the addition, as equation 3 of the paper does
            inside algorithm 1.
    """
    w, selected, updates = np.zeros(mask.k), np.zeros(mask.k, dtype=bool), 0
    for new in schedule:
        gradient = mask.gradient(w)
        score = np.where(selected, -1.0, np.abs(gradient))
        before = selected.copy()
        selected[np.argsort(-score, kind="stable")[:new]] = True
        moving = before if late else selected
        w = np.where(moving, w - eta * gradient, w)
        updates += int(moving.sum())
    return updates


def sample(problem: MaskedRegression, size: int, seed: int) -> tuple[Restricted, float]:
    """Return the regression on some features of the instance, and a stable rate."""
    order = seeds.numbered(seed, purposes.FEATURES).permutation(problem.d)
    mask = problem.restrict(np.sort(order[:size]).astype(np.int64))
    return mask, problem.n / max(mask.top, 1e-300)


def count_updates(
    problem: MaskedRegression, budget: int, steps: int, seed: int, *, late: bool = False
) -> tuple[int, int]:
    """Return the counted updates of both selections: all at once, and budget/steps a step."""
    mask, eta = sample(problem, 4 * budget, seed)
    once = [budget, *(0 for _ in range(steps - 1))]
    even = [budget // steps] * steps
    static = trained_updates(mask, once, eta)
    return static, trained_updates(mask, even, eta, late=late)


def _count(predict: Counts, problem: MaskedRegression, seed: int, *, late: bool) -> Finding:
    cases = [(per * steps, steps) for per in BATCHES for steps in (1, 2, 5, 16)]
    cases = [(budget, steps) for budget, steps in cases if 4 * budget <= problem.d]
    if not cases and not late:
        return Finding("vacuous", "scalar updates", 0.0, 0.0, note="fewer than four features")
    pairs = [(predict(b, t), count_updates(problem, b, t, seed, late=late)) for b, t in cases]
    same = all(said == seen for said, seen in pairs)
    said, seen = pairs[-1]
    budget, steps = cases[-1]
    return Finding(
        "holds" if same else "violated",
        "scalar updates, increments",
        said[1],
        seen[1],
        ratio(said[1], seen[1]),
        note=f"counted in training: B={budget}, T={steps}, static {seen[0]}, increments {seen[1]}",
        details={"cases": len(cases), "static": seen[0], "static predicted": said[0]},
    )


def _updates(predict: Counts, problem: MaskedRegression, seed: int) -> Finding:
    return _count(predict, problem, seed, late=False)


@cache
def hand_sized() -> MaskedRegression:
    """Return a regression of one sample and 600 distinct features, for counting."""
    from theory.problems import make_problem

    return make_problem(np.arange(1.0, 601.0)[None], p=1.0)


def _literal(predict: Counts, problem: MaskedRegression, seed: int) -> Finding:
    from dataclasses import replace

    return replace(_count(predict, hand_sized(), seed, late=True), method="certificate")


def printed_sums(schedule: Sequence[int]) -> tuple[int, int]:
    """Return the two sums of section 3.2 as printed, of a schedule u_0 .. u_{T-1}.

    U_static = sum_{t=0}^{T} B and U_dynamic = sum_{t=0}^{T-1} sum_{i=0}^{t} u_t, with u_t inside.

    >>> printed_sums((1, 1, 1)), printed_sums((3, 0, 0))
    ((12, 6), (12, 3))
    """
    budget, steps = sum(schedule), len(schedule)
    static = sum(budget for t in range(steps + 1))
    return static, sum(schedule[t] for t in range(steps) for i in range(t + 1))


def _sums(
    predict: Callable[[Sequence[int]], tuple[int, int]], problem: MaskedRegression, seed: int
) -> Finding:
    mask, eta = sample(hand_sized(), 40, seed)
    wrong, note = 0, ""
    said, seen = (0, 0), (0, 0)
    for schedule in SCHEDULES:
        once = [sum(schedule), *(0 for _ in schedule[1:])]
        said = predict(schedule)
        seen = trained_updates(mask, once, eta), trained_updates(mask, schedule, eta)
        if said != seen:
            wrong += 1
            note = note or f"u = {schedule}: sums {said}, counted {seen} (static, increments)"
            note = note if wrong != 3 else f"{note}; u = {schedule}: {said}, {seen}"
    return Finding(
        "violated" if wrong else "holds",
        f"static updates, u = {SCHEDULES[-1]}",
        said[0],
        seen[0],
        ratio(said[0], seen[0]),
        "certificate",
        note=note or f"counted for {len(SCHEDULES)} schedules",
    )


def printed_step(w: Array, gradient: Array, eta: float) -> Array:
    """Return theta + eta grad, the step of algorithm 1 as printed."""
    return w + eta * gradient


def _sign(
    predict: Callable[[Array, Array, float], Array], problem: MaskedRegression, seed: int
) -> Finding:
    """Take one step from 0 on one sample, x = 1, y = 1: the loss is (1 - w)^2 / 2, all exact."""
    mask = Restricted(np.arange(1), np.ones((1, 1)), np.ones(1))
    w, eta = np.zeros(1), 0.5
    after = mask.loss(predict(w, mask.gradient(w), eta))
    return Finding(
        "violated" if after > mask.loss(w) else "holds",
        "loss after one step, from 1/2, at a quarter of the stable rate",
        mask.loss(w),
        after,
        None,
        "certificate",
        note="x = y = 1, w = 0, eta = 1/2: the gradient is -1; the other sign reaches 1/8",
    )


CLAIMS = (
    Claim(
        "id3-updates",
        "scalar updates over T steps: static T B, uniform increments B (T+1)/2",
        "scalar updates over T steps with budget B: static T B, uniform increments B (T+1)/2",
        "paper 2, section 3.2, the values of its two sums",
        update_counts,
        _updates,
        chapter=CHAPTER,
        assumptions=("T divides B", "each step moves the weights added before it, too"),
        proof="Step t = 1 .. T moves t B/T weights; the sum of t is T (T+1)/2. The ratio to T B is "
        "1/2 + 1/(2T).",
        measured="A regression on features of the instance is trained with both selections, and "
        "every weight that a step moves is counted, for up to 16 pairs of B and T. Violated if "
        "one count differs.",
        rejects=("as many as static", "first batch not counted"),
    ),
    Claim(
        "id3-literal",
        "algorithm 1 with equation 3, read literally, makes B (T+1)/2 updates",
        "algorithm 1, whose gradient is masked by equation 3 with the selection Lambda_t, makes "
        "B (T+1)/2 scalar updates in T steps of uniform increments",
        "paper 2, algorithm 1 and equation 3",
        update_counts,
        _literal,
        expected="violated",
        chapter=CHAPTER,
        assumptions=("T divides B",),
        proof="Algorithm 1 starts from the empty Lambda_0 and puts the new weights into "
        "Lambda_(t+1); equation 3 keeps the gradient on Lambda_t. So the first step moves nothing "
        "and the count is B (T-1)/2. Section 3.2 itself puts them into Lambda_t, and with that "
        "index the count is right: the slip is one of an index.",
        measured="A regression of one sample is trained by the algorithm as printed (but for its "
        "sign), and moves are counted. Violated if one count differs.",
        rejects=("first batch not counted",),
    ),
    Claim(
        "id3-sums",
        "the two sums printed for the updates count them: sum_0^T B and sum_t sum_(i<=t) u_t",
        "over T steps, static selection makes sum_{t=0}^{T} B updates and increments make "
        "sum_{t=0}^{T-1} sum_{i=0}^{t} u_t",
        "paper 2, section 3.2, its two sums",
        printed_sums,
        _sums,
        expected="violated",
        chapter=CHAPTER,
        proof="A sum from 0 to T has T + 1 terms, so the first is (T + 1) B where T B is meant and "
        "printed as its value. Inside the second, u_t should be u_i: with u_t it counts t + 1 "
        "times what step t adds, not what was added before it. For a uniform schedule, the one "
        "that is evaluated, both are the same.",
        measured="Updates of four schedules are counted in training and compared with both sums. "
        "Violated if one differs.",
        rejects=("T terms, and u_i inside",),
    ),
    Claim(
        "id3-sign",
        "a step of algorithm 1, theta + eta grad, lowers the loss",
        "the parameter update theta_(t+1) = theta_t + eta grad lowers the loss at a small rate",
        "paper 2, algorithm 1, its parameter update",
        printed_step,
        _sign,
        expected="violated",
        chapter=CHAPTER,
        assumptions=("grad is the gradient of the loss, as algorithm 1 defines it",),
        proof="Along the gradient a convex quadratic grows: L(w + eta g) = L(w) + eta |g|^2 + "
        "eta^2 g'Hg / 2. A misprint: a descent subtracts.",
        measured="One step on one sample, in numbers that float64 holds exactly. Violated if the "
        "loss is higher after it.",
        rejects=("minus",),
    ),
)
