"""SHiRA and Super-Tuning folders: what peft writes we read, what we write peft computes with."""

from __future__ import annotations

import contextlib
import json
import math
import random

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import landscape as ls
from landscape.errors import UserError

KINDS = ("shira", "supertuning")
IDS = torch.tensor([[5, 6, 7, 8], [11, 12, 13, 14]])


def filled(mask_of, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    model = ls.tiny_model("opt").to(dtype)
    ls.attach(model, mask_of(model))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.normal_(std=0.1, generator=generator)
    return model


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def uneven(model: torch.nn.Module) -> ls.Mask:
    return ls.select_mask(model, score="magnitude", count=333, scope="global")


def even(model: torch.nn.Module) -> ls.Mask:
    return ls.random_mask(model, density=0.1, targets=["*.q_proj", "*.fc1"], seed=1)


@pytest.mark.parametrize("mask_of", [uneven, even], ids=["uneven", "even"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_written_folder_comes_back_bit_for_bit(tmp_path, kind, mask_of) -> None:
    model = filled(mask_of)
    before = ls.delta(model)
    ls.save_peft(model, tmp_path, kind=kind)
    ls.detach(model)
    again = ls.read_peft(model, tmp_path)
    held = {n for n, i in before.mask.indices.items() if i.numel()}
    assert set(again.mask.indices) == held
    for name in held:
        assert torch.equal(again.mask.indices[name], before.mask.indices[name])
        assert torch.equal(again.values[name], before.values[name])
    assert again.mask.num_parameters == before.mask.num_parameters
    ls.load_peft(model, tmp_path)
    for name in held:
        assert torch.equal(ls.trainable(model)[name], before.values[name])


@pytest.mark.parametrize("mask_of", [uneven, even], ids=["uneven", "even"])
@pytest.mark.parametrize("kind", KINDS)
def test_peft_computes_with_a_written_folder_as_we_do(tmp_path, kind, mask_of) -> None:
    model = filled(mask_of)
    ours = logits(model)
    assert not torch.allclose(ours, logits(ls.tiny_model("opt")), atol=1e-3)
    ls.save_peft(model, tmp_path, kind=kind)
    theirs = peft.PeftModel.from_pretrained(ls.tiny_model("opt"), tmp_path)
    # repeated indices add zeros; what is left is the rounding of float32 products
    torch.testing.assert_close(logits(theirs), ours, rtol=1e-5, atol=1e-5)


def peft_model(kind: str) -> torch.nn.Module:
    config = {
        "shira": lambda: peft.ShiraConfig(
            r=2, target_modules=["q_proj", "v_proj"], init_weights=False, random_seed=5
        ),
        "supertuning": lambda: peft.SupertuningConfig(
            sparsity=0.93, target_modules=["q_proj", "v_proj"], init_weights=False
        ),
    }[kind]()
    torch.manual_seed(7)
    return peft.get_peft_model(ls.tiny_model("opt"), config)


@pytest.mark.parametrize("kind", KINDS)
def test_what_peft_writes_computes_the_same_here_and_goes_back_unchanged(tmp_path, kind) -> None:
    theirs = peft_model(kind)
    theirs.save_pretrained(tmp_path / "theirs")
    model = ls.tiny_model("opt")
    ls.load_peft(model, tmp_path / "theirs")
    torch.testing.assert_close(logits(model), logits(theirs), rtol=1e-5, atol=1e-5)
    ls.save_peft(model, tmp_path / "ours", kind=kind)
    first, second = (
        ls.read_peft(ls.tiny_model("opt"), tmp_path / name) for name in ("theirs", "ours")
    )
    assert first.mask.count == second.mask.count > 0
    for name in first.values:
        assert torch.equal(first.mask.indices[name], second.mask.indices[name])
        assert torch.equal(first.values[name], second.values[name])
    # peft's own number of values: nothing had to be repeated
    sizes = [
        sum(t.numel() for t in load_file(tmp_path / n / "adapter_model.safetensors").values())
        for n in ("theirs", "ours")
    ]
    assert sizes[0] == sizes[1]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 1023), unique=True, min_size=1, max_size=300),
    st.lists(st.integers(0, 4095), unique=True, max_size=300),
    st.sampled_from(KINDS),
)
def test_any_mask_comes_back(tmp_path_factory, first, second, kind) -> None:
    q, f = (f"model.decoder.layers.0.{n}.weight" for n in ("self_attn.q_proj", "fc1"))
    model = ls.tiny_model("opt")
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters() if n in (q, f)}
    sizes = {n: a * b for n, (a, b) in shapes.items()}
    chosen = {q: [i % sizes[q] for i in first], f: [i % sizes[f] for i in second]}
    indices = {n: torch.tensor(sorted(set(i)), dtype=torch.int64) for n, i in chosen.items()}
    total = sum(p.numel() for p in model.parameters())
    model = filled(lambda _: ls.Mask(indices, shapes, total, {"kind": "given"}))
    before = ls.delta(model)
    folder = tmp_path_factory.mktemp("any")
    ls.save_peft(model, folder, kind=kind)
    again = ls.read_peft(model, folder)
    for name in again.values:
        assert torch.equal(again.mask.indices[name], before.mask.indices[name])
        assert torch.equal(again.values[name], before.values[name])
    assert again.mask.count == before.mask.count


