"""The pace of checkpoints: two percent of the time, and a kill costs little more than a step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import tiny_task
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.training import pace as module
from landscape.training.folder import RunFolder
from landscape.training.pace import Pace
from landscape.training.packed.folder import PackFolder
from landscape.training.processes import Processes

TOKENIZER = ls.tiny_tokenizer()
TIMES = st.floats(1e-3, 10.0)


class Clock:
    """Stand still but where a test moves it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@given(run=st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=60))
def test_checkpoints_cost_a_fiftieth_of_the_time_and_a_kill_what_fifty_of_them_take(
    run: list[tuple[float, float]],
) -> None:
    clock = Clock()
    pace, written = Pace(None, clock=clock), list[tuple[float, float]]()
    for taken, (step, write) in enumerate(run, 1):
        clock.now += step
        due = pace.is_due(taken, evaluated=False, last=False)
        assert due == (taken == 1 or clock.now >= sum(written[-1]) + 50 * written[-1][1])
        if due:
            began = clock.now
            with pace.writing():
                clock.now += write
            written.append((began, clock.now - began))
        # what a kill would cost now, before the step that follows
        assert clock.now - sum(written[-1]) < 50 * written[-1][1]
    spent = sum(write for _, write in written[:-1])
    assert 50 * spent <= written[-1][0] - written[0][0] + 1e-6


def test_where_steps_take_fifty_times_as_long_every_one_is_kept() -> None:
    clock = Clock()
    pace = Pace(None, clock=clock)
    for taken in range(1, 9):
        clock.now += 49.9
        assert pace.is_due(taken, evaluated=False, last=False) == (taken == 1)
        clock.now += 0.2
        assert pace.is_due(taken, evaluated=False, last=False)
        with pace.writing():
            clock.now += 1.0
        assert not pace.is_due(
            taken, evaluated=True, last=False
        )  # an evaluation takes time or is no loss


def test_a_disk_that_stalls_once_puts_off_the_next_checkpoint_by_ten_minutes_at_most() -> None:
    clock = Clock()
    pace = Pace(None, clock=clock)
    with pace.writing():
        clock.now += 60.0
    clock.now += 599.0
    assert not pace.is_due(2, evaluated=True, last=False)
    assert pace.is_due(2, evaluated=False, last=True)
    clock.now += 1.5
    assert pace.is_due(2, evaluated=False, last=False)


def test_a_number_of_steps_is_kept_to_whatever_they_take_and_evaluations_beside() -> None:
    pace = Pace(3, clock=Clock())
    with pace.writing():
        pass
    assert [pace.is_due(n, evaluated=False, last=False) for n in range(1, 7)] == [
        False,
        False,
        True,
    ] * 2
    assert pace.is_due(1, evaluated=True, last=False)
    assert pace.is_due(1, evaluated=False, last=True)
    with pytest.raises(UserError, match="checkpoint_every"):
        Pace(0)


def masked() -> nn.Module:
    model = ls.tiny_model("opt", vocab_size=len(TOKENIZER))
    ls.attach(model, ls.random_mask(model, ratio=1e-2, seed=1))
    return model


def alone(folder) -> None:
    settings = {"lr": 1e-2, "epochs": 2, "batch_size": 4, "folder": folder}
    ls.finetune(masked(), TOKENIZER, tiny_task(16), **settings)


def together(folder) -> None:
    model = ls.tiny_model("opt", vocab_size=len(TOKENIZER))
    masks = [ls.random_mask(model, ratio=1e-2, seed=seed) for seed in range(2)]
    lanes = [ls.Lane(tiny_task(16), mask=m, lr=1e-2, epochs=2, batch_size=4) for m in masks]
    ls.finetune_packed(model, TOKENIZER, lanes, folder=folder)


@pytest.mark.filterwarnings("ignore:expected splits")
@pytest.mark.parametrize(("train", "folder"), [(alone, RunFolder), (together, PackFolder)])
@pytest.mark.parametrize(("apart", "written"), [(0.0, [1, 2, 3, 4, 5, 6, 7, 8]), (1e9, [1, 8])])
def test_a_training_writes_after_its_first_and_last_step_and_whenever_it_is_time(
    train, folder, apart, written, tmp_path, monkeypatch
) -> None:
    steps, save = [], folder.save

    def saved(self, state) -> None:
        steps.append(state.taken if folder is PackFolder else len(state["history"]))
        save(self, state)

    monkeypatch.setattr(folder, "save", saved)
    monkeypatch.setattr(module, "APART", apart)
    train(tmp_path)
    assert steps == written


def test_of_several_processes_the_first_says_when_it_is_time(monkeypatch) -> None:
    said = [Processes(rank, 2) for rank in range(2)]
    for claims in ([False, True], [True, False], [True, True], [False, False]):
        sent: list[float] = []

        def gather(self: Processes, *values: float, sent: list[float] = sent) -> list[float]:
            sent.extend(values)
            return [sum(sent)]

        monkeypatch.setattr(Processes, "total", gather)
        for process, claim in zip(said, claims, strict=True):
            process.first_says(claim)
        assert sum(sent) == claims[0]
        assert said[1].first_says(claims[1]) == claims[0]
