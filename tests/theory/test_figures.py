"""The figures: four files for any instance, lines where the theory says, no colour left over."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.image import imread

from landscape.errors import UserError
from theory import DISTRIBUTIONS, bounds, make_problem
from theory.__main__ import main
from theory.figures import (
    FIGURES,
    concentration,
    distances,
    draw_figure,
    draw_figures,
    stability,
    trajectories,
)
from theory.figures.trajectories import curves, few_heavy, rate_band


def lines(axes: object) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {line.get_label(): line.get_data() for line in axes.get_lines()}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("draw", FIGURES.values())
def test_every_distribution_can_be_drawn_without_a_warning(name: str, draw: Callable) -> None:
    draw(make_problem(name, n=3, d=400, p=0.5, sigma=0.0 if name == "sparse" else 1.0), 0)


@pytest.mark.parametrize(("n", "d"), [(1, 100), (50, 40)])
@pytest.mark.parametrize("draw", FIGURES.values())
def test_one_sample_and_more_samples_than_features_can_be_drawn(
    n: int, d: int, draw: Callable
) -> None:
    assert draw(make_problem("gaussian", n=n, d=d, p=0.5), 0).axes


@pytest.mark.filterwarnings("error")
def test_drawing_writes_every_picture_and_leaves_no_style_behind(tmp_path: Path) -> None:
    before = dict(rcParams)
    paths = draw_figures(make_problem("uniform", n=3, d=400, p=0.5), tmp_path / "new" / "folder")
    assert [path.stem for path in paths] == list(FIGURES)
    for path in paths:
        assert imread(path).std() > 0.02  # something is drawn
    assert dict(rcParams) == before


def test_the_bound_of_theorem_51_is_flat_in_p_and_bernsteins_is_not() -> None:
    problem = make_problem("gaussian", n=4, d=2000, p=0.5)
    (left, right, _), found = concentration(problem).axes, {}
    for axes in (left, right):
        found[axes] = lines(axes)
    p, flat = found[left]["theorem 5.1, corrected"]
    assert np.ptp(flat) == 0
    assert flat[0] == bounds.theorem_51_corrected(4, 2000, problem.bound, problem.delta)
    measured = next(v for k, v in found[left].items() if k.startswith("measured"))[1]
    bernstein = found[left]["matrix Bernstein"][1]
    assert (measured < bernstein).all()
    assert bernstein[-1] > 1.5 * bernstein[0]  # about sqrt(p), less its linear term
    d, whole = found[right]["$p\\,\\lambda_1(X^TX)$"]
    assert d[-1] == 2000
    assert whole[-1] == pytest.approx(0.1 * problem.moments.top, rel=1e-12)
    assert p[-1] == 0.5


def test_the_stable_steps_drawn_are_2_over_lambda_with_38_for_adam() -> None:
    problem = make_problem("gaussian", n=4, d=2000, p=0.5)
    growth, instance, isotropic, _ = stability(problem).axes
    assert [text.get_text() for text in growth.texts] == ["2", "3.8", "38"]
    for axes in (instance, isotropic):
        p, steps = lines(axes)["measured, a mask"]
        over = steps / (2 * 4 / (p * problem.moments.top))
        shares = np.unique(p)
        medians = np.array([np.median(over[p == share]) for share in shares])  # three masks each
        assert (medians < 1).all()
        assert medians[-1] == pytest.approx(1, rel=0.1)
        assert medians[shares * 2000 < 4 * 4].mean() < 0.75  # the law in 1/p is over


def test_bars_certified_from_heavy_columns_hold_the_measured_steps() -> None:
    for axes in stability(make_problem("student", n=4, d=2000, p=0.5)).axes[1:]:
        (bars,) = (c for c in axes.collections if c.get_label().startswith("certified"))
        dots = lines(axes)["measured, a mask"][1]
        inside = [
            bar[0, 1] <= dot <= bar[1, 1]
            for bar, dot in zip(bars.get_segments(), dots, strict=True)
        ]
        assert len(inside) == 27
        assert sum(inside) >= 25


def test_knowing_the_heavy_columns_narrows_the_bound_of_heavy_tailed_features() -> None:
    heavy = lines(concentration(make_problem("gaussian", n=4, d=2000, p=0.5)).axes[2])
    plain, known = (
        heavy["matrix Bernstein"][1],
        heavy["the same, mask known\non the heavy columns"][1],
    )
    assert (known < 0.5 * plain)[:5].all()


def test_dots_of_gradient_descent_lie_on_the_lines_of_the_closed_form() -> None:
    for axes in trajectories(make_problem("gaussian", n=4, d=400, p=0.5)).axes:
        dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
        assert len(dots) == 4 * 3  # four times for a mask at each of three p
        for dot in dots:
            (time,), (value,) = dot.get_data()
            same = [line for line in axes.get_lines() if line.get_color() == dot.get_color()]
            curve = next(line for line in same if len(line.get_xdata()) > 1)
            steps, closed = curve.get_data()
            assert closed[np.abs(steps - time).argmin()] == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_all_masks_share_one_clock_where_every_eigenvalue_is_the_same() -> None:
    """X X^T = m I: the share left after t steps is (1 - eta p m / n)^(2t), whatever y is."""
    problem = make_problem("tiled", n=4, d=4000, p=0.5)
    whole = problem.restrict(np.arange(4000))
    share, distance = curves(whole, 0.25 * 4 / 1000, np.array([1, 5, 9]))
    assert share == pytest.approx(0.75 ** np.array([2.0, 10.0, 18.0]), rel=1e-9)
    end = float(np.linalg.norm(whole.minimum_norm()))
    assert distance == pytest.approx(end * (1 - 0.75 ** np.array([1.0, 5.0, 9.0])), rel=1e-9)


def test_the_band_of_rates_holds_all_rates_of_19_masks_in_20() -> None:
    problem = make_problem("gaussian", n=4, d=2000, p=0.2)
    low, high = rate_band(problem, 0.2)
    assert 0 < low < 1 < high
    whiten = np.linalg.inv(np.linalg.cholesky(problem.moments.gram))
    rates = np.linalg.eigvalsh(whiten @ np.concatenate(list(problem.grams(200))) @ whiten.T) / 0.2
    assert ((rates >= low) & (rates <= high)).all(axis=1).mean() >= 0.95
    assert rate_band(make_problem("rank-deficient", n=4, d=2000), 0.05) == (0.0, math.inf)


def test_few_heavy_columns_are_the_given_ones_over_the_root_of_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("theory.features.BLOCK", 64)
    problem = make_problem("gaussian", n=2, d=150)
    x = problem.features.columns()
    found = few_heavy(problem.features).columns()[[0, 99]]
    assert found == pytest.approx(x[[0, 99]] / [[1], [10]], rel=1e-14)


def test_the_bound_is_below_the_identity_and_both_fall_like_the_root_of_p() -> None:
    problem = make_problem("gaussian", n=4, d=4000, p=0.5)
    found = lines(distances(problem).axes[0])
    p, identity = found["identity, median of masks"]
    assert (found["bound of proposition 5.3"][1] <= identity * (1 + 1e-12)).all()
    law = found["equal leverages, $D/\\sqrt{q}$"]
    assert law[1][-1] == pytest.approx(identity[-1], rel=1e-9)  # p = 1
    nearest = np.argmin(np.abs(law[0] - 0.01))
    exact = identity[-1] / ((law[0][nearest] * 4000 - 4) / 3996) ** 0.5
    assert law[1][nearest] == pytest.approx(exact, rel=1e-9)
    many = p * 4000 > 100
    slope = np.polyfit(np.log(p[many]), np.log(identity[many]), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.05)


def test_the_command_line_draws_and_refuses_what_cannot_be_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = ["--n", "2", "--d", "150", "--claim", "eq-3", "--figures"]
    assert main([*some, str(tmp_path / "figures")]) == 0
    assert len(list((tmp_path / "figures").glob("*.png"))) == len(FIGURES)
    (tmp_path / "file").write_text("")
    assert main([*some, str(tmp_path / "file")]) == 2
    assert "error: expected a folder" in capsys.readouterr().err
    with pytest.raises(UserError, match="at least 100 features"):
        draw_figures(make_problem(np.ones((2, 5)), p=0.5), tmp_path)
    with pytest.raises(UserError, match="got 'spectrum'"):
        draw_figure("spectrum", make_problem())
