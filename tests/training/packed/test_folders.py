"""The folders of a pack: begun anew, ended in the middle, read by the lanes' solo runs."""

from __future__ import annotations

import copy

import pytest
from pack_cases import TOKENIZER
from packed_results import same
from samples import tiny_task

import landscape as ls
from landscape.errors import UserError
from landscape.training.packed.pack import Pack

pytestmark = pytest.mark.filterwarnings("ignore:expected splits")


@pytest.fixture
def model():
    return ls.tiny_model("opt", vocab_size=len(TOKENIZER)).double()


def lanes_of(model, **own) -> list[ls.Lane]:
    masks = [ls.random_mask(model, ratio=1e-2, seed=seed) for seed in range(2)]
    return [
        ls.Lane(tiny_task(16), mask=mask, lr=1e-2, epochs=1, batch_size=4, **own)
        for mask in masks
    ]  # fmt: skip


def stopped(monkeypatch: pytest.MonkeyPatch, name: str, calls: int, told: list[int]) -> None:
    """Let a method of packs be interrupted at its nth call; tell the steps taken at each."""
    method = getattr(Pack, name)

    def called(pack: Pack, *given):
        told.append(pack.taken)
        if len(told) == calls:
            raise KeyboardInterrupt
        return method(pack, *given)

    monkeypatch.setattr(Pack, name, called)


def test_a_pack_that_is_overwritten_begins_at_its_first_step_and_a_finished_one_takes_none(
    model, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    stopped(monkeypatch, "step", 3, taken)
    how = {"folder": tmp_path, "checkpoint_every": 1}
    with pytest.raises(KeyboardInterrupt):
        ls.finetune_packed(model, TOKENIZER, lanes_of(model), **how)
    assert (tmp_path / "pack.safetensors").exists()
    ls.finetune_packed(model, TOKENIZER, lanes_of(model), overwrite=True, **how)
    assert taken == [0, 1, 2, 0, 1, 2, 3]
    ls.finetune_packed(model, TOKENIZER, lanes_of(model), **how)
    assert len(taken) == 7, "a finished pack is read"


def test_a_pack_that_ends_between_two_results_keeps_the_first_and_makes_the_other(
    model, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes, told, folder = lanes_of(model), [], tmp_path / "stopped"
    wanted = ls.finetune_packed(model, TOKENIZER, lanes, folder=tmp_path / "whole")
    stopped(monkeypatch, "finish", 2, told)
    with pytest.raises(KeyboardInterrupt):
        ls.finetune_packed(model, TOKENIZER, lanes, folder=folder)
    first = (folder / "00" / "result.json").read_bytes()
    assert not (folder / "01" / "result.json").exists()
    found = ls.finetune_packed(model, TOKENIZER, lanes, folder=folder)
    assert (folder / "00" / "result.json").read_bytes() == first
    assert all(same(run, other, 0.0) for run, other in zip(found, wanted, strict=True))


def test_an_evaluation_is_kept_though_no_step_is_due(
    model, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    stopped(monkeypatch, "step", 4, taken)
    lanes = lanes_of(model, evaluate_every=2)
    for _ in range(2):
        try:
            ls.finetune_packed(model, TOKENIZER, lanes, folder=tmp_path, checkpoint_every=50)
        except KeyboardInterrupt:
            continue
    assert taken == [0, 1, 2, 3, 2, 3]


def test_the_folder_of_a_lane_that_is_not_tested_is_that_of_its_solo_run(model, tmp_path) -> None:
    lanes = lanes_of(model, test=False)
    ls.finetune_packed(model, TOKENIZER, lanes, folder=tmp_path)
    solo = copy.deepcopy(model)
    ls.attach(solo, lanes[1].mask)
    run = ls.finetune(
        solo, TOKENIZER, lanes[1].task, folder=tmp_path / "01", **vars(lanes[1].settings)
    )
    assert run.stored
    assert run.metrics["test"] is None


def test_two_lanes_in_one_folder_are_refused(model, tmp_path) -> None:
    with pytest.raises(UserError, match="expected a folder for each of the 2 lanes"):
        ls.finetune_packed(
            model, TOKENIZER, lanes_of(model), folder=tmp_path, folders=[tmp_path / "a"] * 2
        )
    assert not (tmp_path / "a").exists()
