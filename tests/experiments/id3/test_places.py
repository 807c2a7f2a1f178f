"""Where a moving mask lies: the probe on a tiny run, and its values at both ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import landscape as ls
from experiments.id3.figure8 import derive
from experiments.id3.places import PlacesProbe, places


def masked() -> nn.Module:
    model = nn.ModuleDict({"q": nn.Linear(4, 2, bias=False), "k": nn.Linear(4, 2, bias=False)})
    empty = torch.tensor([], dtype=torch.long)
    shapes = {"q.weight": (2, 4), "k.weight": (2, 4)}
    mask = ls.Mask({"q.weight": torch.tensor([0, 5]), "k.weight": empty}, shapes, 16)
    ls.attach(model, mask)
    return model


def looked(every: int, last: int, steps: int) -> list[dict[str, Any]]:
    probe, model = PlacesProbe(every, last), masked()
    records = [{"step": step} for step in range(1, steps + 1)]
    for record in records:
        probe(model, record)
    return [record for record in records if len(record) > 1]


def test_a_mask_is_looked_at_first_and_last_and_in_between() -> None:
    assert [record["step"] for record in looked(4, 10, 10)] == [1, 4, 8, 10]


def test_densities_are_kept_at_both_ends_alone_and_are_shares_of_each_tensor() -> None:
    first, *between, last = looked(4, 10, 10)
    assert all("allocation" not in record for record in between)
    for record in (first, last):
        assert record["allocation"] == [[None, "q", 0.25], [None, "k", 0.0]]
        assert record["sparsity"] == 0.5
        assert record["entropy"] == 0.0


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ls.UserError, match="got 'often'"):
        places(SimpleNamespace(options={"often": 3}))  # type: ignore[arg-type]


def test_ends_are_those_of_the_first_and_last_look_and_early_is_a_tenth_in() -> None:
    def look(step: int, entropy: float, **more: Any) -> dict[str, Any]:
        return {"step": step, "sparsity": 1 - entropy, "entropy": entropy, **more}

    allocation = [[0, "attention.query", 0.1], [0, "output.dense", 0.3]]
    steps = [look(1, 0.2, allocation=allocation), look(9, 0.3), look(10, 0.4), look(50, 0.5),
             look(100, 0.6, allocation=allocation)]  # fmt: skip
    run = {"method": "id3", "schedule": "increment", "options": {}, "diverged": False}
    found = derive({**run, "places_steps": steps})
    assert (found["entropy_first"], found["entropy_early"], found["entropy_last"]) == (
        0.2,
        0.4,
        0.6,
    )
    assert found["share of query and key"] == pytest.approx(0.25)
    assert found["sparsity"] == [0.8, 0.7, 0.6, 0.5, 0.4]
    assert (found["untouched share at first"], found["untouched share early"]) == (0.8, 0.6)
    assert found["move after the first tenth"] == pytest.approx(0.2)
    assert derive(run) == {"arm": "ID3"}
    del steps[-1]  # it ended midway
    assert derive({**run, "diverged": True, "places_steps": steps}) == {"arm": "ID3"}
