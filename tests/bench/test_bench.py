"""Benchmarks: what they report is complete and computed from what they timed."""

from __future__ import annotations

import importlib.util
import json
import time
from functools import partial
from statistics import median

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig

import landscape as ls
from landscape.bench import apart, curvature, generate, interleaved, scoring, step, variants
from landscape.bench import kernels as bench
from landscape.bench.curvature import cases, libraries, overhead
from landscape.cli import main
from landscape.kernels.choice import KERNELS
from landscape.models.tensors import num_parameters

TINY = partial(
    OPTConfig, vocab_size=50_272, hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
    ffn_dim=64, word_embed_proj_dim=64,
)  # fmt: skip


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SHAPE", (16, 24))
    monkeypatch.setattr(bench, "DENSITIES", (0.01, 0.5))
    monkeypatch.setattr(bench, "TOKENS", (8, 32))
    monkeypatch.setattr(bench, "CHUNKS", (64, 256))


@pytest.mark.usefixtures("small_grid")
def test_every_cell_times_every_kernel_and_judges_the_choice() -> None:
    result = bench.bench_kernels(rounds=1)
    sizes = [(0.01, 8), (0.01, 32), (0.5, 8), (0.5, 32)]
    assert [(c["pattern"], c["density"], c["tokens"]) for c in result["cells"]] == [
        (pattern, *size) for pattern in ("random", "columns") for size in sizes
    ]
    for cell in result["cells"]:
        times = cell["milliseconds"]
        assert {"gather", "sampled", "dense"} <= set(times)
        assert ("submatrix" in times) == (cell["pattern"] == "columns" or cell["k"] == 1)
        best = min(times.values())
        assert cell["choice_over_best"] == pytest.approx(times[cell["choice"]] / best)
    over = [c["choice_over_best"] for c in result["cells"]]
    assert set(result["gather_chunks"]) == {"64", "256"}
    assert min(result["gather_chunks"].values()) >= 1
    assert result["worst_choice"] == max(over) >= 1
    assert result["median_choice"] == median(over)


