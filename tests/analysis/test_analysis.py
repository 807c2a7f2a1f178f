"""Analyses of selections against sets, closed forms and single runs."""

from __future__ import annotations

import math

import pytest
import torch
from matplotlib.figure import Figure
from samples import tiny_task

import landscape as ls
from landscape import analysis
from landscape.errors import UserError


def language() -> torch.nn.Module:
    return ls.tiny_model("opt", vocab_size=len(ls.tiny_tokenizer()))


def given(chosen: dict[str, list[int]], shape: tuple[int, ...] = (2, 5)) -> ls.Mask:
    indices = {f"h.{n}.weight": torch.tensor(i, dtype=torch.int64) for n, i in chosen.items()}
    return ls.Mask(indices, dict.fromkeys(indices, shape), 100)


def test_allocation_counts_each_tensor_and_adds_up_to_the_mask() -> None:
    model = language()
    mask = ls.random_mask(model, density=0.1, targets=["*.[qv]_proj", "*.fc1"], seed=1)
    rows = analysis.allocation(mask)
    assert sum(row["selected"] for row in rows) == mask.count
    assert sum(row["size"] for row in rows) == mask.size
    assert {(row["layer"], row["module"]) for row in rows} == {
        (layer, module)
        for layer in (0, 1)
        for module in ("self_attn.q_proj", "self_attn.v_proj", "fc1")
    }
    for row in rows:
        assert row["selected"] == mask.indices[row["tensor"]].numel()
        assert (
            row["density"]
            == row["selected"] / dict(model.named_parameters())[row["tensor"]].numel()
        )


def test_spread_has_the_closed_forms_of_even_and_single_masks() -> None:
    even = analysis.spread(given({"0.a": [1], "1.a": [4], "2.a": [0], "3.a": [9]}))
    assert even == {"selected": 4, "sparsity": 0.0, "entropy": pytest.approx(1.0, abs=1e-12)}
    single = analysis.spread(given({"0.a": [1, 2, 3], "1.a": [], "2.a": [], "3.a": []}))
    assert single == {"selected": 3, "sparsity": 0.75, "entropy": 0.0}
    # densities 1/10 and 3/10: q = 1/4, 3/4
    two = analysis.spread(given({"0.a": [1], "1.a": [1, 2, 3]}))
    expected = (0.25 * math.log(4) + 0.75 * math.log(4 / 3)) / math.log(2)
    assert two["entropy"] == pytest.approx(expected, abs=1e-12)
    assert analysis.spread(given({"0.a": [], "1.a": []}))["entropy"] == 0.0
    assert analysis.spread(given({"0.a": [1]}))["entropy"] == 0.0


def test_entropy_counts_densities_and_not_weights() -> None:
    shapes = {"h.0.a.weight": (10,), "h.1.a.weight": (1000,)}
    indices = {"h.0.a.weight": torch.arange(1), "h.1.a.weight": torch.arange(100)}
    assert analysis.spread(ls.Mask(indices, shapes, 2000))["entropy"] == pytest.approx(1.0)


def followed(kind: str, tmp_path, budgets: tuple[int, ...] = ()):
    model, tokenizer, task = language(), ls.tiny_tokenizer(), tiny_task(24)
    probe = analysis.MaskProbe()
    probes = [probe, analysis.BudgetProbe(tmp_path / "deltas", budgets)] if budgets else [probe]
    schedule = ls.Schedule(kind, score="gradient", count=60, targets="*.[qv]_proj")
    run = ls.finetune(
        model, tokenizer, task, lr=1e-2, epochs=2, batch_size=8, schedule=schedule, probes=probes,
        test=False, evaluations_per_epoch=3,
    )  # fmt: skip
    return model, tokenizer, task, run, probe


def test_the_probe_follows_a_growing_and_a_repeated_mask(tmp_path) -> None:
    *_, growing = followed("increment", tmp_path)
    assert [row["step"] for row in growing.rows] == [1, 2, 3, 4, 5, 6]
    assert [row["selected"] for row in growing.rows] == [10, 20, 30, 40, 50, 60]
    *_, repeated = followed("repeat", tmp_path)
    # what was ever selected: the paper's "repeat exceeds the budget"
    seen = [row["selected"] for row in repeated.rows]
    assert seen[0] == 60
    assert seen == sorted(seen)
    assert seen[-1] > 60
    assert all(0 <= row["sparsity"] <= 1 and 0 <= row["entropy"] <= 1 for row in repeated.rows)


