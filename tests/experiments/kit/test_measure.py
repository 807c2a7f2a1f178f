"""What a seed's measurements share: only tasks that the rows of artefacts can hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.kit.measure import load_task
from experiments.kit.settings import Setting
from landscape.errors import UserError


def test_a_task_that_is_not_judged_by_accuracy_is_refused_for_rows_of_accuracy(tmp_path) -> None:
    folder = Path(tmp_path)
    row = "gj04\t{}\t\tThey {} it {}.\n"
    for name, count in (("train.tsv", 20), ("dev.tsv", 10)):
        lines = (row.format(i % 2, name[0] * 2, i) for i in range(count))
        (folder / name).write_text("".join(lines), encoding="utf-8")
    config = Setting(task="cola", source=str(folder))
    with pytest.raises(UserError, match=r"judged by accuracy.*got cola \(matthews\); choose"):
        load_task(config, 0)
