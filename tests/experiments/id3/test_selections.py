"""The artefact `selections`: its statements on fabricated rows, its runs on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from samples import glue_folder, model_folder
from tiny_runs import assert_whole, render_artefact, run_artefact

import landscape as ls
from experiments.earlier import ARTEFACTS
from experiments.id3 import selections, selections_report
from experiments.kit.artefact import stored_config
from experiments.kit.measure import load_setup
from experiments.kit.store import Store, read_rows

COUNT = 900


def fabricated(accuracies: dict[str, float], seeds: int = 3, count: int = 100) -> list[dict]:
    rows: list[dict] = []
    for seed in range(seeds):
        rows.append({"kind": "zero-shot", "seed": seed, "test_accuracy": 0.5})
        for method, accuracy in accuracies.items():
            for rate in (1e-3, 1e-2) if seed == 0 else (1e-2,):
                rows.append(
                    {"kind": "train", "method": method, "seed": seed, "rate": rate, "count": count,
                     "dev_accuracy": 0.9 if rate == 1e-2 else 0.1, "dev_loss": 1.0,
                     "test_accuracy": accuracy + 0.001 * seed if rate == 1e-2 else 0.0,
                     "tried": [1e-3, 1e-2, 1e-1]}
                )  # fmt: skip
    return rows


LIKE_THE_PAPER = {
    "full": 0.98, "BitFit": 0.9, "LoRA": 0.9, "adapter": 0.9, "random": 0.8, "magnitude": 0.85,
    "PaFi": 0.92, "SNIP": 0.91, "Fisher": 0.91, "ID3 static": 0.93, "ID3 repeat": 0.94,
    "ID3 increment": 0.96, "PaFi + LoRA": 0.93, "ID3 + LoRA": 0.95, "SparseAdapter": 0.92,
    "ID3 + adapter": 0.94,
}  # fmt: skip


def table(rows: list[dict]) -> list[dict[str, str]]:
    """Return the lines of the only table."""
    (lines,) = selections_report.tables(rows).values()
    return lines


def test_the_papers_order_holds_and_its_reverse_does_not() -> None:
    assert all(
        finding.verdict == "holds"
        for finding in selections_report.check(fabricated(LIKE_THE_PAPER))
    )
    reverse = {method: 1.2 - accuracy for method, accuracy in LIKE_THE_PAPER.items()}
    findings = selections_report.check(fabricated(reverse))
    orders = [f for f in findings if "more accurate than" in f.statement]
    assert len(orders) == 15
    assert all(f.verdict == "fails" for f in orders)
    below = selections_report.check(fabricated(dict.fromkeys(LIKE_THE_PAPER, 0.4)))
    assert below[-1].verdict == "fails"


def test_unequal_masks_are_found() -> None:
    rows = fabricated(LIKE_THE_PAPER)
    for row in rows:
        if row.get("method") == "SNIP":
            row["count"] = 101
    (finding,) = [f for f in selections_report.check(rows) if "same number" in f.statement]
    assert finding.verdict == "fails"
    assert "SNIP 101" in finding.evidence


def test_one_seed_decides_no_order() -> None:
    findings = selections_report.check(fabricated(LIKE_THE_PAPER, seeds=1))
    assert {f.verdict for f in findings if "more accurate" in f.statement} == {"undecided"}


def test_a_rate_at_the_edge_of_its_grid_has_a_star() -> None:
    rows = fabricated(LIKE_THE_PAPER)
    lines = {line["method"]: line for line in table(rows)}
    assert lines["PaFi"]["rate"] == "0.01"
    for row in rows:
        row["tried"] = [1e-3, 1e-2]
    assert table(rows)[0]["rate"] == "0.01*"
    assert lines["ID3 increment"]["paper, SST-2"] == "0.956"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_artefact(
        "selections", tmp_path_factory.mktemp("selections"), "--count", str(COUNT),
        "--rates", "1e-3", "1e-2", "--inserted-rates", "1e-3", "--full-rates", "1e-5",
        "--epochs", "1", "--batch-size", "6", "--num-train", "18", "--num-dev", "6",
        "--num-test", "8", "--score-examples", "6", "--seed", "0", "1",
    )  # fmt: skip


def test_every_expected_row_is_there_once(finished) -> None:
    assert_whole("selections", finished)


def test_every_mask_has_the_budget_and_inserted_methods_the_nearest_size(finished) -> None:
    config = stored_config(ARTEFACTS["selections"], finished)
    counts = {r["method"]: r["count"] for r in read_rows(finished) if r["kind"] == "train"}
    assert {counts[method] for method in selections_report.MASKS} == {COUNT}
    # hidden size 32, two layers: LoRA on q and v has 2 * 2 * (32 + 32) numbers a rank, adapters
    # 2 * 2 * (2 * 32 + 1) a width beside 2 * 2 * 32 biases
    assert counts["LoRA"] == 256 * round(COUNT / 256)
    assert counts["adapter"] == 128 + 260 * round((COUNT - 128) / 260)
    model, _ = ls.load_model(config.model)
    assert counts["full"] == sum(p.numel() for p in model.parameters())
    # six biases of linear layers and two of norms a layer, one of the last norm; 4 * 32 hidden
    linear = sum(m.bias.numel() for m in model.modules() if getattr(m, "bias", None) is not None)
    assert counts["BitFit"] == linear


def test_increments_grow_to_the_budget_and_others_have_it_from_the_first_step(finished) -> None:
    rows = [row for row in read_rows(finished) if row["kind"] == "train"]
    grow, whole = [COUNT // 3, 2 * COUNT // 3, COUNT], [COUNT] * 3
    expected = {"ID3 increment": grow, "ID3 + LoRA": grow, "ID3 + adapter": grow,
                "ID3 static": whole, "ID3 repeat": whole}  # fmt: skip
    assert {r["method"]: r["updated"] for r in rows if "updated" in r} == expected


def test_methods_do_not_leak_into_each_other(finished) -> None:
    """Each starts from the pretrained weights: the first loss is the same but for adapters' 1e-3.

    The row is made again alone, from a fresh model, and must be the same.
    """
    config = stored_config(ARTEFACTS["selections"], finished)
    rows = {row["key"]: row for row in read_rows(finished)}
    first = {r["method"]: r["train_loss"][0] for r in rows.values()
             if r["kind"] == "train" and r["seed"] == 0}  # fmt: skip
    assert max(first.values()) - min(first.values()) < 1e-3
    cell = {"kind": "train", "method": "SNIP", "rate": 1e-2, "seed": 0}
    again = selections.train(load_setup(config, Store(finished), cell), cell)
    row = rows["train/SNIP/rate=0.01/seed=0"]
    assert all(row[key] == value for key, value in again.items())


def test_scored_masks_are_those_of_a_dense_ranking(finished) -> None:
    config = stored_config(ARTEFACTS["selections"], finished)
    setup = load_setup(config, Store(finished), {"seed": 0})
    made, _ = selections.prepare(setup, "PaFi", 0)
    weights = dict(setup.model.named_parameters())
    mask = ls.delta(made).mask
    sizes = sorted(
        (float(w), name, i)
        for name in mask.shapes
        for i, w in enumerate(weights[name].detach().abs().flatten())
    )
    assert {(name, i) for _, name, i in sizes[:COUNT]} == {
        (name, i) for name, indices in mask.indices.items() for i in indices.tolist()
    }


def test_a_mask_on_inserted_numbers_chooses_among_four_times_its_budget(finished) -> None:
    config = stored_config(ARTEFACTS["selections"], finished)
    setup = load_setup(config, Store(finished), {"seed": 0})
    for method, place in (("PaFi + LoRA", "lora_"), ("SparseAdapter", ".adapter.")):
        made, _ = selections.prepare(setup, method, 0)
        mask = ls.delta(made).mask
        assert all(place in name for name in mask.shapes)
        assert 3.5 * COUNT < mask.size < 4.5 * COUNT
        assert mask.count == COUNT
        weights = dict(made.named_parameters())
        if method == "PaFi + LoRA":  # the smallest of every tensor, in proportion to its size
            for name, indices in mask.indices.items():
                flat = weights[name].detach().abs().flatten()
                kept = torch.zeros(len(flat), dtype=torch.bool)
                kept[indices] = True
                assert flat[kept].max() <= flat[~kept].min()
                assert abs(len(indices) - COUNT * len(flat) / mask.size) <= 1


@pytest.mark.parametrize("method", selections_report.METHODS)
def test_preparing_and_moving_a_method_leaves_the_pretrained_model_alone(finished, method) -> None:
    config = stored_config(ARTEFACTS["selections"], finished)
    setup = load_setup(config, Store(finished), {"seed": 0})
    model = setup.model
    before = {n: (p.detach().clone(), p.requires_grad) for n, p in model.named_parameters()}
    modules = {n: (type(m), set(vars(m))) for n, m in model.named_modules()}
    made, schedule = selections.prepare(setup, method, 0)
    if schedule is not None:
        ls.attach(made, ls.random_mask(made, count=9, targets=schedule.targets))
    with torch.no_grad():
        for theta in ls.trainable(made).values():
            theta.add_(1.0)
    if ls.subspace.is_attached(made):
        ls.subspace.synchronise(made)
    assert {n: (type(m), set(vars(m))) for n, m in model.named_modules()} == modules
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    for name, (weight, flag) in before.items():
        assert torch.equal(after[name], weight)
        assert after[name].requires_grad == flag


def test_a_model_without_biases_has_a_row_that_says_so(tmp_path) -> None:
    folder = model_folder(tmp_path / "llama", "llama")
    config = ARTEFACTS["selections"].configure(
        "smoke", {"model": str(folder), "task": "sst2",
                  "source": str(glue_folder(tmp_path / "SST-2")), "num_train": 12, "num_dev": 6}
    )  # fmt: skip
    cell = {"kind": "train", "method": "BitFit", "rate": 1e-3, "seed": 0}
    row = selections.ARTEFACT.measure(load_setup(config, Store(tmp_path), cell), cell)
    assert row["kind"] == "absent"
    rows = [*fabricated(LIKE_THE_PAPER), row]
    rows = [r for r in rows if r.get("method") != "BitFit" or r["kind"] == "absent"]
    (line,) = [t for t in table(rows) if t["method"] == "BitFit"]
    assert line["test"] == "no biases"
    (finding,) = [f for f in selections_report.check(rows) if f.statement.endswith("BitFit")]
    assert finding.evidence == "not both were run"


def test_render_draws_and_lists_the_papers_values_and_the_differences(finished, capsys) -> None:
    render_artefact("selections", finished)
    printed = capsys.readouterr().out
    assert "0.956" in printed  # table 1: ID3 on SST-2
    assert "best three of four seeds" in printed
