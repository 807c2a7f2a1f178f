"""A run that nothing stopped, and its numbers, made once a file."""

from __future__ import annotations

import pytest
from kept_runs import finetune, masked, numbers


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    model = masked()
    run = finetune(model, tmp_path_factory.mktemp("whole") / "run")
    return run, numbers(model)
