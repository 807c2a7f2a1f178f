"""Nested masks: against all pairs in dense matrices, by hand, and in the engine's growing masks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from theory import DISTRIBUTIONS, make_problem
from theory.factors import factor_of
from theory.growing import grow, nested_sharpness, residual_run
from theory.statements.nested import equality, farthest, nested_ends, unstable_step
from theory.suite import claim

GROWING = {"add": 24, "every": 10, "stages": 12}


@pytest.mark.parametrize("features", ["gaussian", "student", "uniform", "rank-deficient"])
def test_every_pair_of_nested_masks_is_ordered_in_dense_matrices(features: str) -> None:
    x = make_problem(features, n=2, d=5, p=0.5, seed=4).features.columns().T
    rng = np.random.default_rng(0)
    for large in product((0, 1), repeat=5):
        for small in product(*[(0, bit) if bit else (0,) for bit in large]):
            a, b = x * np.array(small), x * np.array(large)
            below, above = np.linalg.eigvalsh(a @ a.T), np.linalg.eigvalsh(b @ b.T)
            added = np.linalg.eigvalsh(b @ b.T - a @ a.T)[-1]
            assert (below <= above + 1e-12 * above[-1]).all()
            assert (above <= below + added + 1e-12 * above[-1]).all()
            y = a @ rng.standard_normal(5)  # S interpolates it
            near, far = (np.linalg.lstsq(m, y, rcond=1e-10)[0] for m in (b, a))
            assert np.linalg.norm(near) <= np.linalg.norm(far) * (1 + 1e-8)


def test_a_mask_that_does_not_interpolate_may_be_nearer_than_a_larger_one() -> None:
    """X = diag(1, 1/9), y = (1, 1): S = {0} solves at distance 1, S' = {0, 1} at sqrt(82)."""
    x, y = np.diag([1.0, 1 / 9]), np.ones(2)
    assert np.linalg.norm(np.linalg.pinv(x[:, :1]) @ y) == pytest.approx(1)
    assert np.linalg.norm(np.linalg.pinv(x) @ y) == pytest.approx(82**0.5)


def test_the_farthest_solution_over_all_targets_is_the_worst_of_many() -> None:
    x = make_problem("gaussian", n=3, d=7, p=0.5).features.columns()
    small, large = x[:4], x
    said = farthest(factor_of(small), factor_of(large))
    targets = np.random.default_rng(1).standard_normal((4000, 3))
    far = np.linalg.norm(targets @ np.linalg.pinv(small.T).T, axis=1)
    near = np.linalg.norm(targets @ np.linalg.pinv(large.T).T, axis=1)
    assert (near / far).max() <= said * (1 + 1e-12) < 1
    assert (near / far).max() == pytest.approx(said, rel=0.01)


def test_both_ends_are_attained_by_columns_of_one_and_zero() -> None:
    assert equality(nested_ends) <= 1
    for wrong in (
        lambda v, added: (v * (1 + 1e-9), v + added, 1.0),
        lambda v, added: (v, v + added * (1 - 1e-9), 1.0),
        lambda v, added: (v, v + added, 1 - 1e-7),
    ):
        assert equality(wrong) > 1


def test_the_step_that_is_too_sharp_is_the_first_above_two_over_the_rate() -> None:
    assert unstable_step([1.0, 2.0, 4.0, 8.0], 0.5) == 3  # at 4 = 2 / lr it alternates
    assert unstable_step([1.0, 2.0], 0.5) is None


@pytest.mark.parametrize("features", ["gaussian", "student"])
def test_the_engines_loss_grows_from_the_step_that_the_nested_spectrum_names(
    features: str,
) -> None:
    """Fresh noise keeps every direction alive; the spectrum is known before training."""
    problem = make_problem(features, n=6, d=600, p=0.5, seed=1)
    order = np.random.default_rng(0).permutation(600)
    tops = nested_sharpness(problem, order, **GROWING)
    assert (np.diff(tops) >= -1e-12 * tops[-1]).all()
    lr = 1.05 * 2 / tops[70]
    step = unstable_step(tops, lr)
    assert step is not None
    assert 40 < step <= 70
    run = grow(problem, order, lr=lr, noise=1e-2, **GROWING)
    assert run.sharpness == pytest.approx(tops, rel=1e-9)  # the engine's masks are those
    by_hand = residual_run(problem, order, lr=lr, noise=1e-2, **GROWING)
    assert run.losses == pytest.approx(by_hand.losses, rel=1e-6)
    floor = run.losses[30 : step + 1].max()
    first = int(np.flatnonzero(run.losses[30:] > 3 * floor)[0]) + 30
    assert step < first <= step + 3 * GROWING["every"]
    assert run.losses[-1] > 100 * floor


def test_without_noise_the_engines_loss_never_rises_before_that_step() -> None:
    problem = make_problem("student", n=6, d=200, p=0.5, seed=1)
    order = np.random.default_rng(0).permutation(200)
    shape = {"add": 16, "every": 4, "stages": 12}
    tops = nested_sharpness(problem, order, **shape)
    lr = 1.1 * 2 / tops[6 * 4]
    losses = grow(problem, order, lr=lr, **shape).losses
    step = unstable_step(tops, lr)
    assert step is not None
    assert (np.diff(losses[: step + 1]) <= 1e-12 * losses[0]).all()
    assert np.isfinite(losses).all()
    assert losses[-1] > losses[step]


@pytest.mark.parametrize("features", DISTRIBUTIONS)
def test_the_claim_says_when_a_growing_mask_gets_too_sharp(features: str) -> None:
    finding = claim("nested-masks").verify(make_problem(features, n=3, d=200, p=0.5)).finding
    assert finding.verdict == "holds"
    assert finding.details["largest rise of the loss before that step"] <= 1e-12
    if not finding.note.startswith("numerically"):
        assert "gets too sharp for its rate at step" in finding.note
