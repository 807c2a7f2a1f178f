"""Every gradient kernel, on every pattern of entries, against products in float64."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import landscape as ls
from landscape.errors import UserError
from landscape.kernels import (
    Coordinates,
    choice,
    gpu,
    masked_matmul,
    native,
    sampled_values,
    sparse_product,
    spmm_values,
    spops,
)
from landscape.kernels.choice import KERNELS, usable_kernels

ROWS, COLS = 12, 18
HERE = torch.device("cpu")


def stand_in() -> types.ModuleType:
    """The two functions that spops is recognised by, in plain torch, with its calling rules."""
    module = types.ModuleType("spops")

    def expand(offsets: Tensor) -> Tensor:
        assert offsets.dtype == torch.int32
        return torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff().long())

    def sddmm(offsets, order, cols, A, BT, backend=None):
        assert order.dtype == cols.dtype
        assert A.dtype == BT.dtype == torch.float32
        assert A.is_contiguous()
        assert BT.is_contiguous()
        counts = offsets.diff()[order.long()]
        assert torch.all(counts[1:] <= counts[:-1])  # rows by descending count
        return (A[expand(offsets)] * BT[cols.long()]).sum(1)

    def csr_add(values, offsets, order, cols, B, inplace=False):
        out = B if inplace else B.clone()
        out[expand(offsets), cols.long()] += values
        return out

    module.sddmm, module.csr_add = sddmm, csr_add
    return module


def provide(kernel: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make an optional kernel usable on a CPU, or skip."""
    if kernel == "native" and not native.is_usable((1, 1), torch.float32, HERE):
        pytest.skip("needs a C compiler")
    if kernel == "spops" and spops._installed() is None:
        monkeypatch.setattr(spops, "_installed", stand_in)
    if kernel == "triton":
        pytest.importorskip("triton", reason="Triton is optional")
        if os.environ.get("TRITON_INTERPRET") != "1":
            pytest.skip("set TRITON_INTERPRET=1 to run Triton's interpreter on a CPU")
    return kernel


@pytest.fixture(params=list(KERNELS))
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return provide(request.param, monkeypatch)


