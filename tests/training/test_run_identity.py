"""A run's folder refuses other inputs and other settings by name, and knows the same run again."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from kept_runs import SETTINGS, finetune, masked, tiny_task

import landscape as ls
from landscape.errors import UserError
from landscape.training import baselines


def lora(seed: int) -> torch.nn.Module:
    pytest.importorskip("peft")
    return baselines.lora(ls.tiny_model("llama"), rank=2, seed=seed)


def elsewhere() -> torch.nn.Module:
    model = masked()
    with torch.no_grad():
        next(iter(ls.trainable(model).values()))[0] = 0.5
    return model


def by_hand() -> torch.nn.Module:
    """A mask of the same rule and counts on other weights."""
    model = ls.tiny_model("llama")
    mask = ls.random_mask(model, density=0.3, targets="*_proj")
    shapes = {n: torch.Size(s).numel() for n, s in mask.shapes.items()}
    other = {n: ((i + 1) % shapes[n]).sort().values for n, i in mask.indices.items()}
    ls.attach(model, dataclasses.replace(mask, indices=other))
    return model


def shifted() -> torch.nn.Module:
    model = masked()
    with torch.no_grad():
        model.model.norm.weight.add_(1.0)
    return model


def narrow() -> torch.nn.Module:
    model = ls.tiny_model("llama").to(torch.bfloat16)
    ls.attach(model, ls.random_mask(model, density=0.3, targets="*_proj"))
    return model


def uncased():
    from tokenizers import normalizers

    tokenizer = ls.tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


def changed(split: str, **change) -> ls.Task:
    task = tiny_task()
    first, *others = task.split(split)
    return dataclasses.replace(task, **{split: (dataclasses.replace(first, **change), *others)})


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({}, {"task": tiny_task(40)}, "the train rows differ: 16 there, 40 asked for"),
        ({}, {"task": tiny_task(flip=True)}, "the train rows differ in their labels"),
        ({}, {"task": changed("train", prompt="x")}, "the train rows differ in their texts"),
        ({}, {"task": changed("dev", prompt="x")}, "the dev rows differ in their texts"),
        ({}, {"task": changed("test", label=1)}, "the test rows differ in their labels"),
        ({}, {"model": lambda: masked(seed=1)}, "the base weights differ"),
        ({}, {"model": shifted}, "the base weights differ"),
        ({}, {"model": narrow}, "dtype 'float32' there, 'bfloat16' asked for"),
        ({}, {"model": by_hand}, r"\(the mask indices differ\)"),
        ({}, {"model": elsewhere}, r"\(the starting values differ\)"),
        ({}, {"tokenizer": uncased()}, "the tokenizer contents differ"),
        ({"model": lambda: lora(0)}, {"model": lambda: lora(1)}, "the starting values differ"),
        ({"model": lambda: baselines.full(ls.tiny_model("llama"))},
         {"model": lambda: baselines.full(ls.tiny_model("llama", seed=1))},
         "the starting values differ"),
    ],
)  # fmt: skip
def test_a_folder_refuses_other_inputs_by_name_and_is_left_as_it_was(
    tmp_path, first, second, words
) -> None:
    def call(model=masked, tokenizer=None, task=None, **options) -> ls.Run:
        tokenizer = tokenizer or ls.tiny_tokenizer()
        return ls.finetune(
            model(), tokenizer, task or tiny_task(), folder=tmp_path,
            **(SETTINGS | {"epochs": 1} | options),
        )  # fmt: skip

    call(**first)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UserError, match=words):
        call(**(first | second))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert not call(**(first | second), overwrite=True).stored
    assert call(**(first | second)).stored


@pytest.mark.parametrize(
    "setting",
    [{"lr": 2e-2}, {"epochs": 3}, {"batch_size": 5}, {"seed": 6}, {"weight_decay": 0.1},
     {"betas": (0.9, 0.99)}, {"eps": 1e-7}, {"test": False}, {"max_gradient_norm": 2.0},
     {"evaluations_per_epoch": 2}, {"select_by": "loss"}, {"max_length": 7}, {"bos": 3}],
    ids=lambda setting: next(iter(setting)),
)  # fmt: skip
def test_a_folder_refuses_every_other_setting_by_name(whole, setting) -> None:
    with pytest.raises(UserError, match=rf"{next(iter(setting))} .* there, .* asked for"):
        finetune(masked(), whole[0].path, **setting)


def test_two_revisions_differ_where_both_are_known(tmp_path) -> None:
    def call(revision: str | None) -> ls.Run:
        model = masked()
        model.config._commit_hash = revision
        return finetune(model, tmp_path, epochs=1)

    call("abc")
    assert call(None).stored
    with pytest.raises(UserError, match="the revisions differ"):
        call("def")


def test_the_same_weights_by_another_name_are_the_same_run(tmp_path) -> None:
    finetune(masked(), tmp_path, epochs=1)
    model = masked()
    model.config._name_or_path = "/somewhere/else"
    assert finetune(model, tmp_path, epochs=1).stored


def test_a_configuration_is_readable_and_keeps_hashes_apart(tmp_path) -> None:
    run = finetune(masked(), tmp_path, epochs=1)
    config = json.loads((tmp_path / "config.json").read_text())
    hashes = config.pop("identity")
    assert hashes["starting values"] == "zero"
    assert hashes["train rows"]["count"] == 16
    assert config["model"] == "LlamaForCausalLM"
    assert config["dtype"] == "float32"
    assert max(len(str(value)) for value in config.values()) < 200
    assert run.config == config | {"identity": hashes}


def test_a_folder_of_an_older_version_is_refused_with_what_to_do(tmp_path) -> None:
    finetune(masked(), tmp_path, epochs=1)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["identity"]
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"as in older versions\); choose another folder or start"):
        finetune(masked(), tmp_path, epochs=1)
