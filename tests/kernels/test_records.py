"""A kernel is one record: whoever chooses, runs or times kernels reads it there."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import landscape as ls
from landscape.bench import kernels as bench
from landscape.errors import UserError
from landscape.kernels import Coordinates, Kernel, choose_kernel, native, sampled_values
from landscape.kernels.choice import KERNELS, choose_scatter, usable_kernels
from landscape.kernels.kernel import Scatter, Work

CPU = torch.device("cpu")
WIDE = torch.float64


def by_hand(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
    return torch.stack([(a[:, r] * b[:, c]).sum() for r, c in zip(at.rows, at.cols, strict=True)])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Add a kernel that promises to take no time, and count its calls."""
    counted: list[int] = []

    def values(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
        counted.append(a.shape[0])
        return by_hand(a, b, at)

    record = Kernel(
        name="dummy",
        constants={"dummy.entry": 1e-30},
        units=lambda work: {"dummy.entry": work.k * work.tokens},
        is_usable=lambda at, dtype, device: dtype == WIDE,
        values=values,
    )
    monkeypatch.setitem(KERNELS, "dummy", record)
    return counted


def test_a_kernel_that_is_one_record_more_is_chosen_and_trains_a_masked_layer(calls) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 9)).double()
    plain, x = copy.deepcopy(model), torch.randn(5, 12, dtype=WIDE)
    mask = ls.random_mask(model, count=20, targets="0", seed=0)
    ls.attach(model, mask)
    for side in (model, plain):
        side(x).square().sum().backward()
    wanted = plain[0].weight.grad.reshape(-1)[mask.indices["0.weight"]]
    torch.testing.assert_close(ls.trainable(model)["0.weight"].grad, wanted)
    assert calls == [5]


def test_a_kernel_takes_part_only_where_its_record_says_that_it_can(calls) -> None:
    at = Coordinates(torch.tensor([3, 9, 40]), (5, 9))
    assert choose_kernel(at, 7, WIDE) == "dummy"
    assert choose_kernel(at, 7, torch.float32) != "dummy"
    assert not calls


def test_a_kernel_that_is_one_record_more_is_timed_and_fitted(calls, monkeypatch) -> None:
    record = KERNELS["dummy"]
    anywhere = Kernel(
        "dummy", record.constants, record.units, lambda at, dtype, device: True, record.values
    )
    monkeypatch.setitem(KERNELS, "dummy", anywhere)
    for name, value in (("SHAPE", (9, 12)), ("DENSITIES", (0.1,)), ("TOKENS", (4, 8))):
        monkeypatch.setattr(bench, name, value)
    result = bench.bench_kernels(rounds=1)
    assert all(cell["choice"] == "dummy" for cell in result["cells"])
    assert result["fitted"]["dummy.entry"] > 0
    assert calls


def test_the_choice_is_the_smallest_product_of_units_and_seconds() -> None:
    at = Coordinates(torch.arange(0, 600, 7), (20, 30))
    work = Work.of(at, 50)
    predicted = {
        name: sum(kernel.constants[unit] * n for unit, n in kernel.units(work).items())
        for name, kernel in KERNELS.items()
        if name in usable_kernels(at, torch.float32)
    }
    if "native" in predicted:
        del predicted["gather"], predicted["sampled"]
    chosen = choose_kernel(at, 50, torch.float32)
    assert predicted[chosen] == min(predicted.values())


@pytest.mark.parametrize("compiler", [True, False])
def test_torchs_own_sparse_kernels_take_part_only_where_there_is_no_compiler(
    compiler, monkeypatch
) -> None:
    """They promise to be the fastest here, and are chosen without one."""
    monkeypatch.setattr(native, "is_usable", lambda *_: compiler)
    for name in ("gather", "sampled"):
        free = Kernel(name, {}, lambda work: {}, lambda *_: True, by_hand, Scatter(by_hand, 1.0))
        with monkeypatch.context() as patch:
            patch.setitem(KERNELS, name, free)
            at = Coordinates(torch.tensor([3, 9, 40]), (5, 9))
            assert (choose_kernel(at, 7, torch.float32) == name) is not compiler
            assert (choose_scatter(at, 7, torch.float32) == name) is not compiler


def test_every_record_has_a_constant_for_each_unit_that_it_counts() -> None:
    inner = [Work(9, 20, 30, 4, (2, 3)), Work(6, 20, 30, 1 << 20, (2, 3))]
    for name, kernel in KERNELS.items():
        assert kernel.name == name
        for work in inner + [replace(w, submatrix=None) for w in inner if name != "submatrix"]:
            assert set(kernel.units(work)) <= set(kernel.constants)
            assert kernel.seconds(work) > 0


def test_an_absent_kernel_is_refused_with_the_names_of_those_there_are() -> None:
    at = Coordinates(torch.tensor([3]), (2, 3))
    with pytest.raises(UserError, match=r"expected a kernel among gather, .*, got 'none'; "):
        sampled_values(torch.ones(1, 2), torch.ones(1, 3), at, "none")
