"""Delta files of other bytes, headers or tensors: refused in a sentence, or no number changed."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import landscape as ls
from landscape.errors import UserError
from landscape.subspace import attached_mask
from landscape.tensorfile import read_tensors, write_tensors


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
