"""The kernels in C: sizes around their blocks, odd operands, vmap, and machines without them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from landscape.errors import UserError
from landscape.kernels import Coordinates, choice, masked_matmul, native, sampled_values
from landscape.kernels.choice import usable_kernels

HERE = torch.device("cpu")
needs_compiler = pytest.mark.skipif(
    not native.is_usable((1, 1), torch.float32, HERE), reason="needs a C compiler"
)


def entries(rows: int, cols: int, k: int, seed: int = 0) -> Coordinates:
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randperm(rows * cols, generator=generator)[:k].sort().values
    return Coordinates(flat, (rows, cols))


def numbers(*shape: int, dtype=torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)


def dense(v: Tensor, at: Coordinates) -> Tensor:
    flat = torch.zeros(at.shape[0] * at.shape[1], dtype=torch.float64)
    return flat.index_copy(0, at.flat, v.double()).view(at.shape)


@needs_compiler
@settings(max_examples=120, deadline=None)
@given(
    rows=st.integers(1, 40), cols=st.integers(1, 40), tokens=st.integers(0, 200),
    share=st.floats(0, 1), threads=st.sampled_from([1, 2, 3]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_both_products_are_exact_for_every_size(rows, cols, tokens, share, threads, dtype) -> None:
    # few entries are read where they lie, many after their operands were transposed
    at = entries(rows, cols, max(1, round(share * rows * cols)))
    a, b = numbers(tokens, rows, dtype=dtype), numbers(tokens, cols, dtype=dtype, seed=1)
    v = numbers(at.count, dtype=dtype, seed=2)
    before = native.SMALLEST_SHARE, torch.get_num_threads()
    native.SMALLEST_SHARE = 1  # so that small operands are divided among threads as well
    torch.set_num_threads(threads)
    try:
        sums = native.sampled(a, b, at)
        spread = native.scattered(v, b, at, True)
        back = native.scattered(v, a, at, False)
    finally:
        native.SMALLEST_SHARE = before[0]
        torch.set_num_threads(before[1])
    S = dense(v, at)
    size = 20 * torch.finfo(dtype).eps
    exact = (a.double().t() @ b.double()).reshape(-1)[at.flat]
    bound = (a.double().abs().t() @ b.double().abs()).reshape(-1)[at.flat]
    assert torch.all((sums.double() - exact).abs() <= size * bound)
    assert spread.shape == (tokens, rows)
    bound = b.double().abs() @ S.abs().t()
    assert torch.all((spread.double() - b.double() @ S.t()).abs() <= size * bound)
    assert back.shape == (tokens, cols)
    bound = a.double().abs() @ S.abs()
    assert torch.all((back.double() - a.double() @ S).abs() <= size * bound)


@needs_compiler
@pytest.mark.parametrize("k", [2, 300])
def test_operands_may_be_transposed_expanded_or_part_of_another(k) -> None:
    at = entries(24, 40, k)
    whole = numbers(100, 80)
    for a in (numbers(24, 100).t(), numbers(1, 24).expand(100, 24), numbers(100, 48)[:, ::2]):
        b = whole[:, 17:57]
        exact = (a.t() @ b).reshape(-1)[at.flat]
        torch.testing.assert_close(sampled_values(a, b, at, "native"), exact)
        v = numbers(2 * k)[::2]
        torch.testing.assert_close(native.scattered(v, b, at, True), b @ dense(v, at).t())


@needs_compiler
@pytest.mark.parametrize("k", [2, 300])
def test_what_is_not_finite_stays_so_and_stays_where_it_is(k) -> None:
    at = entries(24, 40, k)
    a, b = numbers(70, 24), numbers(70, 40, seed=1)
    a[66, int(at.rows[0])] = float("nan")
    touched = at.rows == at.rows[0]
    assert torch.equal(sampled_values(a, b, at, "native").isnan(), touched)
    out = native.scattered(numbers(k), a, at, False)
    assert out[66].isnan().sum() == at.cols[touched].unique().numel()
    assert not out[:66].isnan().any()


@needs_compiler
def test_denormal_numbers_survive_loading_the_library() -> None:
    # libraries compiled for fast arithmetic flush them to zero in the whole process
    assert float(torch.tensor(1e-40) * 0.5) > 0
    assert float(torch.tensor(1e-310, dtype=torch.float64) * 0.5) > 0


@needs_compiler
def test_many_products_at_once_equal_one_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr(choice, "choose_kernel", lambda *_: "native")
    at = entries(24, 40, 60)
    theta, x = numbers(60).requires_grad_(), numbers(70, 40, seed=1).requires_grad_()
    weight = dense(theta.detach(), at)
    loss = masked_matmul(x, theta, weight, None, at, transpose=True).tanh().sum()
    inputs = [theta, x]
    first = torch.autograd.grad(loss, inputs, create_graph=True)
    given_ = [numbers(3, *f.shape, seed=3) for f in first]
    many = torch.autograd.grad(first, inputs, given_, is_grads_batched=True, retain_graph=True)
    for i in range(3):
        one = torch.autograd.grad(first, inputs, [g[i] for g in given_], retain_graph=True)
        for got, wanted in zip(many, one, strict=True):
            torch.testing.assert_close(got[i], wanted)


@needs_compiler
def test_torch_knows_the_operations_whole() -> None:
    # schema, shapes without data, and how they trace
    at = entries(24, 40, 60)
    a, b, v = numbers(9, 24), numbers(9, 40), numbers(60)
    checks = ("test_schema", "test_faketensor")
    places = at.flat, at.row_offsets
    for into_rows, x in ((True, b), (False, a)):
        given_ = (v, x, *places, 40, into_rows)
        torch.library.opcheck(torch.ops.landscape.scattered, given_, test_utils=checks)
    torch.library.opcheck(torch.ops.landscape.sampled, (a, b, *places), test_utils=checks)


@needs_compiler
def test_the_result_does_not_depend_on_when_it_is_computed() -> None:
    at = entries(300, 200, 2000)
    a, b = numbers(500, 300, dtype=torch.float32), numbers(500, 200, dtype=torch.float32, seed=1)
    results = [sampled_values(a, b, at, "native") for _ in range(5)]
    assert all(torch.equal(results[0], other) for other in results)


def test_matrices_with_too_many_sides_are_left_to_other_kernels() -> None:
    assert not native.is_usable((native.LARGEST, 1), torch.float32, HERE)
    assert not native.is_usable((3, 3), torch.float32, torch.device("cuda"))


#: for fresh processes, where nothing is compiled or loaded yet
ASK = """
import torch
from landscape.kernels import Coordinates, choice, native, sampled_values
at = Coordinates(torch.arange(0, 600, 7), (20, 30))
print("native" in choice.usable_kernels(at, torch.float32))
a, b = torch.ones(70, 20), torch.ones(70, 30)
assert sampled_values(a, b, at).eq(70).all()
"""


def test_without_a_compiler_torchs_own_operations_do_the_same(forks, tmp_path) -> None:
    told = forks.run(ASK, PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert told == ("False\n", "")


def test_a_cache_that_cannot_be_written_is_no_error(forks, tmp_path) -> None:
    (tmp_path / "landscape").write_text("a file where the folder would be")
    assert forks.run(ASK, XDG_CACHE_HOME=str(tmp_path))[0] == "False\n"


@needs_compiler
def test_the_compiled_file_is_kept_and_found_again(forks, tmp_path) -> None:
    assert forks.run(ASK, XDG_CACHE_HOME=str(tmp_path))[0] == "True\n"
    (kept,) = (tmp_path / "landscape").iterdir()
    written = kept.stat().st_mtime_ns
    assert forks.run(ASK, XDG_CACHE_HOME=str(tmp_path), PATH="")[0] == "True\n"
    assert kept.stat().st_mtime_ns == written


@needs_compiler
@pytest.mark.parametrize("harm", ["others may write it", "it is no library"])
def test_a_file_in_the_cache_that_may_not_be_ours_is_not_loaded(forks, tmp_path, harm) -> None:
    forks.run(ASK, XDG_CACHE_HOME=str(tmp_path))
    (kept,) = (tmp_path / "landscape").iterdir()
    if harm == "it is no library":
        Path(kept).write_bytes(b"not an object file")
    else:
        kept.chmod(0o777)
    assert forks.run(ASK, XDG_CACHE_HOME=str(tmp_path))[0] == "False\n"


def test_a_kernel_asked_for_by_name_but_absent_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(native, "_library", lambda number: None)
    at = entries(4, 5, 3)
    assert "native" not in usable_kernels(at, torch.float32)
    with pytest.raises(UserError, match="C compiler"):
        sampled_values(numbers(2, 4), numbers(2, 5), at, "native")
