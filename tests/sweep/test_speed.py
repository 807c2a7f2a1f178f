"""The speed of a machine, by the operations and the processor time of a product."""

from __future__ import annotations

import time

import pytest

from landscape.sweep import cost


def test_a_product_of_matrices_is_two_operations_an_entry_and_row(monkeypatch) -> None:
    times = iter([4.0, 2.0, 8.0, 3.0])
    monkeypatch.setattr(cost, "_seconds", lambda call: next(times))
    assert cost.measured_speed(10) == 2 * 10**3 / 2.0  # of four, the quickest


def test_waiting_for_a_neighbour_is_no_processor_time() -> None:
    assert cost._seconds(lambda: time.sleep(0.3)) < 0.15


@pytest.mark.parametrize("name", ["options", "settings", "schedule", "num_test", "head"])
def test_runs_that_differ_in_what_costs_time_are_not_like_each_other(name: str) -> None:
    one = cost.RunConfig(lr=0.1, ratio=1e-3)
    other = {"options": {"rank": 2}, "settings": {"accumulate": 2}, "schedule": "repeat",
             "num_test": 7, "head": "trained"}  # fmt: skip
    found = [cost._key(c, cost._LIKE) for c in (one, one.replace(**{name: other[name]}))]
    assert found[0] != found[1]
    like = one.replace(lr=0.2, ratio=1e-2, seed=3, mask_seed=4)
    assert cost._key(like, cost._LIKE) == found[0]
