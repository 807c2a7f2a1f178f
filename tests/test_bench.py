"""Benchmarks: what they report is complete and computed from what they timed."""

from __future__ import annotations

import json
from functools import partial
from statistics import median

import pytest
from transformers import OPTConfig

import landscape as ls
from landscape.bench import kernels as bench
from landscape.bench import step
from landscape.cli import main

TINY = partial(
    OPTConfig, vocab_size=50_272, hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
    ffn_dim=64, word_embed_proj_dim=64,
)  # fmt: skip


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SHAPE", (16, 24))
    monkeypatch.setattr(bench, "DENSITIES", (0.01, 0.5))
    monkeypatch.setattr(bench, "TOKENS", (8, 32))


@pytest.mark.usefixtures("small_grid")
def test_every_cell_times_every_kernel_and_judges_the_choice() -> None:
    result = bench.bench_kernels(rounds=1)
    assert [(c["density"], c["tokens"]) for c in result["cells"]] == [
        (0.01, 8), (0.01, 32), (0.5, 8), (0.5, 32)
    ]  # fmt: skip
    for cell in result["cells"]:
        times = cell["milliseconds"]
        assert set(times) == {"gather", "sampled", "dense"}
        best = min(times.values())
        assert cell["choice_over_best"] == pytest.approx(times[cell["choice"]] / best)
    over = [c["choice_over_best"] for c in result["cells"]]
    assert result["worst_choice"] == max(over) >= 1
    assert result["median_choice"] == median(over)


def test_the_fit_recovers_the_constants_that_made_the_times() -> None:
    rows, cols = bench.SHAPE
    cells = [
        {"k": k, "tokens": t, "milliseconds": {
            "gather": 3e-6 * k * t, "sampled": (1e-6 * (rows + cols) + 2e-7 * k) * t,
            "dense": 5e-9 * rows * cols * t,
        }} for k in (10, 1000, 100_000) for t in (64, 512)
    ]  # fmt: skip
    fitted = bench.fit(cells)
    expected = {"GATHER_ENTRY": 3e-9, "SAMPLED_ROW": 1e-9, "SAMPLED_ENTRY": 2e-10}
    for name, value in (expected | {"DENSE_ENTRY": 5e-12}).items():
        assert fitted[name] == pytest.approx(value, rel=1e-6)


def test_the_step_bench_reports_every_ratio_the_scripts_read(monkeypatch, capsys) -> None:
    monkeypatch.setattr(step, "OPTConfig", TINY)
    monkeypatch.setattr(step, "BATCH", 2)
    monkeypatch.setattr(step, "TOKENS", 8)
    honest = step.bench_step
    monkeypatch.setattr(step, "_peak_of", lambda name, seed: {"masked_full_head": 3}.get(name, 2))
    monkeypatch.setattr(step, "bench_step", lambda rounds: honest(rounds=rounds))
    assert main(["bench", "step", "--rounds", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.strip().split("\n")[-1])
    for key in (
        "masked_over_floor", "masked_over_lora", "masked_over_lora_same_head",
        "masked_over_shira", "masked_over_full",
    ):  # fmt: skip
        assert result[key] > 0
    assert result["peak_memory_masked_over_floor"] == 1.5
    assert {"device", "threads", "versions"} <= set(result["provenance"])


@pytest.mark.parametrize("name", ["masked", "lora", "shira", "full", "floor"])
def test_every_variant_trains_what_it_says(monkeypatch, name) -> None:
    monkeypatch.setattr(step, "OPTConfig", TINY)
    _, parameters = step._METHODS[name](step.OPTForCausalLM(TINY()).eval())
    wanted = {"floor": 0, "full": sum(p.numel() for p in step.OPTForCausalLM(TINY()).parameters())}
    count = sum(p.numel() for p in parameters)
    if name in wanted:
        assert count == wanted[name]
    elif name == "lora":
        assert count == 2 * 8 * (64 + 64)
    else:
        assert 0 < count <= 2 * 64 * 64


def test_no_rounds_are_refused() -> None:
    for bench_any in (bench.bench_kernels, step.bench_step):
        with pytest.raises(ls.UserError, match="at least 1"):
            bench_any(rounds=0)
