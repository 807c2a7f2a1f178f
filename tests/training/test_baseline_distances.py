"""Distances of runs of baselines: what their numbers moved by, and the weights these stand for."""

from __future__ import annotations

import pytest
import torch
from samples import tiny_task

import landscape as ls
from landscape.training import baselines


def language(architecture: str = "opt") -> torch.nn.Module:
    return ls.tiny_model(architecture, vocab_size=len(ls.tiny_tokenizer()))


def made(method: str, model: torch.nn.Module) -> torch.nn.Module:
    options = {"adalora": {"steps": 9}, "prefix": {"tokens": torch.tensor([5, 6, 7])}}
    return baselines.BASELINES[method](model, **options.get(method, {}))


@pytest.mark.parametrize("method", ["full", "bitfit", "adapter", "prefix"])
def test_the_distance_of_a_run_is_the_norm_of_what_its_numbers_moved_by(tmp_path, method) -> None:
    tokenizer, task = ls.tiny_tokenizer(), tiny_task(16)
    model = made(method, language())
    before = {n: p.detach().double() for n, p in model.named_parameters() if p.requires_grad}
    settings = {"lr": 1e-2, "epochs": 3, "batch_size": 8, "test": False, "folder": tmp_path}
    run = ls.finetune(model, tokenizer, task, **settings)
    flat = torch.cat([
        (p.detach().double() - before[n]).flatten() for n, p in model.named_parameters()
        if n in before
    ])  # fmt: skip
    origin = torch.cat([p.flatten() for p in before.values()]).norm()
    # the float64 sums are over the same float32 numbers
    assert run.distance["l2"] == pytest.approx(float(flat.norm()), rel=1e-12)
    # tiny models' biases start at zero, and nothing is measured in units of nothing
    relative = float(flat.norm() / origin) if origin else 0.0
    assert run.distance["relative"] == pytest.approx(relative, rel=1e-12)
    assert run.distance["linf"] == float(flat.abs().max()) > 0
    assert sum(d**2 for d in run.distance["per_tensor"].values()) == pytest.approx(
        float(flat.square().sum()), rel=1e-12
    )
    assert run.distance["effective"] is None
    again = ls.finetune(made(method, language()), tokenizer, task, **settings)
    assert again.distance == run.distance


@pytest.mark.parametrize(("method", "options"), [("lora", {}), ("adalora", {"steps": 6})])
def test_the_distance_of_low_rank_updates_is_also_that_of_the_weights_they_stand_for(
    method, options
) -> None:
    tokenizer, task = ls.tiny_tokenizer(), tiny_task(16)
    plain = language()
    weights = {n: p.detach().double().clone() for n, p in plain.named_parameters()}
    model = baselines.BASELINES[method](plain, **options)
    run = ls.finetune(model, tokenizer, task, lr=1e-2, epochs=3, batch_size=8, test=False)
    assert run.distance["l2"] > 0
    merged = model.merge_and_unload()  # peft adds the products into the weights
    squares = [
        (p.detach().double() - weights[n]).square().sum()
        for n, p in merged.named_parameters() if n in weights
    ]  # fmt: skip
    # float32 rounding of the merged weights
    expected = float(torch.stack(squares).sum().sqrt())
    assert run.distance["effective"] == pytest.approx(expected, rel=1e-4)


def test_a_resumed_run_measures_its_distance_from_where_it_first_started(tmp_path) -> None:
    tokenizer, task = ls.tiny_tokenizer(), tiny_task(16)
    settings = {"lr": 1e-2, "epochs": 3, "batch_size": 8, "test": False, "checkpoint_every": 1}
    whole = ls.finetune(made("full", language()), tokenizer, task, **settings)

    def kill(_: torch.nn.Module, record: dict[str, float]) -> None:
        if record["step"] == 4:
            raise KeyboardInterrupt

    cut = {**settings, "folder": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        ls.finetune(made("full", language()), tokenizer, task, probes=[kill], **cut)
    assert ls.finetune(made("full", language()), tokenizer, task, **cut).distance == whole.distance


def test_the_effective_distance_is_between_the_products_at_both_ends_not_of_the_last_one() -> None:
    model = baselines.lora(language(), rank=3, alpha=6).double()
    numbers = ls.trainable(model)
    ends = []
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in numbers.values():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
        ends.append({n: p.detach().clone() for n, p in numbers.items()})
    first, last = ends
    squares = []
    for name in (n for n in first if "lora_A" in n):
        other = name.replace("lora_A", "lora_B")
        # alpha / rank is 2
        squares.append((2 * (last[other] @ last[name] - first[other] @ first[name])).square().sum())
    found = ls.distance(model, first)
    assert found.effective == pytest.approx(float(torch.stack(squares).sum().sqrt()), rel=1e-12)
    assert all(torch.equal(p, last[n]) for n, p in numbers.items())