def test_repeated_indices_add_up_as_in_peft(tmp_path) -> None:
    model = filled(even)
    ls.save_peft(model, tmp_path, kind="supertuning")
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    key = next(k for k in tensors if k.endswith("values"))
    index = key.replace("values", "indices")
    tensors[key], tensors[index] = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([9, 3, 9]).int()
    save_file(tensors, path)
    ls.detach(model)
    name = key.removeprefix("base_model.model.").replace(".supertuning_values", ".weight")
    read = ls.read_peft(model, tmp_path)
    assert read.mask.indices[name].tolist() == [3, 9]
    assert read.values[name].tolist() == [2.0, 5.0]


def test_reading_on_a_changed_model_knows_the_pretrained_values(tmp_path) -> None:
    model = filled(even)
    ls.save_peft(model, tmp_path, kind="shira")
    read = ls.read_peft(model, tmp_path)
    plain = dict(ls.tiny_model("opt").named_parameters())
    for name, indices in read.mask.indices.items():
        assert torch.equal(read.origins[name], plain[name].detach().view(-1)[indices])
    ls.load_peft(model, tmp_path)
    ls.detach(model)
    assert all(torch.equal(p, plain[n]) for n, p in model.named_parameters())


def refused(tmp_path, change, sentence: str, kind: str = "supertuning") -> None:
    """Damage a good folder; expect a sentence and an untouched model."""
    model = filled(even)
    ls.save_peft(model, tmp_path, kind=kind)
    ls.detach(model)
    path, config = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    settings_, tensors = json.loads(config.read_text()), load_file(path)
    change(settings_, tensors)
    config.write_text(json.dumps(settings_))
    save_file(tensors, path)
    before = {n: p.clone() for n, p in model.state_dict().items()}
    with pytest.raises(UserError, match=sentence):
        ls.load_peft(model, tmp_path)
    assert all(torch.equal(p, before[n]) for n, p in model.state_dict().items())
    assert not ls.subspace.is_attached(model)


def first(tensors: dict, end: str) -> str:
    return next(key for key in sorted(tensors) if key.endswith(end))


