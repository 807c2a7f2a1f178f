"""What notebooks show of values: a short line, a small table, nothing of a user's text as HTML."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import pytest
import torch
from samples import tiny_task

import landscape as ls
from landscape.shown import card, few

MOST = 600
"""Characters of what a cell shows of a value."""


@cache
def model() -> torch.nn.Module:
    made = ls.tiny_model("opt")
    ls.attach(made, ls.random_mask(made, count=404, sampling="exact"))
    return made


@cache
def batches() -> list:
    return ls.make_batches(tiny_task().train[:4], ls.tiny_tokenizer(), 4)


@cache
def hessian() -> ls.HessianOperator:
    return ls.HessianOperator(model(), batches())


@cache
def trained() -> tuple[ls.Trajectory, ls.Training]:
    path = ls.Trajectory(every=1)
    training = ls.Training(
        model(), ls.tiny_tokenizer(), tiny_task(), lr=0.01, epochs=1, probes=[path]
    )
    for _ in training:
        continue
    return path, training


def wide() -> torch.nn.Module:
    """A model with hundreds of tensors, all of them targets."""
    return torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(150)))


def wide_mask() -> ls.Mask:
    return ls.random_mask(wide(), ratio=0.5, targets="*")


def attached() -> object:
    made = ls.tiny_model("opt")
    return ls.attach(made, ls.random_mask(made, count=4, sampling="exact"), dense="*layer_norm")


def task(text: str) -> ls.Task:
    parts = [[ls.Example(f"{text} {split}", ("a", "b"), 0)] for split in range(3)]
    return ls.Task(text[:60], *parts)


#: what a cell ends in, how it is made, words that its line must hold
SHOWN: dict[str, tuple[Callable[[], object], str]] = {
    "a task of long prompts": (lambda: task("long " * 900), "1 train, 1 dev, 1 test"),
    "a mask of 300 tensors": (wide_mask, "in 300 tensors, seed 0"),
    "attach, with dense modules": (attached, " more"),
    "delta": (lambda: ls.delta(model()), "delta of 404 weights in 4 masked tensors"),
    "distance": (lambda: ls.distance(model()), "distance "),
    "overlap": (lambda: ls.overlap(ls.delta(model()), ls.delta(model())), "404 weights in both"),
    "Hessian": (hessian, "HessianOperator, 404 x 404"),
    "matrix": (lambda: ls.MatrixOperator(torch.eye(300)), "MatrixOperator, 300 x 300"),
    "block": (lambda: next(iter(ls.module_blocks(hessian()).values())), "RestrictedOperator"),
    "health": (lambda: ls.health_check(hessian()), "Health"),
    "eigenvalues": (lambda: ls.lanczos(hessian()), "by lanczos"),
    "a whole spectrum": (
        lambda: ls.exact_spectrum(ls.MatrixOperator(torch.eye(300))), "and 295 more"),
    "density": (lambda: ls.spectral_density(hessian(), num_vectors=2, steps=8), "of 404 eigen"),
    "trace": (lambda: ls.trace(hessian()), "Trace"),
    "surface": (lambda: ls.surface_2d(
        model(), batches(), ls.random_directions(model(), 2), span=1.0, points=3
    ), "surface 3 x 3"),
    "training": (lambda: trained()[1], "training on tiny, 3 of 3 steps, finished"),
    "run": (lambda: trained()[1].run, "run on tiny, finished after 3 steps: test accuracy 0."),
    "trajectory": (lambda: trained()[0], "trajectory of 4 points, steps 0 to 3"),
    "principal directions": (lambda: trained()[0].pca(model(), 2), "of 404 parameters, expl"),
    "probe": (lambda: ls.SharpnessProbe(batches()), "probe of 0 measurements"),
    "lane": (lambda: ls.Lane(task("t"), mask=wide_mask(), lr=0.1), "lane on t, lr 0.1; "),
    "configuration": (ls.RunConfig, "smollm2-135m"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_a_cell_that_ends_in_a_value_shows_one_short_line(name: str) -> None:
    made, words = SHOWN[name]
    value = made()
    line = repr(value)
    assert words in line
    assert len(line) <= MOST
    assert "\n" not in line
    assert " object at 0x" not in line
    if hasattr(value, "_repr_html_"):
        page = value._repr_html_()
        assert re.sub("<[^>]*>", "", page).startswith(line[:4])
        assert len(page) <= MOST


def test_texts_of_others_are_no_html() -> None:
    page = task("<script>alert(1)</script>")._repr_html_()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4
    assert card("a", {"<b>": "<i>"}).count("&lt;") == 2


def test_a_table_says_how_many_parts_it_leaves_out() -> None:
    page = card("line", {f"part {i}": i for i in range(8)})
    assert page.count("<th>") == 5
    assert "and 3 more" in page


def test_nothing_is_said_to_be_left_where_all_is_shown() -> None:
    assert few("ab", most=2) == "a, b"
    assert "more" not in card("x", dict.fromkeys("abcde", 1))
    assert "<tr><td>and 1 more</td></tr>" in card("x", dict.fromkeys("abcdef", 1))
    assert f"<td>{'y' * 60}</td>" in card("x", {"a": "y" * 60})
    assert f"<td>{'y' * 59}…</td>" in card("x", {"a": "y" * 61})
