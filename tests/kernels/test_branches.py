"""Shapes that reach every branch of the kernels, against dense products in float64.

Wide and narrow submatrices, both layouts of the weight, and the operations of machines that have
no C compiler, as every GPU does.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from landscape.kernels import (
    Coordinates,
    gather,
    masked_matmul,
    native,
    sampled_values,
    sparse_product,
    spmm_values,
)
from landscape.kernels.choice import KERNELS, usable_kernels
from landscape.kernels.kernel import Kernel, Work

ROWS, COLS = 64, 80
WIDE = torch.float64


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = WIDE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=WIDE, generator=generator).to(dtype)


def product(rows, cols, extra=()) -> Coordinates:
    flat = {r * COLS + c for r in rows for c in cols} | set(extra)
    return Coordinates(torch.tensor(sorted(flat)), (ROWS, COLS))


SHAPES = {
    "two columns": product(range(ROWS), (3, 41)),
    "two rows": product((5, 60), range(COLS)),
    "a low wide block": product((1, 2), range(0, COLS, 3)),
    "a high narrow block": product(range(0, ROWS, 2), (7, 9)),
    "a square block": product(range(10, 20), range(30, 41)),
    "two columns and three entries": product(range(ROWS), (3, 41), (0, 2000, ROWS * COLS - 1)),
    "two rows and three entries": product((5, 60), range(COLS), (0, 2000, ROWS * COLS - 1)),
    "few entries": product((), (), (0, 1, 333, 334, 1999, 4000, ROWS * COLS - 1)),
    "every third entry": product((), (), range(0, ROWS * COLS, 3)),
}


@pytest.fixture(params=SHAPES)
def at(request: pytest.FixtureRequest) -> Coordinates:
    found = SHAPES[request.param]
    return Coordinates(found.flat, found.shape)


WAYS = {
    "in C": {"native": 0.0, "dense": 1.0},
    "scattered": {"gather": 0.0, "dense": 1.0},
    "dense": {"native": 1.0, "gather": 1.0, "dense": 0.0},
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make each way of scattering the cheapest: at these sizes the model would take one."""
    if request.param == "in C" and not native.is_usable((1, 1), WIDE, torch.device("cpu")):
        pytest.skip("needs a C compiler")
    if request.param == "scattered":
        monkeypatch.setattr(native, "_library", lambda number: None)
    take(WAYS[request.param], monkeypatch)
    return request.param


def take(seconds: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kernel, "seconds", lambda self, *_: seconds.get(self.name, 9.0))