def numbers(*shape: int, dtype=torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(
        shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).to(dtype)


def product(rows, cols, extra=()) -> Tensor:
    flat = {r * COLS + c for r in rows for c in cols} | set(extra)
    return torch.tensor(sorted(flat), dtype=torch.int64)


PATTERNS = {
    "empty": torch.empty(0, dtype=torch.int64),
    "one": torch.tensor([100]),
    "random": torch.randperm(ROWS * COLS, generator=torch.Generator().manual_seed(1))[:40].sort()[
        0
    ],
    "columns": product(range(ROWS), (2, 3, 11)),
    "rows": product((0, 7), range(COLS)),
    "block": product((4, 5, 6), (9, 10)),
    "columns and a part": product(range(ROWS), (2, 3), [r * COLS + 11 for r in range(5)]),
    "rows and a part": product((0, 7), range(COLS), range(3 * COLS, 3 * COLS + 7)),
    "all": torch.arange(ROWS * COLS),
}


@pytest.fixture(params=PATTERNS)
def at(request: pytest.FixtureRequest) -> Coordinates:
    return Coordinates(PATTERNS[request.param], (ROWS, COLS))


def matrix(v: Tensor, at: Coordinates) -> Tensor:
    out = torch.zeros(at.shape[0] * at.shape[1], dtype=torch.float64)
    out[at.flat] = v.double()
    return out.view(at.shape)


@pytest.mark.parametrize("tokens", [0, 1, 37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_agree_with_the_dense_product_in_float64(kernel, at, tokens, dtype) -> None:
    a, b = numbers(tokens, ROWS, dtype=dtype), numbers(tokens, COLS, dtype=dtype, seed=1)
    exact = (a.double().t() @ b.double()).reshape(-1)[at.flat]
    got = sampled_values(a, b, at, kernel)
    assert got.shape == (at.count,)
    assert got.dtype == torch.float32
    # products in the half types are rounded to them once, sums of 37 terms to float32
    unit = torch.finfo(dtype).eps if kernel in ("dense", "submatrix") else 1.2e-7
    assert torch.all((got.double() - exact).abs() <= 20 * unit * max(tokens, 1) ** 0.5)


@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("tokens", [1, 5])
def test_sparse_times_dense_agrees_with_the_dense_product(at, transpose, tokens) -> None:
    v, x = numbers(at.count), numbers(tokens, COLS if transpose else ROWS, seed=1)
    S = matrix(v, at)
    wanted = x @ (S.t() if transpose else S)
    torch.testing.assert_close(spmm_values(v, x, at, transpose), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("kernel", ["gather", "native", "sampled", "dense", "submatrix"])
def test_first_and_second_derivatives_agree_with_finite_differences(
    kernel, at, transpose, monkeypatch
) -> None:
    provide(kernel, monkeypatch)
    monkeypatch.setattr(choice, "choose_kernel", lambda *_: kernel)
    base, theta = numbers(ROWS, COLS), numbers(at.count, seed=1)
    x = numbers(3, COLS if transpose else ROWS, seed=2)

    def product(x: Tensor, theta: Tensor) -> Tensor:
        weight = base.clone().view(-1).index_add(0, at.flat, theta.detach()).view(ROWS, COLS)
        return masked_matmul(x, theta, weight, None, at, transpose=transpose)

    inputs = (x.requires_grad_(), theta.requires_grad_())
    # along random directions: whole Jacobians of every pattern would take minutes
    assert torch.autograd.gradcheck(product, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(product, inputs, fast_mode=True)


@pytest.mark.parametrize("optional", ["spops", "triton"])
def test_derivatives_through_an_optional_kernel_agree_with_those_through_torchs_own(
    optional, at, monkeypatch
) -> None:
    compare_derivatives(provide(optional, monkeypatch), at, HERE, monkeypatch)


def compare_derivatives(optional, at, device, monkeypatch) -> None:
    results = []
    for name in (optional, "dense"):
        monkeypatch.setattr(choice, "choose_kernel", lambda *_, name=name: name)
        theta = numbers(at.count, dtype=torch.float32).to(device).requires_grad_()
        x = numbers(6, COLS, dtype=torch.float32, seed=2).to(device).requires_grad_()
        weight = matrix(theta.detach().cpu(), at).float().to(device)
        at = Coordinates(at.flat.to(device), at.shape)
        out = masked_matmul(x, theta, weight, None, at, transpose=True).square().sum()
        first = torch.autograd.grad(out, [theta, x], create_graph=True)
        second = torch.autograd.grad(sum(f.square().sum() for f in first), [theta, x])
        results.append([*first, *second])
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_product_beside_a_quantised_weight_has_the_dense_gradients(at, dtype) -> None:
    theta, x = numbers(at.count, dtype=torch.float32), numbers(5, COLS, dtype=dtype, seed=1)
    theta.requires_grad_()
    x.requires_grad_()
    sparse_product(theta, x, at).double().square().sum().backward()
    v, y = theta.detach().to(dtype).double().requires_grad_(), x.detach().double().requires_grad_()
    flat = torch.zeros(ROWS * COLS, dtype=torch.float64).index_add(0, at.flat, v)
    (y @ flat.view(ROWS, COLS).t()).square().sum().backward()
    # the output, its cotangent and the product are each rounded once to the activations' type
    for got, wanted in ((theta.grad, v.grad), (x.grad, y.grad)):
        error = (got.double() - wanted).norm()
        assert error <= 20 * torch.finfo(dtype).eps * (wanted.norm() + 1e-30)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_submatrix_is_recognised_exactly_where_the_mask_is_one(data: st.DataObject) -> None:
    rows = data.draw(st.sets(st.integers(0, ROWS - 1), min_size=1))
    cols = data.draw(st.sets(st.integers(0, COLS - 1), min_size=1))
    found = Coordinates(product(rows, cols), (ROWS, COLS)).submatrix
    assert found is not None
    assert found.rows.tolist() == sorted(rows)
    assert found.cols.tolist() == sorted(cols)
    assert found.place is None


@settings(max_examples=60, deadline=None)
@given(st.integers(1, ROWS * COLS), st.integers(0, 10**6))
def test_whatever_is_recognised_the_submatrix_and_the_rest_are_all_entries_once(k, seed) -> None:
    flat = np.sort(np.random.default_rng(seed).choice(ROWS * COLS, size=k, replace=False))
    at = Coordinates(torch.from_numpy(flat), (ROWS, COLS))
    if at.submatrix is None:
        return
    inside = (at.submatrix.rows[:, None] * COLS + at.submatrix.cols).reshape(-1)
    place = torch.arange(k) if at.submatrix.place is None else at.submatrix.place
    assert torch.equal(at.flat[place], inside)
    assert torch.equal(torch.cat([place, at.submatrix.rest]).sort().values, torch.arange(k))
    assert 2 * inside.numel() >= k


@pytest.mark.parametrize("granularity", ["columns", "rows", "heads", "blocks"])
def test_structured_masks_are_recognised_as_grids_and_random_ones_are_not(granularity) -> None:
    model = ls.tiny_model("opt")
    mask = ls.structured_mask(model, granularity=granularity, density=0.25, block=(16, 16))
    for name, indices in mask.indices.items():
        at = Coordinates(indices, mask.shapes[name])
        assert at.submatrix is not None
        assert at.submatrix.size == at.count
        assert "submatrix" in usable_kernels(at, torch.bfloat16)
    random = ls.random_mask(model, density=0.25)
    for name, indices in random.indices.items():
        assert Coordinates(indices, random.shapes[name]).submatrix is None


def test_whole_columns_of_a_large_matrix_are_multiplied_as_a_submatrix() -> None:
    flat = torch.arange(768 * 768).view(768, 768)[:, torch.arange(0, 768, 8)].reshape(-1)
    at = Coordinates(flat, (768, 768))
    for dtype in (torch.float32, torch.bfloat16):
        assert choice.choose_kernel(at, 512, dtype) == "submatrix"


# --- spops --------------------------------------------------------------------------------------


def test_the_namesake_on_pypi_is_refused_with_a_sentence(monkeypatch) -> None:
    monkeypatch.setattr(spops, "_installed", lambda: types.ModuleType("spops"))
    at = Coordinates(PATTERNS["random"], (ROWS, COLS))
    assert "spops" not in usable_kernels(at, torch.float32)
    with pytest.raises(UserError, match=r"csr_add, sddmm.*PyPI.*IST-DASLab"):
        sampled_values(numbers(3, ROWS).float(), numbers(3, COLS).float(), at, "spops")


@pytest.mark.parametrize("wide", ["left", "right", "both"])
def test_spops_refuses_a_single_operand_of_float64_too(monkeypatch, wide) -> None:
    monkeypatch.setattr(spops, "_installed", stand_in)
    at = Coordinates(PATTERNS["random"], (ROWS, COLS))
    a, b = numbers(3, ROWS), numbers(3, COLS)
    a, b = (a.float() if wide == "right" else a), (b.float() if wide == "left" else b)
    with pytest.raises(UserError, match="got float64"):
        spops.values(a, b, at)


def test_a_missing_spops_is_named_and_never_chosen(monkeypatch) -> None:
    monkeypatch.setattr(spops, "_installed", lambda: None)
    at = Coordinates(PATTERNS["random"], (ROWS, COLS))
    assert "spops" not in usable_kernels(at, torch.float32)
    with pytest.raises(UserError, match="no such package"):
        sampled_values(numbers(3, ROWS).float(), numbers(3, COLS).float(), at, "spops")


def test_matrices_beyond_int16_are_not_for_spops_on_cuda(monkeypatch) -> None:
    monkeypatch.setattr(spops, "_installed", stand_in)
    cuda = torch.device("cuda")
    assert spops.is_usable((768, 32_767), torch.float32, cuda)
    assert not spops.is_usable((768, 32_768), torch.float32, cuda)
    assert not spops.is_usable((50_272, 768), torch.bfloat16, cuda)
    assert spops.is_usable((50_272, 768), torch.bfloat16, HERE)
    assert not spops.is_usable((768, 768), torch.float64, HERE)

    class OnCuda:
        dtype, is_cuda = torch.float32, True

    at = Coordinates(torch.tensor([40_000]), (2, 40_001))
    with pytest.raises(UserError, match=r"int16.*\(2, 40001\)"):
        spops.values(OnCuda(), OnCuda(), at)


def test_columns_beyond_int16_reach_spops_as_they_are_on_a_cpu(monkeypatch) -> None:
    if spops._installed() is None:
        monkeypatch.setattr(spops, "_installed", stand_in)
    at = Coordinates(torch.tensor([32_768, 39_999, 79_998]), (3, 40_000))
    a, b = numbers(4, 3, dtype=torch.float32), numbers(4, 40_000, dtype=torch.float32, seed=1)
    exact = (a.double().t() @ b.double()).reshape(-1)[at.flat]
    torch.testing.assert_close(spops.values(a, b, at).double(), exact, rtol=1e-5, atol=1e-5)


# --- what is kept -------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["columns", "random"])
def test_only_the_columns_that_the_mask_reads_are_kept_for_backward(granularity) -> None:
    layer = nn.ModuleDict({"q": nn.Linear(400, 300, bias=False)})
    flat = torch.tensor([r * 400 + c for r in range(300) for c in (7, 90)])
    if granularity == "random":
        flat = torch.tensor([5, 4_321, 77_777, 100_001])
    mask = ls.Mask({"q.weight": flat.sort().values}, {"q.weight": (300, 400)}, 120_000)
    ls.attach(layer, mask)
    weight, kept = layer["q"].weight, []
    x = torch.randn(64, 400)  # enough tokens that a dense product is not the fastest
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer["q"](x)
    own = [t for t in kept if t.data_ptr() not in (weight.data_ptr(),)]
    assert max(t.numel() for t in own) <= max(64 * 4, flat.numel())


# --- Triton -------------------------------------------------------------------------------------


@pytest.mark.parametrize("installed", [True, False])
def test_triton_is_for_gpus_only(installed, monkeypatch) -> None:
    monkeypatch.setattr(gpu, "_has_triton", lambda: installed)
    at = Coordinates(PATTERNS["random"], (ROWS, COLS))
    assert "triton" not in usable_kernels(at, torch.float32, HERE)
    assert ("triton" in usable_kernels(at, torch.float32, torch.device("cuda"))) is installed


@pytest.mark.slow
def test_the_triton_kernel_passes_these_tests_in_its_interpreter() -> None:
    """In a process of its own: the interpreter is chosen when Triton is imported."""
    pytest.importorskip("triton", reason="Triton is optional: pip install triton")
    chosen = ["-o", "addopts=", "-p", "no:cacheprovider", "-k", "triton and not interpreter"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *chosen, __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (passed,) = re.findall(r"(\d+) passed.* in ", done.stdout)  # of this run, not of the slow suite
    # every pattern with three sizes and three types, and its derivatives
    assert int(passed) >= len(PATTERNS) * (3 * 3 + 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_triton_on_a_gpu_agrees_with_the_dense_product_in_float64(dtype, monkeypatch) -> None:
    pytest.importorskip("triton")
    cuda = torch.device("cuda")
    flat = torch.randperm(300 * 200, generator=torch.Generator().manual_seed(0))[:777]
    at = Coordinates(flat.sort().values.to(cuda), (300, 200))
    assert "triton" in usable_kernels(at, dtype)
    a, b = numbers(129, 300, dtype=dtype).to(cuda), numbers(129, 200, dtype=dtype, seed=1).to(cuda)
    exact = (a.double().t() @ b.double()).reshape(-1)[at.flat]
    unit = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    error = (sampled_values(a, b, at, "triton").double() - exact).abs()
    assert torch.all(error <= 20 * unit * 129**0.5)
    for pattern in PATTERNS.values():
        compare_derivatives("triton", Coordinates(pattern, (ROWS, COLS)), cuda, monkeypatch)