def test_a_probe_every_few_steps_has_those_steps_only() -> None:
    model, tokenizer, task = language(), ls.tiny_tokenizer(), tiny_task(24)
    ls.attach(model, ls.random_mask(model, count=30))
    probe = analysis.MaskProbe(every=2)
    ls.finetune(model, tokenizer, task, lr=1e-2, epochs=1, batch_size=6, probes=[probe], test=False)
    assert [row["step"] for row in probe.rows] == [2, 4]
    assert len({row["selected"] for row in probe.rows}) == 1


def test_scores_stand_beside_the_scalars_updated_so_far(tmp_path) -> None:
    *_, run, _ = followed("increment", tmp_path)
    rows = analysis.score_against_updated(run)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["updated"] for row in rows] == [10, 20, 30, 40, 50, 60]
    assert [row["updates"] for row in rows] == [10, 30, 60, 100, 150, 210]
    assert [row["accuracy"] for row in rows] == [e["accuracy"] for e in run.evaluations]
    model, tokenizer, task = language(), ls.tiny_tokenizer(), tiny_task(16)
    ls.attach(model, ls.random_mask(model, count=30, sampling="exact"))
    fixed = ls.finetune(model, tokenizer, task, lr=1e-2, epochs=2, batch_size=8, test=False)
    rows = analysis.score_against_updated(fixed)
    assert [(r["updated"], r["updates"]) for r in rows] == [(30, 60), (30, 120)]


def test_checkpoints_are_the_models_at_their_budgets(tmp_path) -> None:
    """A run with the increments of the first steps only ends where the checkpoint was saved."""
    model, tokenizer, task, run, _ = followed("increment", tmp_path, budgets=(15, 40, 99))
    paths = sorted((tmp_path / "deltas").iterdir(), key=lambda path: int(path.stem))
    assert [path.stem for path in paths] == ["15", "40"]
    scores = {e["step"]: e["accuracy"] for e in run.evaluations}
    ls.detach(model)
    before = {n: p.clone() for n, p in model.state_dict().items()}
    rows = analysis.score_checkpoints(model, tokenizer, task, paths)
    assert [row["count"] for row in rows] == [20, 40]  # the first counts at or above the budget
    assert [row["accuracy"] for row in rows] == [scores[2], scores[4]]
    assert all(torch.equal(p, before[n]) for n, p in model.state_dict().items())
    ls.load_delta(model, paths[0])
    with pytest.raises(UserError, match="without a mask"):
        analysis.score_checkpoints(model, tokenizer, task, paths)


def test_a_checkpoint_that_is_there_is_kept(tmp_path) -> None:
    path = tmp_path / "deltas" / "15.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"kept")
    followed("increment", tmp_path, budgets=(15,))
    assert path.read_bytes() == b"kept"


def test_figures_are_drawn_and_empty_ones_refused(tmp_path) -> None:
    mask = ls.random_mask(language(), density=0.1)
    axes = analysis.plot_allocation(mask, tmp_path / "mask.png", title="t")
    assert (tmp_path / "mask.png").read_bytes().startswith(b"\x89PNG")
    assert (axes.get_xlabel(), axes.get_title(loc="left")) == ("layer", "t")
    rows = [{"step": 1, "sparsity": 0.5, "entropy": 0.2}]
    drawn = analysis.plot_curves({"one": rows, "two": []}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [axes.get_ylabel() for axes in drawn] == ["sparsity", "entropy"]
    own = Figure().subplots(1, 2)
    assert analysis.plot_curves({"one": rows}, ax=own[0], y=["entropy"]) == [own[0]]
    assert analysis.plot_curves({"one": rows}, ax=own) == list(own)
    with pytest.raises(UserError, match="each of 2 columns, got 1"):
        analysis.plot_curves({"one": rows}, ax=own[0])
    flat = ls.Mask({"head.weight": torch.arange(2)}, {"head.weight": (2, 2)}, 4)
    with pytest.raises(UserError, match="numbered layers"):
        analysis.plot_allocation(flat, tmp_path / "x.png")
    with pytest.raises(UserError, match="rows to draw"):
        analysis.plot_curves({"one": []}, tmp_path / "x.png")
    with pytest.raises(UserError, match="at least 1 weight"):
        analysis.BudgetProbe(tmp_path, [0])
