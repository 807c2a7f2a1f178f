"""Packs of every form of examples, each lane its solo run: counts of loss terms differ by row."""

from __future__ import annotations

import pytest
from headed import Headed
from pack_cases import TOKENIZER, solo_runs
from packed_results import close, same
from torch import nn

import landscape as ls
from landscape.training.packed.chunks import Chunk, Row, weights
from landscape.training.packed.pack import Pack

pytestmark = pytest.mark.filterwarnings("ignore:expected splits")

SETTINGS = (
    {"lr": 3e-2, "epochs": 2, "batch_size": 4},
    {"lr": 1e-2, "epochs": 2, "batch_size": 2, "accumulate": 2, "seed": 1},
    {"lr": 1e-2, "epochs": 1, "batch_size": 2, "accumulate": 2, "loss_average": "batches"},
)


def completions() -> ls.Task:
    """Answers of one to four words, so that rows have other numbers of loss terms."""
    examples = tuple(
        ls.Completion(f"film {i % 5} is" + " and" * (i % 3), ("good" + " ab" * (i % 4),))
        for i in range(11)
    )
    return ls.Task(
        "answers", examples[:7], examples[7:9], examples[9:], "exact_match",
        generation=ls.Generation(max_new_tokens=2),
    )  # fmt: skip


def candidates() -> ls.Task:
    """Answers of several tokens, trained by the likelihood of the right one."""
    examples = tuple(
        ls.Example(f"film {i % 5}" + " and" * (i % 3), (" bad", " good and bad"), i % 2)
        for i in range(11)
    )
    return ls.Task("lm", examples[:7], examples[7:9], examples[9:], loss="language modelling")


def of(form: str, architecture: str) -> tuple[nn.Module, object, ls.Task, str | list[str]]:
    """Return a model, its tokenizer, a task of a form, and what lanes mask."""
    if form in ("completions", "candidates"):
        model = ls.tiny_model(architecture, vocab_size=len(TOKENIZER)).double()
        targets = "*.[qv]" if architecture == "t5" else "*.[qv]_proj"
        return model, TOKENIZER, completions() if form == "completions" else candidates(), targets
    case = Headed(form, architecture)
    return case.model(), case.reader(), case.task(14), ["*.query", "*.value"]


CASES = (
    ("tags", "bert"), ("numbers", "bert"), ("completions", "opt"), ("completions", "t5"),
    ("candidates", "opt"),
)  # fmt: skip


@pytest.mark.parametrize(("form", "architecture"), CASES)
def test_lanes_of_every_form_are_their_solo_runs(form: str, architecture: str) -> None:
    model, tokenizer, task, targets = of(form, architecture)
    masks = [ls.random_mask(model, density=0.1, seed=i, targets=targets) for i in range(3)]
    lanes = [ls.Lane(task, mask=mask, **own) for mask, own in zip(masks, SETTINGS, strict=True)]
    wanted = solo_runs(model, lanes, lambda i, solo: ls.attach(solo, masks[i]), tokenizer)
    tolerance = 1e-6 if architecture == "t5" else 1e-10  # its norms compute in float32
    for stacked in (False, True):
        pack = Pack(model, tokenizer, lanes, tokens=100, stacked=stacked)
        while pack.alive:
            pack.step()
        for course, (run, ends) in zip(pack.courses, wanted, strict=True):
            pack.finish(course)
            assert same(course.run, run, tolerance)
            assert close(course.best.point, ends, tolerance)
    assert any(bool(v.any()) for v in ends.values())
    losses = [[record["loss"] for record in run.history] for run, _ in wanted]
    assert losses[1][0] != pytest.approx(losses[2][0], rel=1e-6)  # nor do averages hide the terms


def test_a_lane_without_loss_terms_has_no_mean_and_others_have_theirs() -> None:
    rows = [Row(lane, batch, 0, None) for lane in (0, 1, 2) for batch in (0, 1)]
    chunk = Chunk(rows, {}, terms=[0, 0, 1, 3, 1, 3], height=[1] * 6)
    (found,) = weights([chunk], {0: "terms", 1: "terms", 2: "batches"})
    assert found[:2].isnan().all()
    assert found[2:].tolist() == [1 / 4, 1 / 4, 1 / 2, 1 / 6]
