"""Identity: the hash of a base is that of W_0 whatever is attached, and of all its numbers."""

from __future__ import annotations

import copy
import dataclasses
import hashlib

import numpy as np
import pytest
import torch

import landscape as ls
from landscape import identity
from landscape.identity import base_digests, keep_digests, other_tensors
from landscape.training.inputs import run_identity


def plain_digests(model: torch.nn.Module) -> dict[str, str]:
    """The slow way: numpy's bytes of a copy, no cache."""
    plain = copy.deepcopy(model)
    if ls.subspace.is_attached(plain):
        ls.detach(plain)
    held = [*plain.named_parameters(remove_duplicate=False), *plain.named_buffers()]
    stored = set(plain.state_dict())
    return {
        name: hashlib.sha256(
            f"{t.dtype}{tuple(t.shape)}".encode() + np.ascontiguousarray(t.detach()).tobytes()
        ).hexdigest()[:32]
        for name, t in held
        if name in stored
    }


def moved(model: torch.nn.Module, **options) -> None:
    ls.attach(model, ls.random_mask(model, **options))
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.normal_()
    ls.subspace.synchronise(model)


def batch_norm() -> torch.nn.Module:
    return torch.nn.ModuleDict({"a": torch.nn.Linear(4, 5), "b": torch.nn.BatchNorm1d(5)})


@pytest.mark.parametrize(
    ("make", "targets"),
    [(lambda: ls.tiny_model("opt"), ["*.[qv]_proj", "*embed_tokens"]),
     (lambda: ls.tiny_model("gpt2"), "*"), (lambda: ls.tiny_model("vit"), "*weight"),
     (lambda: ls.tiny_model("llama"), "*.q_proj"), (batch_norm, "*")],
)  # fmt: skip
def test_digests_are_of_the_bytes_of_w_0_before_under_and_after_a_mask(make, targets) -> None:
    model = make()
    expected = plain_digests(model)
    assert base_digests(model) == expected
    moved(model, density=0.3, targets=targets)
    for _ in range(2):
        assert base_digests(model) == expected
    ls.detach(model)
    assert base_digests(model) == expected


def test_a_mask_that_spans_several_chunks_is_put_back_everywhere(monkeypatch) -> None:
    monkeypatch.setattr(identity, "_CHUNK", 100)
    model = ls.tiny_model("llama")
    expected = plain_digests(model)
    moved(model, density=0.5, targets="*_proj")
    assert base_digests(model) == expected


def test_merged_weights_are_another_base_although_merging_writes_nothing() -> None:
    model = ls.tiny_model("llama")
    pretrained = base_digests(model)
    moved(model, density=0.3)
    assert base_digests(model) == pretrained
    ls.merge(model)
    merged = base_digests(model)
    assert merged == plain_digests(model)
    assert set(other_tensors(pretrained, merged)) == set(ls.random_mask(model, density=0.5).shapes)


@pytest.mark.parametrize(
    "write",
    [lambda t: t.add_(1), lambda t: t.data.add_(1), lambda t: t.view(-1)[7].zero_(),
     lambda t: t.copy_(t.flip(0)), lambda t: t.data.copy_(t.data.flip(0)),
     lambda t: t.set_(torch.zeros_like(t))],
)  # fmt: skip
def test_a_tensor_that_is_written_has_a_new_digest_and_the_others_keep_theirs(write) -> None:
    model = ls.tiny_model("llama")
    before = base_digests(model)
    with torch.no_grad():
        write(model.model.layers[1].mlp.up_proj.weight)
    after = base_digests(model)
    assert after == plain_digests(model)
    assert other_tensors(before, after) == ["model.layers.1.mlp.up_proj.weight"]


def test_a_digest_is_computed_once_while_nothing_is_written(monkeypatch) -> None:
    model = ls.tiny_model("llama")
    moved(model, density=0.2)
    expected = base_digests(model)
    monkeypatch.setattr(identity, "hash_tensor", None)
    assert base_digests(model) == expected
    with torch.no_grad():
        model(input_ids=torch.tensor([[3, 4, 5]]))
    assert base_digests(model) == expected


def test_digests_that_were_kept_are_not_kept_for_what_is_written_later() -> None:
    model = ls.tiny_model("llama")
    expected = base_digests(model)
    moved(model, density=0.2)
    keep_digests(model, expected)
    assert base_digests(model) == expected
    with torch.no_grad():
        model.model.norm.weight.add_(1)
    assert other_tensors(expected, base_digests(model)) == ["model.norm.weight"]


