"""What is printed of a training: where it begins, where it goes on, what it came to."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

import landscape as ls
from landscape.cli.telling import begin, tell_run
from landscape.folders import read_json, write_json
from landscape.tasks.metrics import METRICS, Metric

BEFORE = {"accuracy": 0.5, "loss": 0.75, "n": 100}
CUT = {"rows": 12, "of": 1000, "tokens": 512}


@dataclass
class Training:
    """What is asked of a training where it begins."""

    taken: int = 0
    done: bool = False
    truncated: dict[str, int] | None = None
    total: int = 8
    asked: int = 0

    def evaluate(self, split: str) -> dict[str, float]:
        assert split == "test"
        self.asked += 1
        return BEFORE


def run(
    dev: dict | None, test: dict | None, stored: bool = False, diverged: bool = False
) -> ls.Run:
    metrics = {
        "dev": dev, "test": test, "steps": 8, "seconds": 61.4, "diverged": diverged,
        "best_step": 8,
    }  # fmt: skip
    return ls.Run({}, [], [], metrics, {"l2": 1.23456}, stored=stored)


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_fresh_training_is_judged_on_test_and_its_folder_keeps_that(tmp_path, capsys) -> None:
    assert begin(Training(truncated=CUT), "accuracy", str(tmp_path)) == BEFORE
    assert read_json(tmp_path / "before.json") == BEFORE
    assert told(capsys) == [
        "12 of 1,000 train rows were cut to 512 tokens",
        "before training: test accuracy 0.500 ± 0.050 (n = 100)",
    ]
    assert begin(Training(), "accuracy", None) == BEFORE
    assert told(capsys) == ["before training: test accuracy 0.500 ± 0.050 (n = 100)"]


def test_one_that_goes_on_is_not_judged_again_and_says_after_which_step(tmp_path, capsys) -> None:
    write_json(tmp_path / "before.json", BEFORE)
    training = Training(taken=3, truncated=CUT)
    assert begin(training, "accuracy", str(tmp_path)) == BEFORE
    assert training.asked == 0
    assert told(capsys) == [
        "12 of 1,000 train rows were cut to 512 tokens",
        "before training: test accuracy 0.500 ± 0.050 (n = 100)",
        "goes on after step 3 of 8",
    ]


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_not_kept_is_not_told(tmp_path, capsys, kept) -> None:
    folder = str(tmp_path) if kept else None
    assert begin(Training(taken=3), "accuracy", folder) is None
    assert told(capsys) == ["goes on after step 3 of 8"]


def test_a_finished_one_says_when_it_was_finished_and_reads_no_rows(tmp_path, capsys) -> None:
    write_json(tmp_path / "result.json", {})
    when = 1_700_000_000
    os.utime(tmp_path / "result.json", (when, when))
    training = Training(taken=8, done=True, truncated=CUT)
    assert begin(training, "accuracy", str(tmp_path)) is None
    (line,) = told(capsys)
    assert line.startswith("already finished, 2023-11-1")
    assert line.endswith(": nothing is trained; --force starts anew")


@pytest.mark.parametrize(
    ("test", "better"),
    [({"accuracy": 0.51, "loss": 9.0, "n": 100}, True), ({"accuracy": 0.5, "loss": 0.1}, False),
     ({"accuracy": 0.4, "loss": 0.1}, False), (None, True)],
)  # fmt: skip
def test_a_run_that_is_no_better_on_test_says_so_whatever_its_loss(capsys, test, better) -> None:
    tell_run(run({"accuracy": 0.9}, test), "accuracy", 50, BEFORE)
    lines = told(capsys)
    assert (len(lines) == 1) == better
    if not better:
        assert lines[0].startswith(
            f"no better than before training: test accuracy 0.500 to {test['accuracy']:.3f}, "
            "loss 0.75 to 0.1; try another --lr"
        )


@pytest.mark.parametrize(("after", "better"), [(0.25, True), (0.5, False), (0.75, False)])
def test_a_metric_of_which_less_is_better_is_read_so(capsys, monkeypatch, after, better) -> None:
    errors = Metric("errors", "text", lambda *_: 0.0, larger_is_better=False)
    monkeypatch.setitem(METRICS, "errors", errors)
    before, test = ({"errors": value, "loss": 1.0} for value in (0.5, after))
    tell_run(run(test, test), "errors", 50, before)
    assert told(capsys)[0].startswith("no better than before") != better


def test_a_runs_last_line_has_both_splits_their_errors_distance_and_time(capsys) -> None:
    tell_run(run({"accuracy": 0.9}, BEFORE), "accuracy", 100, None)
    tell_run(run({"accuracy": 0.9}, None, stored=True), "accuracy", 100, BEFORE)
    assert told(capsys) == [
        "accuracy: dev 0.900 ± 0.030 (n = 100), test 0.500 ± 0.050 (n = 100); distance 1.235, "
        "8 steps in 61 s",
        "accuracy: dev 0.900 ± 0.030 (n = 100), test nan; distance 1.235, 8 steps took 61 s",
    ]


def test_a_run_that_diverged_says_at_which_step_and_nothing_of_better(capsys) -> None:
    worse = {"accuracy": 0.1, "loss": 5.0}
    tell_run(run(None, worse, diverged=True), "accuracy", 100, BEFORE)
    assert told(capsys) == [
        "diverged at step 8: the loss is not finite; lower --lr",
        "accuracy: dev nan, test 0.100; distance 1.235, 8 steps in 61 s",
    ]
