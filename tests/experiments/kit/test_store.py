"""Rows on disk: whole lines, one a row, and nothing lost to a kill."""

from __future__ import annotations

import pytest

import landscape as ls
from experiments.kit.store import Store, read_rows


@pytest.mark.parametrize(
    "line", [b'{"key":', b"[1]", b"5", b"null", b"{}", b'{"key": 5}', b'{"key": "a\xff"}', b"",
             b"[" * 100_000, b'{"key": "a", "n": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_a_damaged_row_in_the_middle_is_refused_by_line(tmp_path, line) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"key": "a"}\n' + line + b'\n{"key": "b"}\n')
    with pytest.raises(ls.UserError, match="got the damaged line 2"):
        read_rows(tmp_path)


def test_only_a_run_drops_a_row_that_a_kill_cut_off(tmp_path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"key": "a"}\n{"key": "b", "val')
    store = Store(tmp_path)
    assert rows.read_text() == '{"key": "a"}\n'
    store.compute("b", lambda: {"value": 2})
    assert [row["key"] for row in read_rows(tmp_path)] == ["a", "b"]


def test_a_row_is_on_disk_before_the_next_one_starts(tmp_path) -> None:
    store = Store(tmp_path)
    store.compute("a", lambda: {"value": 1})
    with pytest.raises(RuntimeError, match="killed"):
        store.compute("b", lambda: (_ for _ in ()).throw(RuntimeError("killed")))
    assert [row["key"] for row in read_rows(tmp_path)] == ["a"]
