"""The artefact `figure4`: rows that resume, figures from rows, checks that can fail."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from samples import glue_folder, model_folder
from tiny_runs import assert_whole

import landscape as ls
from experiments.earlier import ARTEFACTS, main
from experiments.kit.artefact import stored_config
from experiments.kit.judge import SIGNS
from experiments.kit.store import read_rows
from experiments.random_masking import figure4


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("figure4")
    return [
        "--model", str(model_folder(folder / "opt")), "--task", "sst2",
        "--source", str(glue_folder(folder / "SST-2")), "--ratios", "1e-2", "1e-3",
        "--rate-times-ratio", "1e-5", "1e-4", "--epochs", "1", "--num-train", "16",
        "--num-dev", "6", "--num-test", "8", "--hessian-examples", "4",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(options, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "run"
    run = ["run", "figure4", *options, "--seed", "0", "1", "--output", str(folder)]
    assert main(run) == 0
    return folder


def measured(row: dict) -> dict:
    return {k: v for k, v in row.items() if k not in ("seconds", "peak_memory", "provenance")}


def test_every_expected_row_is_there_once_with_provenance(finished) -> None:
    for row in assert_whole("figure4", finished):
        assert row["seconds"] >= 0
        assert row["peak_memory"] > 0
        assert {"command", "commit", "versions", "device", "threads"} <= set(row["provenance"])


def test_the_other_seeds_run_at_the_rate_that_is_best_on_dev_for_the_first(finished) -> None:
    rows = [row for row in read_rows(finished) if row["kind"] == "train"]
    for ratio in (1e-2, 1e-3):
        tried = [row for row in rows if row["ratio"] == ratio and row["seed"] == 0]
        assert len(tried) == 2
        best = max(tried, key=lambda row: (row["dev_accuracy"], -row["dev_loss"]))
        (other,) = [row for row in rows if row["ratio"] == ratio and row["seed"] == 1]
        assert other["rate"] == best["rate"]


def test_sharpness_rows_equal_a_dense_eigenvalue_at_the_stored_delta(finished, options) -> None:
    config = stored_config(ARTEFACTS["figure4"], finished)
    rows = [
        row for row in read_rows(finished)
        if row["kind"] == "sharpness" and (row["seed"], row["ratio"]) == (1, 1e-3)
    ]  # fmt: skip
    assert sorted(row["when"] for row in rows) == ["after", "before"]
    for row in rows:
        model, tokenizer = ls.load_model(config.model)
        if row["when"] == "before":
            ls.attach(model, ls.random_mask(model, ratio=row["ratio"], seed=1))
        else:
            key = f"train/ratio={row['ratio']:g}/rate={row['rate']:g}/seed=1"
            delta = finished / "runs" / key.replace("/", "_") / "delta.safetensors"
            ls.load_delta(model, delta)
        task = ls.load_task(
            "sst2", source=config.source, num_train=16, num_dev=6, num_test=8, seed=1
        )
        batches = ls.make_batches(task.train[:4], tokenizer, 4, loss=task.loss)
        H = ls.HessianOperator(model, batches)
        dense = torch.stack([H @ unit for unit in torch.eye(H.size)]).double()
        values = torch.linalg.eigvalsh((dense + dense.T) / 2)
        largest = float(values[values.abs().argmax()])
        assert abs(row["sharpness"] - largest) <= 2e-2 * abs(largest), row["key"]


def test_a_stopped_run_goes_on_where_it_was_and_ends_with_the_same_rows(
    finished, options, tmp_path
) -> None:
    rows = (finished / "rows.jsonl").read_text().split("\n")
    for name in ("config.json", "provenance.json"):
        (tmp_path / name).write_text((finished / name).read_text())
    # a kill in the middle of a line, after five rows
    (tmp_path / "rows.jsonl").write_text("\n".join(rows[:5]) + "\n" + rows[5][:40])
    run = ["run", "figure4", *options, "--seed", "0", "1", "--output", str(tmp_path)]
    # the trained deltas of the first rows are needed by their sharpness
    for folder in (finished / "runs").iterdir():
        (tmp_path / "runs" / folder.name).mkdir(parents=True)
        for file in folder.iterdir():
            (tmp_path / "runs" / folder.name / file.name).write_bytes(file.read_bytes())
    assert main(run) == 0
    again = {row["key"]: measured(row) for row in read_rows(tmp_path)}
    assert again == {row["key"]: measured(row) for row in read_rows(finished)}


def test_a_finished_run_computes_nothing_again(finished, options, capsys) -> None:
    before = (finished / "rows.jsonl").read_bytes()
    assert main(["run", "figure4", *options, "--seed", "0", "1", "--output", str(finished)]) == 0
    assert (finished / "rows.jsonl").read_bytes() == before
    assert "18 of 18 rows already there" in capsys.readouterr().out


def test_another_configuration_in_the_same_folder_is_refused(finished, options, capsys) -> None:
    run = ["run", "figure4", *options, "--seed", "0", "1", "--output", str(finished)]
    assert main([*run, "--epochs", "3"]) == 2
    assert "epochs 1 there, 3 asked for" in capsys.readouterr().err


def test_render_writes_figure_table_and_page_and_prints_the_table(finished, capsys) -> None:
    assert main(["render", "figure4", "--output", str(finished)]) == 0
    printed = capsys.readouterr().out
    table = (finished / "table.md").read_text()
    assert table.split("\n\n")[0] in printed
    assert (finished / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64" in (finished / "index.html").read_text()


def fabricated(
    exponent: float, distance_exponent: float, gain: float, seeds: int = 3
) -> list[dict]:
    rows: list[dict] = []
    for seed in range(seeds):
        rows.append({"key": f"z{seed}", "kind": "zero-shot", "seed": seed, "test_accuracy": 0.5})
        for ratio in (1e-4, 1e-3, 1e-2):
            here, scale = {"ratio": ratio, "seed": seed}, 1 + 0.01 * seed
            rate, name = 1e-5 / ratio, f"{ratio}/{seed}"
            rows += [
                {"key": f"t{name}", "kind": "train", "rate": rate, "count": 10,
                 "test_accuracy": 0.5 + gain * scale, "distance": scale * ratio**distance_exponent,
                 **here},
                *({"key": f"s{name}{when}", "kind": "sharpness", "when": when, "converged": True,
                   "rate": None if when == "before" else rate,
                   "sharpness": scale * ratio**exponent, **here} for when in ("before", "after")),
            ]  # fmt: skip
    return rows


def judged(rows: list[dict]) -> str:
    """Return the signs of all verdicts in order."""
    return "".join(SIGNS[finding.verdict] for finding in figure4.check(rows))


def test_the_check_holds_on_rows_made_after_the_theory_and_fails_on_the_opposite() -> None:
    assert judged(fabricated(1.0, -0.5, 0.3)) == "✓✓✓✓✓✓"
    assert judged(fabricated(-1.0, 0.5, -0.1)) == "✗✗✗✗✓✓"
    negative = fabricated(1.0, -0.5, 0.3)
    negative[2]["sharpness"] *= -1
    assert judged(negative) == "✓✓✓✓✗✓"
    evidence = figure4.check(fabricated(0.8, -0.4, 0.3))
    assert "exponent 0.80" in evidence[0].evidence
    assert "exponent -0.40" in evidence[2].evidence


def test_what_varies_with_the_seed_is_undecided_by_one_seed_and_by_seeds_that_disagree() -> None:
    assert judged(fabricated(1.0, -0.5, 0.3, seeds=1)) == "????✓✓"
    rows = fabricated(1.0, -0.5, 0.3)
    (row,) = [r for r in rows if r["key"] == "t0.001/2"]
    row |= {"test_accuracy": 0.1, "distance": 1e3}
    assert judged(rows) == "✓✓??✓✓"


def test_check_exits_with_0_1_or_3_when_all_hold_one_fails_or_the_rest_is_undecided(
    finished, tmp_path, capsys
) -> None:
    for folder, gain, seeds, expected in (
        ("good", 0.3, 3, 0), ("bad", -0.3, 3, 1), ("few", 0.3, 1, 3),
    ):  # fmt: skip
        place = tmp_path / folder
        place.mkdir()
        (place / "config.json").write_text((finished / "config.json").read_text())
        rows = fabricated(1.0, -0.5, gain, seeds)
        (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert main(["check", "figure4", "--output", str(place)]) == expected
    printed = capsys.readouterr().out
    assert "✗ fails: every ratio is more accurate" in printed
    assert "? undecided: every ratio is more accurate" in printed
    assert main(["check", "figure4", "--help"]) == 0
    assert "3 no statement fails but" in " ".join(capsys.readouterr().out.split())


def test_render_beside_a_running_run_writes_nothing_into_its_rows(
    finished, tmp_path, capsys
) -> None:
    for name in ("config.json", "provenance.json"):
        (tmp_path / name).write_text((finished / name).read_text())
    rows = tmp_path / "rows.jsonl"
    # the run is in the middle of its last line
    rows.write_text((finished / "rows.jsonl").read_text()[:-30])
    before, changed = rows.read_bytes(), rows.stat().st_mtime_ns
    assert len(read_rows(tmp_path)) == 17
    assert main(["render", "figure4", "--output", str(tmp_path)]) == 0
    assert (rows.read_bytes(), rows.stat().st_mtime_ns) == (before, changed)
    assert "is not finished: 17 of 18 rows" in capsys.readouterr().err


def test_a_setting_that_a_run_did_not_store_is_unknown_and_not_todays_default(
    finished, tmp_path, capsys
) -> None:
    stored = json.loads((finished / "config.json").read_text())
    known = {f.name for f in dataclasses.fields(figure4.ARTEFACT.config)}
    assert known == set(stored) - {"artefact"}
    del stored["tolerance"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    (tmp_path / "rows.jsonl").write_text((finished / "rows.jsonl").read_text())
    config = stored_config(ARTEFACTS["figure4"], tmp_path)
    assert config.tolerance is None
    assert config.epochs == 1
    assert main(["check", "figure4", "--output", str(tmp_path)]) in (0, 1, 3)
    assert "was run before there was tolerance: unknown" in capsys.readouterr().err
    (tmp_path / "config.json").write_text(json.dumps(stored | {"warmth": 3}))
    with pytest.raises(ls.UserError, match="got also warmth; read it with the version"):
        stored_config(ARTEFACTS["figure4"], tmp_path)


@pytest.mark.parametrize("preset", ["smoke", "local", "paper"])
def test_every_preset_resolves_and_never_tries_a_rate_above_its_maximum(preset) -> None:
    config = ARTEFACTS["figure4"].configure(preset, {})
    for ratio in config.ratios:
        tried = config.rates(ratio)
        assert tried
        assert max(tried) <= config.max_rate
