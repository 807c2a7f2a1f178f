"""The benchmark of packed runs: what it counts, and what it says of a processor."""

from __future__ import annotations

import json

import pytest

import landscape as ls
from landscape.bench import packed
from landscape.errors import UserError
from landscape.training.packed.pack import Pack


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = ls.tiny_tokenizer()
    model = ls.tiny_model("opt", vocab_size=len(tokenizer))
    monkeypatch.setattr(packed, "_model", lambda case: (model, tokenizer))
    peaks = {"packed": 3.0, "solo": 2.0, "ratio": 1.5}
    monkeypatch.setattr(packed, "_peaks", lambda case, pack, solos: peaks)


@pytest.mark.usefixtures("tiny")
def test_a_ratio_counts_as_many_solo_runs_as_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    step = Pack.step
    monkeypatch.setattr(Pack, "step", lambda pack: taken.append(len(pack.alive)) or step(pack))
    found = packed.bench_packed(rounds=2, runs=4, shape="opt-125m")
    assert taken == [4] * 6  # one to warm up and two timed, in two precisions
    for cell, key in zip(found["cells"], ("fp32", "bf16"), strict=True):
        assert found[f"packed_over_solo_{key}"] == cell["ratio"]["wall"]
        low, high = cell["ratio"]["wall_quartiles"]
        assert 0 < low <= cell["ratio"]["wall"] <= high
        assert 1 < cell["floor_tokens"] < 3
    assert found["peak_memory_packed_over_solo"] == 1.5
    assert json.loads(json.dumps(found)) == found


@pytest.mark.usefixtures("tiny")
def test_a_half_of_the_runs_is_timed_and_counts_double(monkeypatch: pytest.MonkeyPatch) -> None:
    class Even:
        def over(self, name: str, base: str) -> dict:
            assert (name, base) == ("solo", "packed")
            return {"wall": 1.0, "wall_quartiles": [0.5, 2.0], "cpu": 1.0, "cpu_quartiles": [1, 1]}

    monkeypatch.setattr(packed, "interleaved", lambda functions, rounds: Even())
    found = packed.bench_packed(rounds=1, runs=6, shape="opt-125m")
    assert found["packed_over_solo_fp32"] == 3.0
    assert found["cells"][0]["ratio"]["wall_quartiles"] == [1.5, 6.0]


def test_no_round_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1 timed round"):
        packed.bench_packed(rounds=0)
