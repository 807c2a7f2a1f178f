"""What a run is worth to the choice of a rate, at losses that are falsy."""

from __future__ import annotations

from typing import Any

import pytest

from landscape.errors import UserError
from landscape.sweep.plan import _worth


def row(loss: float | None) -> dict[str, Any]:
    dev = {"accuracy": 1.0, "loss": loss, "n": 4}
    return {"outcome": {"diverged": False, "metric": "accuracy", "dev": dev}}


def test_of_equal_metrics_a_loss_of_zero_is_better_than_any_and_none_is_worse() -> None:
    assert _worth(row(0.0)) > _worth(row(1e-9)) > _worth(row(9.0)) > _worth(row(None))


def test_a_rate_none_of_whose_evaluations_was_a_number_is_worth_less_than_any_other() -> None:
    lost = row(None)
    lost["outcome"] |= {"dev": None, "evaluations": [{"step": 4, "accuracy": None, "loss": None}]}
    assert _worth(lost) < _worth(row(None))
    unseen = lost | {"outcome": lost["outcome"] | {"evaluations": []}, "address": "a"}
    with pytest.raises(UserError, match="expected dev examples"):
        _worth(unseen | {"config": {"task": "sst2"}})
