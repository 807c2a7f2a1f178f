"""The bench: its naive rivals compute the same numbers, and its last line is one JSON object."""

from __future__ import annotations

import json
import math
from functools import partial

import numpy as np
import pytest

from theory import bench, draw
from theory.spectra import draw_mask, masked_grams


def test_the_naive_ways_give_the_same_eigenvalues_as_the_selected_columns() -> None:
    features = draw("uniform", 5, 300, seed=1)
    x, mask = features.columns().T, draw_mask(np.random.default_rng(2), 300, 0.1)
    ours = np.linalg.eigvalsh(masked_grams(features, [mask])[0])[::-1]
    scale = 100 * np.finfo(np.float64).eps * ours[0]
    assert bench.naive_eigenvalues(x, mask) == pytest.approx(ours, abs=scale)
    assert bench.dense_eigenvalues(x, mask) == pytest.approx(ours, abs=scale)


def test_the_last_line_is_one_json_object_with_the_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = partial(bench.measure, 4, 2000, dense_d=100, count=100)
    monkeypatch.setattr(bench, "measure", small)
    assert bench.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["n"], found["d"]) == (4, 2000)
    assert set(found["masks_per_second"]) == {"0.1", "0.01", "0.001"}
    for name in ("speedup_vs_naive", "seconds_10k_masks", "over_gram_floor", "exponent_in_pd"):
        assert math.isfinite(found[name])
    assert found["over_gram_floor"] > 1
    assert found["seconds_10k_masks"] == pytest.approx(10_000 / found["masks_per_second"]["0.01"])
    assert bench.main([]) == 0
    assert "10,000 masks" in capsys.readouterr().out


def test_time_over_the_floor_counts_the_same_masks_once_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clock that ticks by the columns multiplied, and by those drawn, gives the ratio by hand."""
    ticks = [0.0]
    products, draws = bench.gram_of, bench.draw_mask

    def multiply(columns: np.ndarray) -> np.ndarray:
        ticks[0] += 10 * len(columns)
        return products(columns)

    def drawn(rng: np.random.Generator, d: int, p: float) -> np.ndarray:
        mask = draws(rng, d, p)
        ticks[0] += 5 * len(mask)
        return mask

    monkeypatch.setattr(bench, "gram_of", multiply)
    monkeypatch.setattr("theory.spectra.gram_of", multiply)
    monkeypatch.setattr(bench, "draw_mask", drawn)
    monkeypatch.setattr(bench.time, "process_time", lambda: ticks[0])
    assert bench.over_gram_floor(draw("uniform", 3, 500), 0.1, 7) == 1.5
