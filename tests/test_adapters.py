"""Delta files: exact, small, and refused whole on any other base."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import landscape as ls
from landscape.errors import UserError


def trained(seed: int = 0, model_seed: int = 0):
    model = ls.tiny_model("llama", seed=model_seed)
    mask = ls.random_mask(model, density=0.2, seed=seed)
    ls.attach(model, mask)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.normal_(generator=generator)
    return model, mask


@pytest.mark.parametrize("seeded", [True, False])
def test_a_delta_round_trips_bit_for_bit(tmp_path, seeded) -> None:
    model, mask = trained()
    if not seeded:
        values = {n: t.detach().clone() for n, t in ls.trainable(model).items()}
        ls.detach(model)
        ls.attach(model, dataclasses.replace(mask, rule={"kind": "given"}))
        with torch.no_grad():
            for name, theta in ls.trainable(model).items():
                theta.copy_(values[name])
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    expected = {n: t.detach().clone() for n, t in ls.trainable(model).items()}
    ls.detach(model)
    ls.load_delta(model, path)
    found = ls.trainable(model)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], expected[n]) for n in expected)


def test_a_seeded_delta_stores_values_only(tmp_path) -> None:
    model, mask = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    header = path.stat().st_size - 4 * mask.count
    assert header < 4096


def test_another_base_a_truncated_file_and_a_stranger_are_refused(tmp_path) -> None:
    model, _ = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    other = ls.tiny_model("llama", seed=9)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(UserError, match="another base"):
        ls.load_delta(other, path)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="whole safetensors"):
        ls.load_delta(other, cut)
    with pytest.raises(UserError, match="found none"):
        ls.load_delta(other, tmp_path / "absent")
    with pytest.raises(UserError, match="model"):
        ls.load_delta(ls.tiny_model("gpt2"), path)
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())
    assert not [n for n, _ in other.named_parameters() if "theta" in n]
