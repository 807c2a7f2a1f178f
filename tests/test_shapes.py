"""Shapes: an annotation that does not hold is noticed by every test that passes there."""

from __future__ import annotations

import importlib
import sys

import pytest
import shapes
import torch
from torch import Tensor

MODULE = '''
"""Products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from nowhere import Model


def product(x: Float[Tensor, " k"], v: Float[Tensor, "k m"], model: Model) -> Float[Tensor, " m"]:
    """Multiply."""
    return x @ v


def plain(x: Tensor, model: Model) -> Tensor:
    """Return."""
    return x
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    import landscape

    (tmp_path / "products.py").write_text(MODULE)
    monkeypatch.setattr(landscape, "__path__", [*landscape.__path__, str(tmp_path)])
    yield importlib.import_module("landscape.products")
    del sys.modules["landscape.products"]


@pytest.mark.parametrize(
    ("x", "v"),
    [(torch.ones(3), torch.ones(2, 2)), (torch.ones(3, dtype=torch.int64), torch.ones(3, 2))],
    ids=["another size", "another kind of number"],
)
def test_a_tensor_that_is_not_as_annotated_is_refused_while_the_tests_run(module, x, v) -> None:
    with pytest.raises(Exception, match="Type-check error"):
        module.product(x, v, None)


def test_what_holds_passes_and_what_has_no_shapes_is_not_wrapped(module) -> None:
    assert module.product(torch.ones(3), torch.ones(3, 2), None).tolist() == [3.0, 3.0]
    assert not hasattr(module.plain, "__wrapped__")
    assert isinstance(module.plain(torch.ones(1), None), Tensor)
    assert module.plain.__module__ == "landscape.products"


def test_the_tests_import_the_library_through_the_checker() -> None:
    assert any(isinstance(finder, shapes._Finder) for finder in sys.meta_path)
