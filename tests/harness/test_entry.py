"""The way in: what the package declares, and what is said where lm_eval is missing."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest
from sentences import the_sentence

from landscape.harness import NAME, TARGET, register

ROOT = Path(__file__).parent.parent.parent
GROUP = "lm_eval.models"


def test_the_package_declares_its_model_where_lm_eval_looks_for_models() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"] == {GROUP: {NAME: TARGET}}


def test_the_installed_package_names_the_same_model() -> None:
    found = importlib.metadata.entry_points(group=GROUP, name=NAME)
    if not found:
        pytest.skip("installed before it had this entry point: pip install --no-deps -e .")
    assert {entry.value for entry in found} == {TARGET}


def test_without_lm_eval_a_sentence_says_how_to_install_it(monkeypatch) -> None:
    for name in ("lm_eval", *(m for m in sys.modules if m.startswith("lm_eval."))):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "lm_eval.api.registry", None)
    said = the_sentence(register)
    assert "the optional package lm_eval" in said
    assert said.endswith("pip install lm_eval")