def test_types_shapes_and_values_without_a_type_all_count() -> None:
    a = torch.nn.ParameterDict({"w": torch.zeros(2, 3)})
    same = torch.nn.ParameterDict({"w": torch.zeros(2, 3)})
    shaped = torch.nn.ParameterDict({"w": torch.zeros(3, 2)})
    narrow = torch.nn.ParameterDict({"w": torch.zeros(2, 3, dtype=torch.bfloat16)})
    negative = torch.nn.ParameterDict({"w": -torch.zeros(2, 3)})
    assert base_digests(a) == base_digests(same)
    assert len({base_digests(m)["w"] for m in (a, shaped, narrow, negative)}) == 4


def task(count: int = 6) -> ls.Task:
    examples = tuple(
        ls.Example(f"film {i} is", (" terrible", " great"), label=i % 2) for i in range(count)
    )
    return ls.Task("tiny", examples, examples[:2], examples[2:4])


def dropout(model: torch.nn.Module) -> None:
    model.model.layers[0].self_attn.attention_dropout = 0.5


def shifted(model: torch.nn.Module) -> None:
    with torch.no_grad():
        model.lm_head.weight.add_(1)


def other_theta(model: torch.nn.Module) -> None:
    with torch.no_grad():
        next(iter(ls.trainable(model).values()))[0] += 1


def other_mask(model: torch.nn.Module) -> None:
    rule = ls.subspace.attached_mask(model).rule
    ls.detach(model)
    ls.attach(model, dataclasses.replace(ls.random_mask(model, density=0.1, seed=9), rule=rule))


def reworded(t: ls.Task) -> ls.Task:
    first = dataclasses.replace(t.train[0], prompt="film 0 was")
    return dataclasses.replace(t, train=(first, *t.train[1:]))


def relabelled(t: ls.Task) -> ls.Task:
    return dataclasses.replace(
        t, train=tuple(dataclasses.replace(e, label=1 - e.label) for e in t.train)
    )


def added(tokenizer) -> None:
    tokenizer.add_tokens([" film"])


def lowered(tokenizer) -> None:
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()


def revised(model: torch.nn.Module) -> None:
    model.config._commit_hash = "abc"


def stretched(model: torch.nn.Module) -> None:
    model.config.rms_norm_eps = 1e-3


@pytest.mark.parametrize(
    ("change", "part"),
    [(dropout, "model settings"), (stretched, "model settings"), (shifted, "base weights"),
     (other_theta, "starting values"), (other_mask, "mask indices"), (reworded, "train rows"),
     (relabelled, "train rows"), (added, "tokenizer contents"), (lowered, "tokenizer contents"),
     (revised, "revisions")],
)  # fmt: skip
def test_each_input_has_its_own_hash_and_no_other_changes(change, part) -> None:
    model, tokenizer, data = ls.tiny_model("llama"), ls.tiny_tokenizer(), task()
    ls.attach(model, ls.random_mask(model, density=0.1))
    before = run_identity(model, tokenizer, data, test=True, scheduled=False)
    again = run_identity(model, tokenizer, task(), test=True, scheduled=False)
    assert before == again
    if change in (reworded, relabelled):
        data = change(data)
    elif change in (added, lowered):
        change(tokenizer)
    else:
        change(model)
    after = run_identity(model, tokenizer, data, test=True, scheduled=False)
    assert [key for key in before if before[key] != after[key]] == [part]


def test_how_a_tokenizer_was_called_last_does_not_count_and_is_left_alone() -> None:
    model, tokenizer = ls.tiny_model("llama"), ls.tiny_tokenizer()
    before = run_identity(model, tokenizer, task(), test=True, scheduled=False)
    called = tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=3)
    state = tokenizer.backend_tokenizer.truncation, tokenizer.backend_tokenizer.padding
    assert None not in state
    assert run_identity(model, tokenizer, task(), test=True, scheduled=False) == before
    assert (tokenizer.backend_tokenizer.truncation, tokenizer.backend_tokenizer.padding) == state
    assert tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=3) == called


def test_without_a_mask_the_trainable_numbers_are_the_start_and_the_frozen_ones_the_base() -> None:
    model, tokenizer = ls.tiny_model("llama"), ls.tiny_tokenizer()
    model.requires_grad_(False)
    model.lm_head.requires_grad_(True)
    before = run_identity(model, tokenizer, task(), test=False, scheduled=False)
    shifted(model)
    after = run_identity(model, tokenizer, task(), test=False, scheduled=False)
    assert [key for key in before if before[key] != after[key]] == ["starting values"]
    with torch.no_grad():
        model.model.norm.weight.add_(1)
    last = run_identity(model, tokenizer, task(), test=False, scheduled=False)
    assert [key for key in before if last[key] != after[key]] == ["base weights"]
    assert "test rows" not in last
