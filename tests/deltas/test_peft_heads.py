"""Heads beside a mask in peft's folders: modules to save, and dense heads."""

from __future__ import annotations

import json
import math

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import landscape as ls
from landscape.errors import UserError

KINDS = ("shira", "supertuning")
HEAD = "base_model.model.classifier"
IDS = torch.tensor([[5, 6, 7, 8], [11, 12, 13, 14]])


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def classifier(kind: str) -> torch.nn.Module:
    model = ls.tiny_model("bert")
    mask = ls.random_mask(model, density=0.1, targets="*.query", seed=1)
    ls.attach(model, mask, dense="classifier")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in ls.trainable(model).values():
            p.add_(torch.randn(p.shape, generator=generator) / 10)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_beside_the_mask_is_one_of_pefts_modules_to_save(tmp_path, kind) -> None:
    model = classifier(kind)
    ours, before = logits(model), ls.delta(model)
    head = model.classifier.weight.detach().clone()
    ls.save_peft(model, tmp_path, kind=kind)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"] == [
        "classifier"
    ]
    base = ls.tiny_model("bert")
    torch.nn.init.zeros_(base.classifier.weight)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path)
    torch.testing.assert_close(logits(theirs), ours, rtol=1e-5, atol=1e-5)
    ls.load_peft(ls.detach(model), tmp_path)
    assert torch.equal(model.classifier.weight, head)
    again = ls.delta(model)
    assert all(torch.equal(again.dense[n].value, d.value) for n, d in before.dense.items())
    assert all(torch.equal(again.values[n], v) for n, v in before.values.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_that_peft_saved_whole_is_read_as_a_dense_head(tmp_path, kind) -> None:
    settings_ = {"target_modules": ["query"], "modules_to_save": ["classifier"]}
    config = {
        "shira": lambda: peft.ShiraConfig(r=2, init_weights=False, random_seed=5, **settings_),
        "supertuning": lambda: peft.SupertuningConfig(
            sparsity=0.93, init_weights=False, **settings_
        ),
    }[kind]()
    theirs = peft.get_peft_model(ls.tiny_model("bert"), config)
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            if "classifier.modules_to_save" in name:
                p.add_(0.5)
    theirs.save_pretrained(tmp_path)
    model = ls.tiny_model("bert")
    start = model.classifier.bias.detach().clone()
    ls.load_peft(model, tmp_path)
    torch.testing.assert_close(logits(model), logits(theirs), rtol=1e-5, atol=1e-5)
    assert list(ls.trainable(model))[-2:] == ["classifier.weight", "classifier.bias"]
    assert torch.equal(model.classifier.bias, start + 0.5)
    assert torch.equal(ls.detach(model).classifier.bias, start)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.update({f"{HEAD}.bias": torch.zeros(3)}), r"shape \(2,\) for classifier"),
        (lambda t: t.update({f"{HEAD}.bias": torch.full((2,), math.nan)}), "finite floating-point"),
        (lambda t: t.update({f"{HEAD}.bias": torch.ones(2).bool()}), "finite floating-point"),
        (lambda t: t.update({f"{HEAD}.scale": torch.zeros(3)}), "got .*classifier.scale"),
        (lambda t: t.update({"base_model.model.bert.x": torch.zeros(3)}), "such as .*bert.x"),
    ],
)
def test_a_saved_module_that_does_not_fit_is_refused_whole(tmp_path, change, sentence) -> None:
    model = classifier("shira")
    ls.save_peft(model, tmp_path, kind="shira")
    ls.detach(model)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(UserError, match=sentence):
        ls.load_peft(model, tmp_path)
    assert not ls.subspace.is_attached(model)


def test_a_dense_tensor_that_peft_could_not_find_by_its_modules_name_is_refused(tmp_path) -> None:
    model = torch.nn.ModuleDict({n: torch.nn.Linear(4, 4) for n in ("body", "out", "layout")})
    ls.attach(model, ls.random_mask(model, density=0.5, targets="body"), dense="out")
    with pytest.raises(UserError, match="got out and layout; use save_delta"):
        ls.save_peft(model, tmp_path, kind="shira")