def matrix(v: Tensor, at: Coordinates) -> Tensor:
    """S(v), an entry at a time."""
    out = torch.zeros(at.shape, dtype=v.dtype)
    for value, flat in zip(v, at.flat.tolist(), strict=True):
        out[flat // at.shape[1], flat % at.shape[1]] = value
    return out


def entries(dense: Tensor, at: Coordinates) -> Tensor:
    return torch.stack([dense[f // at.shape[1], f % at.shape[1]] for f in at.flat.tolist()])


def close(got: Tensor, wanted: Tensor) -> None:
    # sums of at most a hundred terms of float64
    torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("tokens", [1, 50])
def test_every_usable_kernel_gives_the_entries_of_the_dense_product(at, tokens) -> None:
    a, b = numbers(tokens, ROWS), numbers(tokens, COLS, seed=1)
    usable = usable_kernels(at, WIDE)
    assert {"gather", "sampled", "dense"} <= set(usable)
    for kernel in usable:
        close(sampled_values(a, b, at, kernel), entries(a.t() @ b, at))
    close(sampled_values(a, b, at, "submatrix"), entries(a.t() @ b, at))


def test_a_gather_in_pieces_gives_the_entries_of_the_dense_product(at) -> None:
    a, b = numbers(50, ROWS), numbers(50, COLS, seed=1)
    for tokens in (1, 7, 49, 1000):
        close(gather.gather(a, b, at, chunk=tokens * at.count), entries(a.t() @ b, at))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("transpose", [True, False], ids=["Linear", "Conv1D"])
@pytest.mark.parametrize("tokens", [50, 30, 3, 0.5])  # of a piece: 1, 2, 17 or 50 of them
def test_a_sparse_product_is_the_dense_one_in_both_layouts(
    at, transpose, tokens, monkeypatch
) -> None:
    monkeypatch.setattr(gather, "CHUNK", int(tokens * at.count))
    v, x = numbers(at.count), numbers(50, COLS if transpose else ROWS, seed=1)
    S = matrix(v, at)
    close(spmm_values(v, x, at, transpose), x @ (S.t() if transpose else S))


@pytest.mark.usefixtures("way")
def test_products_are_made_where_their_operands_are_not_on_torchs_default_device(at) -> None:
    v, x, y = numbers(at.count), numbers(5, COLS, seed=1), numbers(5, ROWS, seed=2)
    S = matrix(v, at)
    with torch.device("meta"):
        found = [spmm_values(v, x, at, True), spmm_values(v, y, at, False)]
        sampled = [sampled_values(y, x, at, kernel) for kernel in usable_kernels(at, WIDE)]
    close(found[0], x @ S.t())
    close(found[1], y @ S)
    for kernel in sampled:
        close(kernel, entries(y.t() @ x, at))


def test_the_way_of_scattering_is_the_cheaper_one_by_the_model(monkeypatch) -> None:
    """In C it costs one sampled product, in torch about four; a dense matrix has to be filled."""
    if native.is_usable((1, 1), WIDE, torch.device("cpu")):
        assert taken({"native": 2.0, "dense": 1.0}, monkeypatch) == {"native"}
        assert taken({"native": 2.1, "dense": 1.0}, monkeypatch) == {"index_copy"}
    monkeypatch.setattr(native, "_library", lambda number: None)
    assert taken({"gather": 1.0, "dense": 2.0}, monkeypatch) == {"index_add"}
    assert taken({"gather": 1.0, "dense": 1.9}, monkeypatch) == {"index_copy"}


def taken(seconds: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The operations that a sparse product consists of when kernels take such times."""
    found: set[str] = set()
    at = Coordinates(SHAPES["few entries"].flat, (ROWS, COLS))
    with monkeypatch.context() as patch:
        for owner, operation in ((Tensor, "index_add"), (Tensor, "index_copy")):
            patch.setattr(owner, operation, watched(getattr(owner, operation), operation, found))
        patch.setattr(native, "scattered", watched(native.scattered, "native", found))
        take(seconds, patch)
        spmm_values(numbers(at.count), numbers(50, COLS), at, True)
    return found


def watched(honest, name: str, found: set[str]):
    def call(*given, **named):
        found.add(name)
        return honest(*given, **named)

    return call


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("transpose", [True, False], ids=["Linear", "Conv1D"])
@pytest.mark.parametrize("with_bias", [True, False])
def test_tangents_and_gradients_of_a_masked_layer_are_those_of_the_dense_one(
    at, transpose, with_bias
) -> None:
    width = COLS if transpose else ROWS
    theta, x = numbers(at.count), numbers(9, width, seed=1)
    bias = numbers(ROWS if transpose else COLS, seed=2) if with_bias else None
    base = numbers(ROWS, COLS, seed=3)
    weight = base + matrix(theta, at)
    layout = (lambda w: w.t()) if transpose else (lambda w: w)
    d_theta, dx = numbers(at.count, seed=4), numbers(9, width, seed=5)
    # out = x W + b, W = base + S(theta): the product rule, each term alone and all together
    parts = {"x": dx @ layout(weight), "theta": x @ layout(matrix(d_theta, at))}
    if bias is not None:
        db = numbers(len(bias), seed=6)
        parts["bias"] = db.expand(9, -1)
    for name, part in parts.items():
        close(tangent([name], locals()), part)
    close(tangent(list(parts), locals()), sum(parts.values()))

    leaves = [t.clone().requires_grad_() for t in (x, theta, bias) if t is not None]
    out = masked_matmul(
        leaves[0], leaves[1], weight, leaves[2] if with_bias else None, at, transpose=transpose
    )
    g = numbers(*out.shape, seed=7)
    found = torch.autograd.grad(out, leaves, g)
    close(found[0], g @ layout(weight).t())
    close(found[1], entries(g.t() @ x if transpose else x.t() @ g, at))
    if with_bias:
        close(found[2], g.sum(0))


def tangent(which: list[str], given: dict) -> Tensor:
    """The forward derivative of a masked layer along the tangents of some of its arguments."""
    with forward_ad.dual_level():
        dual = {
            name: forward_ad.make_dual(given[name], given[d]) if name in which else given[name]
            for name, d in (("x", "dx"), ("theta", "d_theta"), ("bias", "db"))
            if given[name] is not None
        }
        out = masked_matmul(
            dual["x"], dual["theta"], given["weight"], dual.get("bias"), given["at"],
            transpose=given["transpose"],
        )  # fmt: skip
        return forward_ad.unpack_dual(out).tangent


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("power", [1, 3])
@pytest.mark.parametrize("moved", [(0,), (1,), (0, 1)], ids=["theta", "x", "both"])
def test_forward_over_reverse_is_the_directional_derivative_of_the_dense_gradient(
    power, moved
) -> None:
    at = Coordinates(SHAPES["two rows and three entries"].flat, (ROWS, COLS))
    values_ = numbers(at.count), numbers(9, COLS, seed=1)
    steps = numbers(at.count, seed=4), numbers(9, COLS, seed=5)

    def masked(theta: Tensor, x: Tensor) -> Tensor:
        return sparse_product(theta, x, at)

    def dense(theta: Tensor, x: Tensor) -> Tensor:
        flat = torch.zeros(ROWS * COLS, dtype=WIDE).index_add(0, at.flat, theta)
        return x @ flat.view(ROWS, COLS).t()

    results = []
    for product in (masked, dense):
        with forward_ad.dual_level():
            leaves = [value.clone().requires_grad_() for value in values_]
            for i in moved:
                leaves[i] = forward_ad.make_dual(leaves[i], steps[i])
            loss = product(*leaves).pow(power).sum()
            grads = torch.autograd.grad(loss, leaves, create_graph=True)
            tangents = [forward_ad.unpack_dual(g).tangent for g in grads]
            results.append([torch.zeros(()) if t is None else t for t in tangents])
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_a_layer_without_gradients_still_has_tangents() -> None:
    at = SHAPES["few entries"]
    theta, step, x = numbers(at.count), numbers(at.count, seed=4), numbers(9, COLS)
    with torch.no_grad(), forward_ad.dual_level():
        dual = forward_ad.make_dual(theta, step)
        weight = torch.zeros(ROWS, COLS, dtype=WIDE)
        out = masked_matmul(x, dual, weight, None, at, transpose=True)
        moved = forward_ad.unpack_dual(out).tangent
    close(moved, x @ matrix(step, at).t())


@pytest.mark.parametrize("kernel", ["gather", "dense", "submatrix"])
@pytest.mark.parametrize("count", [0, 7])
def test_results_lie_on_the_device_of_the_operands(kernel, count) -> None:
    """Tensors of the device meta have places and shapes alone: any of another device shows."""
    at = Coordinates(torch.empty(count, dtype=torch.int64, device="meta"), (ROWS, COLS))
    at.__dict__["submatrix"] = None  # which one is filled cannot be told without values
    a, b = (torch.empty(9, width, device="meta") for width in (ROWS, COLS))
    found = sampled_values(a, b, at, kernel)
    assert (found.device.type, found.shape, found.dtype) == ("meta", (count,), torch.float32)


# --- structure ----------------------------------------------------------------------------------


def test_narrow_coordinates_hold_the_sides_in_use_while_they_are_few() -> None:
    at = Coordinates(torch.tensor([3, 9, 23, 29, 43]), (5, 20))  # columns 3 and 9, rows 0, 1, 2
    assert at.rows.tolist() == [0, 0, 1, 1, 2]
    assert at.cols.tolist() == [3, 9, 3, 9, 3]
    assert at.row_offsets.tolist() == [0, 2, 4, 5, 5, 5]
    used, narrow = at.narrow_cols
    assert used.tolist() == [3, 9]
    assert (narrow.shape, narrow.flat.tolist()) == ((5, 2), [0, 1, 2, 3, 4])
    assert at.narrow_rows is None  # three of five rows are no quarter
    tall = Coordinates(torch.tensor([1, 3, 33]), (10, 5))
    used, narrow = tall.narrow_rows
    assert used.tolist() == [0, 6]
    assert (narrow.shape, narrow.flat.tolist()) == ((2, 5), [1, 3, 8])
    edge = Coordinates(torch.tensor([0, 1]), (1, 8))
    assert edge.narrow_cols is None  # a quarter exactly
    assert Coordinates(torch.empty(0, dtype=torch.int64), (9, 9)).narrow_cols is None


def test_a_submatrix_is_taken_from_half_of_the_entries_on() -> None:
    column = [r * 20 for r in range(6)]
    apart = [r * 20 + 3 + r for r in range(6)]
    half = Coordinates(torch.tensor(sorted(column + apart)), (6, 20)).submatrix
    assert half.cols.tolist() == [0]
    assert half.size == 6
    assert half.place.tolist() == [0, 2, 4, 6, 8, 10]
    assert half.rest.tolist() == [1, 3, 5, 7, 9, 11]
    assert half.rest_at.flat.tolist() == apart
    less = Coordinates(torch.tensor(sorted([*column, *apart, 19])), (6, 20)).submatrix
    assert less is None or less.cols.tolist() != [0]


# --- the cost model, by hand --------------------------------------------------------------------

TALLY = Work(k=10, rows=32, cols=64, tokens=5)
FAR = Work(
    k=10, rows=32_000, cols=64_000, tokens=50
)  # 4.8 million numbers to transpose: above 2^22


def units(kernel: str, work: Work = TALLY) -> dict[str, float]:
    return KERNELS[kernel].units(work)


def test_the_units_of_each_kernel_are_those_counted_by_hand() -> None:
    operands = (32 + 64) * 5
    assert units("gather") == {"gather.call": 1, "gather.entry": 50, "gather.far_line": 0}
    assert units("native") == {
        "native.call": 1, "native.index": 10, "native.direct": 0, "native.transpose": operands,
        "native.entry": 50,
    }  # fmt: skip
    few = Work(k=7, rows=32, cols=64, tokens=5)  # 12 k < rows + cols: read where they lie
    assert units("native", few) == {
        "native.call": 1, "native.index": 7, "native.direct": 35, "native.transpose": 0,
        "native.entry": 0,
    }  # fmt: skip
    assert units("native", Work(8, 32, 64, 5))["native.direct"] == 0  # 12 k = rows + cols
    assert units("triton") == {"triton.call": 1, "triton.entry": 50}
    assert units("dense") == {
        "dense.product": 32 * 64 * 5, "dense.cell": 32 * 64, "dense.entry": 10
    }  # fmt: skip
    for kernel, far in (("sampled", {}), ("spops", {"spops.far_entry": 0})):
        assert units(kernel) == {
            f"{kernel}.call": 1, f"{kernel}.index": 10, f"{kernel}.transpose": operands,
            f"{kernel}.far_transpose": 0, f"{kernel}.entry": 50, **far,
        }  # fmt: skip
    operands = (32_000 + 64_000) * 50
    assert units("sampled", FAR)["sampled.far_transpose"] == operands
    assert units("spops", FAR)["spops.far_entry"] == 500


def test_the_units_of_a_submatrix_are_its_own_and_those_of_what_is_left() -> None:
    whole = Work(k=6, rows=32, cols=64, tokens=5, submatrix=(2, 3))
    assert units("submatrix", whole) == {
        "submatrix.call": 1, "submatrix.product": 30, "submatrix.copy": 25
    }  # fmt: skip
    part = Work(k=10, rows=32, cols=64, tokens=5, submatrix=(2, 3))
    assert units("submatrix", part) == {
        **units("submatrix", whole), "gather.call": 1, "gather.entry": 20, "gather.far_line": 0
    }  # fmt: skip
    everything = Work(k=32 * 64, rows=32, cols=64, tokens=5)  # all rows and columns
    assert units("submatrix", everything) == {
        "submatrix.call": 1, "submatrix.product": 32 * 64 * 5, "submatrix.copy": 480
    }  # fmt: skip
    at = SHAPES["two columns and three entries"]
    assert Work.of(at, 7) == Work(ROWS * 2 + 3, ROWS, COLS, 7, (ROWS, 2))
    assert Work.of(SHAPES["few entries"], 7) == Work(7, ROWS, COLS, 7, None)


def test_entries_of_a_large_matrix_are_expected_on_lines_as_balls_in_boxes() -> None:
    lines = []
    for width in (32_000, 64_000):
        boxes = width // 16
        lines.append(boxes - boxes * (1 - 1 / boxes) ** 10)
    assert units("gather", FAR)["gather.far_line"] == pytest.approx(sum(lines) * 50, rel=1e-9)
    assert gather._lines(8, 3) == 1  # narrower than a line


def test_the_predicted_time_is_the_sum_of_units_times_constants() -> None:
    constants = {"dense.product": 1e-3, "dense.cell": 1e-1, "dense.entry": 7.0}
    assert KERNELS["dense"].seconds(TALLY, constants) == pytest.approx(10.24 + 204.8 + 70)