def synthetic(constants: dict[str, float], noise: float, seed: int = 0) -> list[dict]:
    """Make cells whose times are those of a model with given constants, but for noise."""
    rng = np.random.default_rng(seed)
    cells = []
    rows, cols = bench.SHAPE
    for pattern in bench.PATTERNS:
        for density in bench.DENSITIES:
            for tokens in bench.TOKENS:
                k, inner = max(1, round(density * rows * cols)), None
                if pattern == "columns":
                    inner = [rows, max(1, k // rows)]
                    k = inner[0] * inner[1]
                cell = {"k": k, "tokens": tokens, "submatrix": inner}
                kernels = ["gather", "native", "sampled", "dense", "spops"] + ["submatrix"] * bool(
                    inner
                )
                work = bench._work(cell)
                cell["milliseconds"] = {
                    name: 1e3
                    * KERNELS[name].seconds(work, constants)
                    * np.exp(noise * rng.normal())
                    for name in kernels
                }
                cells.append(cell)
    return cells


CONSTANTS = bench.constants()
#: far from the constants in use, as another machine would be
OTHER = {name: value * (3.0 if i % 2 else 0.4) for i, (name, value) in enumerate(CONSTANTS.items())}


def test_the_fit_recovers_the_constants_that_made_the_times() -> None:
    fitted = bench.fit(synthetic(OTHER, noise=0.0))
    on_a_cpu = {name: v for name, v in OTHER.items() if not name.startswith("triton")}
    assert fitted.keys() == on_a_cpu.keys()
    for name, value in on_a_cpu.items():
        assert fitted[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_model_fitted_to_noisy_times_chooses_within_15_percent_of_the_best(seed) -> None:
    fitted = bench.fit(synthetic(OTHER, noise=0.05, seed=seed))
    # judged on the times without noise: what the machine really takes
    over = [bench.choice_over_best(c, fitted)[1] for c in synthetic(OTHER, noise=0.0)]
    assert max(over) <= 1.15


def test_a_bad_choice_is_reported_as_bad() -> None:
    slow = {n: v * (1e3 if n.startswith("native") else 1) for n, v in CONSTANTS.items()}
    over = [bench.choice_over_best(cell, CONSTANTS)[1] for cell in synthetic(slow, noise=0.0)]
    assert max(over) > 10


SMALL = variants.Shape(2, 8, tuple((TINY.keywords | {"vocab_size": 1000}).items()))


class Here:
    """A benchmark's step in this process, with an invented peak of memory."""

    def __init__(self, variant: variants.Variant, seed: int, shape: variants.Shape) -> None:
        self._step = variants.build(variant, seed, shape)
        larger = variants.Variant("masked", layers="all", ratio=9.9e-3)
        self._peak = 3 if variant in (larger, variants.VARIANTS["masked_full_head"]) else 2

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self) -> float:
        start = time.perf_counter()
        self._step()
        return time.perf_counter() - start

    def peak(self) -> int:
        return self._peak


def test_the_step_bench_reports_every_ratio_the_scripts_read(monkeypatch, capsys) -> None:
    honest = step.bench_step
    monkeypatch.setattr(step, "Apart", Here)
    monkeypatch.setattr(step, "bench_step", lambda rounds: honest(rounds=rounds, shape=SMALL))
    assert main(["bench", "step", "--rounds", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for key in (
        "masked_over_floor", "masked_over_lora", "masked_over_lora_same_head",
        "masked_over_shira", "masked_over_full", "masked_all_over_floor",
        "masked_all_over_lora_all",
    ):  # fmt: skip
        assert result[key] > 0
    assert result["peak_memory_masked_over_floor"] == 1.5
    assert result["peak_memory_over_floor"] == {
        "q_v": {"0.0001": 1.0, "0.001": 1.5, "0.0099": 1.0},
        "all": {"0.0001": 1.0, "0.001": 1.0, "0.0099": 1.5},
    }
    assert {"device", "threads", "versions"} <= set(result["provenance"])


def test_a_step_in_a_process_of_its_own_reports_its_time_and_memory() -> None:
    with apart.Apart(variants.VARIANTS["masked"], 0, SMALL) as process:
        assert 0 < process() < 60
        assert 50e6 < process.peak() < 4e9  # torch alone takes more than 50 MB
    assert not process._process.is_alive()


def test_a_step_whose_process_ends_says_so() -> None:
    ended = pytest.raises(RuntimeError, match="process of a benchmark's step has ended")
    with apart.Apart(variants.Variant("no such method"), 0, SMALL) as process, ended:
        process()


def test_the_generate_bench_compares_models_that_generate_the_same(monkeypatch, capsys) -> None:
    tiny = LlamaConfig(vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                       num_attention_heads=4, num_key_value_heads=2)  # fmt: skip
    made: list[torch.Tensor] = []
    honest_generate, honest = LlamaForCausalLM.generate, generate.bench_generate
    monkeypatch.setattr(LlamaForCausalLM, "generate",
                        lambda *a, **k: made.append(honest_generate(*a, **k)))  # fmt: skip
    monkeypatch.setattr(
        generate, "bench_generate", lambda rounds: honest(rounds=rounds, tokens=3, shape=tiny)
    )
    monkeypatch.setattr(generate, "RATIOS", (0.01, 0.02))
    assert main(["bench", "generate", "--rounds", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(c["layers"], c["ratio"]) for c in result["cells"]] == [
        ("q_v", 0.01), ("all", 0.01), ("q_v", 0.02), ("all", 0.02)
    ]  # fmt: skip
    for cell in result["cells"]:
        assert cell["count"] > 0
        for ratio in (cell["attached_over_merged"], cell["plain_over_merged"]):
            assert ratio["wall"] > 0
            assert ratio["cpu"] > 0
    # attached, merged, plain; then backwards, then forwards: the first two compute alike
    for i in range(0, len(made), 9):
        plain, merged, attached = made[i : i + 3]
        assert torch.equal(merged, attached)
        assert plain.shape == merged.shape == (1, 8 + 3)


def test_functions_are_timed_in_turn_and_every_other_round_backwards() -> None:
    seen: list[str] = []
    functions = {name: partial(seen.append, name) for name in "abc"}
    times = interleaved.interleaved(functions, 2)
    assert seen == [*"cba", *"abc", *"cba"]
    assert all(len(times.wall[n]) == len(times.cpu[n]) == 2 for n in "abc")


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_every_variant_trains_what_it_says(name) -> None:
    variant = variants.VARIANTS[name]
    _, parameters = variants._METHODS[variant.method](
        variants.OPTForCausalLM(TINY()).eval(), variant
    )
    total = sum(p.numel() for p in variants.OPTForCausalLM(TINY()).parameters())
    layers = {"q_v": 2, "all": 6}[variant.layers]  # here every one is 64 x 64
    count = sum(p.numel() for p in parameters)
    wanted = {"floor": 0, "full": total, "lora": layers * 8 * (64 + 64)}
    if variant.method in wanted:
        assert count == wanted[variant.method]
    else:
        assert 0 < count <= layers * 64 * 64
        assert len(parameters) == layers


def test_the_scoring_bench_selects_and_steps_on_the_same_data(monkeypatch, capsys) -> None:
    monkeypatch.setattr(scoring, "OPTConfig", TINY)
    for name in ("TOKENS", "BATCH"):
        monkeypatch.setattr(scoring, name, 4)
    for kind in scoring.SCORES:
        model, select, gradient_step = scoring.build("all", kind, 0)
        assert select().count == round(1e-3 * num_parameters(model))
        shapes: list[torch.Size] = []
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(lambda p, out=shapes: out.append(p.shape))
        gradient_step()
        assert shapes == [(64, 64)] * 6
    peaks = {"floor": 5, "select": 7}
    monkeypatch.setattr(scoring, "_peak_of", lambda layers, score, what, seed: peaks[what])
    assert main(["bench", "scoring", "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(c["layers"], c["score"]) for c in result["cells"]] == [
        (layers, score) for layers in ("q_v", "all") for score in ("gradient", "id3", "fisher")
    ]
    for cell in result["cells"]:
        assert cell["weights"] == {"q_v": 2, "all": 6}[cell["layers"]] * 64 * 64
        assert cell["over_step"] == cell["seconds"]["select"] / cell["seconds"]["step"]
        assert cell["memory"] == 2


@pytest.fixture
def small_curvature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "MASKS", {"few": {"count": 30, "sampling": "exact"}})
    monkeypatch.setattr(cases, "LOSSES", ("language modelling",))
    monkeypatch.setattr(overhead, "STEPS", 3)
    monkeypatch.setattr(libraries, "LIMIT", 15)
    monkeypatch.setattr(overhead, "peak_of", lambda what, *_: {"lanczos": 3, "gradient": 2}[what])
    honest = curvature.bench_curvature
    monkeypatch.setattr(
        curvature, "bench_curvature", lambda rounds: honest(rounds=rounds, shapes=("tiny",))
    )


CURVATURE_KEYS = {
    "speedup_vs_pyhessian", "speedup_vs_curvlinops", "speedup_vs_hessian_eigenthings",
    "hvp_over_gradient", "peak_memory_over_gradient_step", "tracking_overhead",
}  # fmt: skip


@pytest.mark.usefixtures("small_curvature")
def test_the_curvature_bench_reports_every_figure_and_reaches_its_accuracy(capsys) -> None:
    assert main(["bench", "curvature", "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) >= CURVATURE_KEYS
    assert result["peak_memory_over_gradient_step"] == 1.5
    assert result["hvp_over_gradient"] > 0
    assert result["tracking_overhead"] == result["tracking"]["overhead"] > -1
    assert {"device", "threads", "versions"} <= set(result["provenance"])
    (cell,) = result["cases"]
    model = cases.make_model("tiny", 0)
    ls.attach(model, ls.random_mask(model, seed=0, **cases.MASKS["few"]))
    sizes = ((4, 10, 0), (2, 12, 1))
    batches = [cases.make_batch(*size, *cases.LOSSES) for size in sizes]
    exact = float(ls.exact_spectrum(ls.HessianOperator(model, batches)).eigenvalues.max())
    assert cell["sharpness"] == pytest.approx(exact, rel=1e-5)
    for name, found in cell["libraries"].items():
        if name != "pyhessian":  # which may have spent its products
            assert abs(found["error"]) <= libraries.ACCURACY, name
        assert 0 < found["products"] <= 30
        if name != "ours":
            assert result[f"speedup_vs_{name}"] == found["over_ours"] > 0
    own = cell["hessian_eigenthings_own_rule"]
    assert own["products"] in (2, 6, 14, 30)
    assert abs(own["error"]) <= 10 * libraries.ACCURACY
    assert result["speedup_vs_hessian_eigenthings_own_rule"] == own["over_ours"] > 0


@pytest.mark.usefixtures("small_curvature")
def test_a_library_that_is_missing_has_no_figure_but_a_sentence(monkeypatch, capsys) -> None:
    found, absent = importlib.util.find_spec, ("pyhessian", "curvlinops", "hessian_eigenthings")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in absent else found(name)
    )
    assert main(["bench", "curvature", "--rounds", "1", "--json"]) == 0
    told = capsys.readouterr()
    result = json.loads(told.out.strip().split("\n")[-1])
    for name in absent:
        assert result[f"speedup_vs_{name}"] is None
        assert "is not installed" in result["missing"][name]
    # one command, before anything is computed
    assert told.err.split("\n")[0].endswith(
        "pip install PyHessian curvlinops-for-pytorch hessian-eigenthings"
    )
    assert result["speedup_vs_hessian_eigenthings_own_rule"] is None
    assert [*result["cases"][0]["libraries"]] == ["ours"]


def test_a_shape_that_is_not_known_is_refused() -> None:
    with pytest.raises(ls.UserError, match="tiny, opt-125m"):
        curvature.bench_curvature(shapes=("huge",))


def test_no_rounds_are_refused() -> None:
    for bench_any in (
        bench.bench_kernels, step.bench_step, generate.bench_generate,
        scoring.bench_scoring, curvature.bench_curvature
    ):  # fmt: skip
        with pytest.raises(ls.UserError, match="at least 1"):
            bench_any(rounds=0)