def of(tensors: dict, end: str, change) -> None:
    key = first(tensors, end)
    tensors[key] = change(tensors[key])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c, t: c.update(peft_type="LORA"), "got LORA"),
        (lambda c, t: c.update(r=4), "got r or strange modules_to_save"),
        (lambda c, t: c.update(modules_to_save="score"), "got r or strange modules_to_save"),
        (lambda c, t: t.pop(first(t, "indices")), "save_precomputed_indices"),
        (lambda c, t: t.update(strange=torch.zeros(1)), "1 other tensors, such as strange"),
        (lambda c, t: t[first(t, "indices")].fill_(10**6), "inside"),
        (lambda c, t: t[first(t, "indices")].fill_(-1), "inside"),
        (lambda c, t: t.update({first(t, "values"): torch.zeros(3)}), "expected 3 indices"),
        (lambda c, t: t[first(t, "values")].fill_(math.nan), "finite floating-point values"),
        (lambda c, t: t[first(t, "values")].fill_(3e38), "finite values in a delta"),
        (lambda c, t: of(t, "values", lambda v: v.bool()), "finite floating-point values"),
        (lambda c, t: of(t, "values", lambda v: v.cfloat()), "finite floating-point values"),
        (lambda c, t: of(t, "values", lambda v: v[None]), "a row of finite"),
        (lambda c, t: of(t, "values", lambda v: v[0]), "a row of finite"),
        (lambda c, t: of(t, "indices", lambda i: i + 0.5), "indices inside .*float32"),
        (lambda c, t: of(t, "indices", lambda i: i.bool()), "indices inside .*bool"),
        (lambda c, t: of(t, "indices", lambda i: i[0]), "indices inside"),
        (lambda c, t: of(t, "indices", lambda i: i.repeat(2, 1, 1)), "indices inside"),
        (lambda c, t: c.update(peft_type=["SHIRA"]), "got \\['SHIRA'\\]"),
        (
            lambda c, t: t.update({k.replace("layers.0", "layers.9"): t.pop(k) for k in list(t)}),
            "no matrix of this model",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_whole(tmp_path, change, sentence) -> None:
    refused(tmp_path, change, sentence)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_with_a_hundred_thousand_tensors_is_refused_before_any_is_read(
    tmp_path, kind
) -> None:
    model = filled(even)
    ls.save_peft(model, tmp_path, kind=kind)
    ls.detach(model)
    ends = {"shira": ("shira_weight", "shira_indices"),
            "supertuning": ("supertuning_values", "supertuning_indices")}[kind]  # fmt: skip
    for names in (("x{}",), [f"base_model.model.l{{}}.{end}" for end in ends]):
        empty = ",".join(
            f'"{name.format(i)}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
            for i in range(100_000 // len(names)) for name in names
        )  # fmt: skip
        header = f"{{{empty}}}".encode()
        path = tmp_path / "adapter_model.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        before = {n: p.clone() for n, p in model.state_dict().items()}
        with pytest.raises(UserError, match=r"100,000 other tensors|50,000 modules"):
            ls.load_peft(model, tmp_path)
        assert all(torch.equal(p, before[n]) for n, p in model.state_dict().items())


def test_indices_in_any_order_are_read_as_peft_reads_them(tmp_path) -> None:
    model = filled(even)
    expected = ls.delta(model)
    ls.save_peft(model, tmp_path, kind="supertuning")
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({k: t.flip(0).contiguous() for k, t in tensors.items()}, path)
    ls.detach(model)
    read = ls.read_peft(model, tmp_path)
    for name, value in expected.values.items():
        assert torch.equal(read.mask.indices[name], expected.mask.indices[name])
        assert torch.equal(read.values[name], value)


def test_pairs_beyond_a_matrix_are_refused(tmp_path) -> None:
    # row 0, column 32 of a matrix of 32 columns would be row 1, column 0 if it were taken flat
    refused(tmp_path, lambda c, t: t[first(t, "indices")][1].fill_(32), "inside", kind="shira")


def test_what_the_formats_cannot_hold_is_refused(tmp_path) -> None:
    # r (inputs + outputs) is no divisor of this matrix's size
    model = filled(lambda m: ls.random_mask(m, density=1.0, targets="*.fc1"))
    with pytest.raises(UserError, match="too dense"):
        ls.save_peft(model, tmp_path, kind="shira")
    biases = filled(lambda m: ls.random_mask(m, density=0.5, targets="*.q_proj.bias"))
    with pytest.raises(UserError, match="Linear layers only"):
        ls.save_peft(biases, tmp_path, kind="shira")
    wide = filled(even, torch.float64)
    with pytest.raises(UserError, match="float32"):
        ls.save_peft(wide, tmp_path, kind="supertuning")
    with pytest.raises(UserError, match="kind to be one of shira, supertuning"):
        ls.save_peft(wide, tmp_path, kind="lora")
    with pytest.raises(UserError, match="found no"):
        ls.load_peft(model, tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def test_a_dense_mask_fits_super_tuning(tmp_path) -> None:
    model = filled(lambda m: ls.random_mask(m, density=1.0, targets="*.q_proj"))
    before = ls.delta(model)
    ls.save_peft(model, tmp_path, kind="supertuning")
    again = ls.read_peft(model, tmp_path)
    assert all(torch.equal(again.values[n], before.values[n]) for n in before.values)


@pytest.mark.parametrize("kind", ["shira", "supertuning"])
def test_a_changed_byte_ends_in_a_sentence_or_in_a_mask(tmp_path, kind) -> None:
    """peft's files have no digest: another number may pass, nothing else may."""
    model, draw = filled(even), random.Random(kind)
    ls.save_peft(model, tmp_path, kind=kind)
    ls.detach(model)
    for file in sorted(tmp_path.iterdir()):
        whole = file.read_bytes()
        head = min(len(whole), 1_500)  # where the names, types and sizes are
        for _ in range(150):
            data = bytearray(whole)
            data[draw.randrange(head)] ^= draw.randrange(1, 256)
            file.write_bytes(data)
            with contextlib.suppress(UserError):
                ls.load_peft(model, tmp_path)
                assert all(bool(p.isfinite().all()) for p in ls.trainable(model).values())
                ls.detach(model)
        file.write_bytes(whole)


def test_a_truncated_file_is_refused(tmp_path) -> None:
    model = filled(even)
    ls.save_peft(model, tmp_path, kind="shira")
    ls.detach(model)
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        ls.load_peft(model, tmp_path)
