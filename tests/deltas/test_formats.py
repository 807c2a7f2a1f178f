"""Delta files: whose base they are of, and what of their damage a reader notices."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import landscape as ls
from landscape.errors import UserError
from landscape.subspace import attached_mask, is_attached
from landscape.tensorfile import read_tensors, write_tensors


def trained(architecture: str = "llama", *, kind: str = "random", heads=(), **options):
    """A model with a mask and random values, as training would leave it."""
    model = ls.tiny_model(architecture, **options)
    targets = "*.query" if architecture == "bert" else "*.[qv]_proj"
    mask = ls.random_mask(model, density=0.1, targets=targets, seed=3)
    mask = ls.with_heads(mask, model, heads) if heads else mask
    ls.attach(model, mask if kind == "random" else dataclasses.replace(mask, rule={"kind": kind}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.normal_(generator=generator)
    return model


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 40).view(1, -1)).logits


def shift_others(model: torch.nn.Module) -> None:
    """Add 1 to every tensor without a mask."""
    masked = ls.random_mask(model, count=2, sampling="exact").shapes
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name not in masked:
                p.add_(1.0)


@pytest.mark.parametrize("kind", ["random", "given"])
def test_a_base_that_differs_outside_the_mask_alone_is_refused_and_left_alone(
    tmp_path, kind
) -> None:
    path = ls.save_delta(trained(kind=kind), tmp_path / "delta.safetensors")
    other = ls.tiny_model("llama")
    shift_others(other)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(UserError, match=r"got another base model: lm_head\.weight"):
        ls.load_delta(other, path)
    assert not is_attached(other)
    assert all(torch.equal(t, before[n]) for n, t in other.state_dict().items())
    ls.load_delta(other, path, force=True)
    assert is_attached(other)


def test_one_changed_number_of_a_base_is_noticed_and_its_tensor_named(tmp_path) -> None:
    path = ls.save_delta(trained(), tmp_path / "delta.safetensors")
    other = ls.tiny_model("llama")
    with torch.no_grad():
        other.model.layers[1].mlp.gate_proj.weight[3, 5].add_(1e-6)
    with pytest.raises(UserError, match=r": model\.layers\.1\.mlp\.gate_proj\.weight differ;"):
        ls.load_delta(other, path)
    with pytest.raises(UserError, match="another base model"):
        ls.read_delta(other, path)


def test_a_base_that_a_delta_was_merged_into_is_another_base(tmp_path) -> None:
    model = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    ls.load_delta(model, path)
    ls.merge(model)
    with pytest.raises(UserError, match="another base model"):
        ls.load_delta(model, path)


def test_a_fitted_head_that_the_file_lacks_is_refused_by_name_and_kept_with_heads(tmp_path) -> None:
    def fitted() -> torch.nn.Module:
        model = ls.tiny_model("bert")
        with torch.no_grad():
            model.classifier.weight.copy_(torch.linspace(-1, 1, 64).view(2, 32))
        return model

    model = fitted()
    ls.attach(model, ls.random_mask(model, density=0.1, targets="*.query"))
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    expected = logits(model)
    with pytest.raises(UserError, match=r": classifier\.weight differ.*`with_heads`"):
        ls.load_delta(ls.tiny_model("bert"), path)
    again = fitted()
    ls.load_delta(again, path)
    assert torch.equal(logits(again), expected)
    ls.detach(model)
    mask = ls.random_mask(model, density=0.1, targets="*.query")
    ls.attach(model, ls.with_heads(mask, model, ["classifier.*"]))
    kept = ls.save_delta(model, tmp_path / "kept.safetensors")
    fresh = ls.tiny_model("bert")
    ls.load_delta(fresh, kept)
    torch.testing.assert_close(logits(fresh), expected, rtol=0, atol=1e-6)


def test_another_precision_of_a_base_is_taken_by_force_alone(tmp_path) -> None:
    model = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    narrow = ls.tiny_model("llama").to(torch.bfloat16)
    with pytest.raises(UserError, match="it was in float32, this one is in bfloat16"):
        ls.load_delta(narrow, path)
    ls.load_delta(narrow, path, force=True)
    for name, theta in ls.trainable(narrow).items():
        assert torch.equal(theta, ls.trainable(model)[name])
    # a delta that was taken by force belongs to the base that took it
    again = ls.save_delta(narrow, tmp_path / "narrow.safetensors")
    ls.load_delta(ls.tiny_model("llama").to(torch.bfloat16), again)


def test_a_mask_whose_indices_were_changed_under_its_rule_is_saved_as_it_is(tmp_path) -> None:
    model = ls.tiny_model("llama")
    mask = ls.random_mask(model, density=0.1)
    other = ls.random_mask(model, density=0.1, seed=8)
    ls.attach(model, dataclasses.replace(mask, indices=other.indices))
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    loaded = ls.load_delta(ls.tiny_model("llama"), path).mask
    assert all(torch.equal(loaded.indices[n], i) for n, i in other.indices.items())
    assert loaded.rule["kind"] == "given"


def test_a_rule_that_draws_other_weights_here_is_refused(tmp_path, monkeypatch) -> None:
    from landscape import masks

    model = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    honest = masks.bernoulli

    def other(rng, n, probability):
        drawn = honest(rng, n, probability)
        return (drawn + 1) % n if drawn[-1] == n - 1 else drawn + 1

    monkeypatch.setattr(masks, "bernoulli", other)
    with pytest.raises(UserError, match="draws other weights here"):
        ls.load_delta(ls.tiny_model("llama"), path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_neither_saved_nor_applied_nor_loaded(
    tmp_path, value
) -> None:
    model = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    file = read_tensors(path, "a delta file")
    name = next(iter(ls.trainable(model)))
    file.tensors[name][2] = value
    damaged = write_tensors(tmp_path / "damaged.safetensors", file.tensors, file.header)
    with pytest.raises(
        UserError, match=f"finite values in a delta, got NaN or infinity for {name}"
    ):
        ls.load_delta(model, damaged)
    change = ls.delta(model)
    with pytest.raises(UserError, match="finite factor"):
        value * change
    change.values[name][2] = value
    with pytest.raises(UserError, match="finite values"):
        ls.apply_delta(model, change)
    with torch.no_grad():
        ls.trainable(model)[name][2] = value
    with pytest.raises(UserError, match="finite values"):
        ls.save_delta(model, tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


def test_a_factor_that_overflows_is_not_saved(tmp_path) -> None:
    model = trained()
    with pytest.raises(UserError, match="finite values"):
        ls.apply_delta(model, 1e39 * ls.delta(model))


@pytest.mark.parametrize(
    "origin",
    [torch.full((64,), math.nan), torch.ones(64, dtype=torch.bool),
     torch.zeros(64).to(torch.cfloat), torch.zeros(64, dtype=torch.int64), torch.zeros(2, 32)],
)  # fmt: skip
def test_a_heads_initial_values_are_finite_numbers_of_its_shape(tmp_path, origin) -> None:
    model = trained("bert", heads=["classifier.weight"])
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    file = read_tensors(path, "a delta file")
    tensors = file.tensors | {"classifier.weight.origin": origin}
    write_tensors(path, tensors, file.header)
    with pytest.raises(UserError, match="initial values of a head"):
        ls.load_delta(ls.tiny_model("bert"), path)


def test_deltas_of_two_models_do_not_add() -> None:
    def change(**options) -> ls.Delta:
        return ls.delta(trained(**options))

    other_seed, wider = change(seed=1), change(num_key_value_heads=4)
    disjoint = ls.tiny_model("llama")
    shift_others(disjoint)
    ls.attach(disjoint, ls.random_mask(disjoint, density=0.1, targets="*.[qv]_proj", seed=8))
    for other in (other_seed, wider, ls.delta(disjoint)):
        for operation in (lambda a, b: a + b, lambda a, b: a - b, ls.compose):
            with pytest.raises(UserError, match=r"one base model|different weights"):
                operation(change(), other)
    with pytest.raises(UserError, match=r"v_proj.weight of shape \(16, 32\) and of shape"):
        ls.overlap(change(), wider)
    # where the bases are not known the shapes still are
    bare = [dataclasses.replace(d, base=None) for d in (change(), wider)]
    with pytest.raises(UserError, match="one base model"):
        bare[0] + bare[1]


def test_a_path_below_the_user_is_written_and_read_there(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = trained()
    assert ls.save_delta(model, "~/deltas/a.safetensors") == tmp_path / "deltas" / "a.safetensors"
    assert not (tmp_path / "~").exists()
    ls.load_delta(model, "~/deltas/a.safetensors")


def test_a_file_of_the_older_format_is_read_by_force_alone(tmp_path) -> None:
    model = trained()
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    file = read_tensors(path, "a delta file")
    older = {k: v for k, v in file.header.items() if k not in ("indices", "base", "dtype")}
    save_file(file.tensors, path, metadata={
        "landscape": json.dumps(older | {"format": "landscape-delta-1"})})  # fmt: skip
    fresh = ls.tiny_model("llama")
    with pytest.raises(UserError, match=r"landscape-delta-1, .*force=True \(--force\) and save it"):
        ls.load_delta(fresh, path)
    ls.load_delta(fresh, path, force=True)
    assert torch.equal(logits(fresh), logits(model))


def test_a_tensor_without_an_index_is_saved_and_loaded(tmp_path) -> None:
    model = ls.tiny_model("llama")
    mask = ls.random_mask(model, count=1, sampling="exact")
    none = torch.zeros(1, dtype=torch.int64).expand(3)[:0]  # strides of 0, as unions may have
    indices = {n: i if i.numel() else none for n, i in mask.indices.items()}
    ls.attach(model, dataclasses.replace(mask, indices=indices, rule={"kind": "given"}))
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    assert ls.load_delta(ls.tiny_model("llama"), path).mask.count == 1


def state(model: torch.nn.Module) -> dict[str, list]:
    indices = attached_mask(model).indices
    return {n: [indices[n].tolist(), p.tolist()] for n, p in ls.trainable(model).items()}


def layers() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.ModuleDict({"a": torch.nn.Linear(6, 5), "b": torch.nn.Linear(3, 4)})


def small(path: Path, kind: str) -> tuple[Path, torch.nn.Module]:
    """A file of a few hundred bytes on two layers, one of them a head."""
    model = layers()
    mask = ls.random_mask(model, density=0.3, targets="a", seed=1)
    if kind == "structured":
        mask = ls.structured_mask(model, granularity="rows", count=8, targets="a", seed=1)
    if kind == "given":
        mask = dataclasses.replace(mask, rule={"kind": "given", "note": [1, {"deep": None}]})
    ls.attach(model, ls.with_heads(mask, model, ["b.bias"]))
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.normal_(generator=torch.Generator().manual_seed(2))
    return ls.save_delta(model, path), model


@pytest.mark.parametrize("kind", ["random", "structured", "given"])
def test_every_changed_byte_is_refused_or_changes_no_number(tmp_path, kind) -> None:
    path, model = small(tmp_path / "delta.safetensors", kind)
    expected = state(model)
    whole, draw = path.read_bytes(), random.Random(kind)
    base = layers()
    loaded = 0
    for _ in range(600):
        place = draw.randrange(len(whole))
        data = bytearray(whole)
        data[place] ^= draw.randrange(1, 256)
        path.write_bytes(data)
        try:
            ls.load_delta(base, path)
        except UserError:
            continue
        loaded += 1
        assert state(base) == expected, f"byte {place}"
        ls.detach(base)
    assert loaded < 30
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError):
            ls.load_delta(base, path)


def places(value: object, at: tuple = ()) -> list[tuple]:
    """List the paths of all values inside a JSON value, itself first."""
    found = [at]
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += places(item, (*at, index))
    return found


def put(value: object, at: tuple, new: object) -> object:
    if not at:
        return new
    value = copy.copy(value)
    value[at[0]] = put(value[at[0]], at[1:], new)
    return value


STRANGE = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, "", "a", "*", "a.weight",
    "\x00", "x" * 10_000, [], [[]], [None], ["a"], ["*"], [1, 2], [5, 6], [0, 0], [1e9, 1e9],
    [2**40, 2**40], {}, {"a": 1}, {"kind": []}, {"kind": "random"}, {"a.weight": [5, 6]}, [{}],
    [["a"]], "random", "structured", "given", "1:4", "0:0", "rows", "nan",
]  # fmt: skip
#: texts in the place of the whole header, or of one value
RAW = ["[]", "5", "null", '"a"', "", "{", "[" * 100_000, '{"a":' * 100_000, "9" * 5000,
       '{"format": ' + "9" * 5000 + "}", "NaN", "[" * 31 + "]" * 31]  # fmt: skip


@pytest.mark.parametrize("kind", ["random", "structured", "given"])
def test_a_header_of_any_other_shape_is_refused_in_a_sentence(tmp_path, kind) -> None:
    """Each mutation carries its own digest, so that what notices it is what it says."""
    path, model = small(tmp_path / "delta.safetensors", kind)
    expected = state(model)
    file, draw = read_tensors(path, "a delta file"), random.Random(kind)
    mutations = [(at, value) for at in places(file.header) for value in STRANGE]
    base, refused, longest = layers(), 0, 0
    for at, value in draw.sample(mutations, min(900, len(mutations))):
        header = put(file.header, at, value)
        path.unlink()
        write_tensors(path, file.tensors, header if isinstance(header, dict) else {"": header})
        try:
            ls.load_delta(base, path)
        except UserError as error:
            longest = max(longest, len(str(error)))
            refused += 1
            continue
        assert state(base) == expected, (at, value)
        ls.detach(base)
    assert refused > 600
    assert longest < 1_000
    keys = [at for at in places(file.header) if at and isinstance(at[-1], str)]
    for at in keys:  # each key in turn is missing
        parent = copy.deepcopy(file.header)
        inner = parent
        for step in at[:-1]:
            inner = inner[step]
        del inner[at[-1]]
        write_tensors(path, file.tensors, parent)
        try:
            ls.load_delta(base, path)
        except UserError:
            continue
        assert state(base) == expected, at
        ls.detach(base)


@pytest.mark.parametrize("text", RAW)
def test_a_header_that_is_no_object_is_refused_in_a_sentence(tmp_path, text) -> None:
    path, _ = small(tmp_path / "delta.safetensors", "given")
    with safe_open(path, framework="pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    header = json.dumps(read_tensors(path, "a delta file").header)
    inside = header.replace('"given"', text or '""')
    for whole in (text, inside, header[:-1] + f', "more": {text or 1}}}'):
        save_file(tensors, path, metadata={"landscape": whole})
        with pytest.raises(UserError):
            ls.load_delta(layers(), path)


@pytest.mark.parametrize("kind", ["random", "given"])
def test_tensors_of_any_other_type_shape_or_name_are_refused_in_a_sentence(tmp_path, kind) -> None:
    path, _ = small(tmp_path / "delta.safetensors", kind)
    file = read_tensors(path, "a delta file")
    for name, tensor in file.tensors.items():
        others = [tensor[:-1], tensor.repeat(2), tensor.view(1, -1), tensor[:0], tensor[0], None]
        for dtype in (torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16,
                      torch.float64, torch.complex64, torch.float8_e4m3fn):  # fmt: skip
            others.append(tensor.to(dtype))
        others += [torch.full_like(tensor, value) for value in (-1, 2**30)]
        for other in others:
            if other is not None and other.dtype == tensor.dtype and torch.equal(other, tensor):
                continue
            tensors = {n: t for n, t in file.tensors.items() if n != name}
            if other is not None:
                tensors[name] = other
            write_tensors(path, tensors, file.header)
            base = layers()
            try:
                ls.load_delta(base, path)
            except UserError:
                continue
            # what is left are numbers of another type or value, with a digest of their own
            assert other is not None, name
            assert other.shape == tensor.shape, name
            assert other.is_floating_point() or torch.equal(other, tensor.long()), name
