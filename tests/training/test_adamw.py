"""AdamW with ages against a dense float64 reference that is written out scalar by scalar."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.subspace import positions


class SlowAdamW:
    """A vector of Python numbers, each with moments and an age, updated one by one."""

    def __init__(self, size: int, lr: float, betas: tuple[float, float], eps: float, decay: float):
        self.theta, self.m, self.v = [0.0] * size, [0.0] * size, [0.0] * size
        self.age = [0] * size
        self.lr, self.betas, self.eps, self.decay = lr, betas, eps, decay

    def forget(self, kept: set[int]) -> None:
        for j in range(len(self.age)):
            if j not in kept:
                self.m[j], self.v[j], self.age[j] = 0.0, 0.0, 0

    def step(self, active: set[int], gradient: list[float]) -> None:
        b1, b2 = self.betas
        for j in active:
            g = gradient[j]
            self.age[j] += 1
            self.m[j] = b1 * self.m[j] + (1 - b1) * g
            self.v[j] = b2 * self.v[j] + (1 - b2) * g * g
            m_hat = self.m[j] / (1 - b1 ** self.age[j])
            v_hat = self.v[j] / (1 - b2 ** self.age[j])
            self.theta[j] -= self.lr * self.decay * self.theta[j]
            self.theta[j] -= self.lr * m_hat / (math.sqrt(v_hat) + self.eps)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12),
    st.sampled_from([(0.9, 0.999), (0.0, 0.5), (0.5, 0.0)]),
    st.sampled_from([0.0, 0.1]),
    st.integers(0, 10**6),
    st.data(),
)
def test_ages_follow_numbers_that_come_and_go_and_frozen_ones_keep_their_value(
    size, betas, decay, seed, data
) -> None:
    """The numbers of theta grow; the active ones among them change at every step."""
    generator = torch.Generator().manual_seed(seed)
    slow = SlowAdamW(size, 0.1, betas, 1e-8, decay)
    theta = nn.Parameter(torch.zeros(0, dtype=torch.float64))
    optimizer = ls.AdamW([theta], lr=0.1, betas=betas, weight_decay=decay)
    touched, active = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    for _ in range(8):
        chosen = torch.tensor(
            sorted(data.draw(st.sets(st.integers(0, size - 1)))), dtype=torch.int64
        )
        union = torch.cat([touched, chosen]).unique()
        stays, place = positions(touched, union)
        values = torch.zeros(union.numel(), dtype=torch.float64)
        values[stays] = theta.data[place[stays]]
        theta.data = values
        known, place = positions(active, chosen)
        rows = torch.searchsorted(union, chosen)
        optimizer.follow(
            theta, torch.where(known, place, -1), None if len(chosen) == len(union) else rows
        )
        slow.forget(set(chosen.tolist()) & set(active.tolist()))
        touched, active = union, chosen
        for _ in range(data.draw(st.integers(1, 3))):
            gradient = torch.randn(size, dtype=torch.float64, generator=generator)
            theta.grad = gradient[touched]
            optimizer.step()
            slow.step(set(active.tolist()), gradient.tolist())
        expected = torch.tensor(slow.theta, dtype=torch.float64)[touched]
        # the same operations in another order, in float64
        torch.testing.assert_close(theta.data, expected, rtol=1e-11, atol=1e-13)
        assert optimizer.count == active.numel()
        state = optimizer.state[theta]
        assert {state[key].numel() for key in ("exp_avg", "exp_avg_sq", "step")} == {len(active)}
        assert state["step"].tolist() == [slow.age[j] for j in active.tolist()]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_numbers_of_one_age_move_as_under_torchs_adamw(decay) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(50, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    pair = (
        ls.AdamW([ours], lr=0.05, weight_decay=decay),
        torch.optim.AdamW([theirs], lr=0.05, weight_decay=decay),
    )
    for _ in range(20):
        ours.grad = torch.randn(50, generator=generator)
        theirs.grad = ours.grad.clone()
        for optimizer in pair:
            optimizer.step()
    # float32: twenty updates of about lr, each rounded to 6e-8 relative
    torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=2e-6)


def test_the_first_step_moves_every_number_by_the_rate_in_float32_too() -> None:
    """1 - 0.999 in float32 is off by 5e-5; the correction must not be."""
    theta = nn.Parameter(torch.zeros(3))
    theta.grad = torch.tensor([1e-3, -2.0, 50.0])
    ls.AdamW([theta], lr=0.25).step()
    torch.testing.assert_close(theta.data, torch.tensor([-0.25, 0.25, -0.25]), rtol=2e-5, atol=0)
    correction = 1 - float(theta.data[1] / 0.25)
    assert abs(correction) < 1e-6


def test_the_state_saves_and_loads() -> None:
    def run(steps: int, optimizer: ls.AdamW, theta: nn.Parameter, start: int = 0) -> None:
        for step in range(start, steps):
            theta.grad = torch.sin(torch.arange(4.0) + step)
            optimizer.step()

    whole, cut, other = (nn.Parameter(torch.zeros(4)) for _ in range(3))
    fresh, active = torch.full((2,), -1), torch.tensor([1, 3])
    first = ls.AdamW([whole], lr=0.1)
    first.follow(whole, fresh, active)
    run(6, first, whole)
    assert whole.data[::2].tolist() == [0.0, 0.0]
    second = ls.AdamW([cut], lr=0.1)
    second.follow(cut, fresh, active)
    run(3, second, cut)
    third = ls.AdamW([other], lr=0.1)
    third.load_state_dict(second.state_dict())
    other.data = cut.data.clone()
    run(6, third, other, start=3)
    assert torch.equal(other, whole)


def test_two_groups_load_from_a_file_without_pickled_code_and_go_on_bit_for_bit(tmp_path) -> None:
    """A peer's optimizer fails to load for two groups, and its files under the safe loader."""

    def made() -> tuple[list[nn.Parameter], ls.AdamW]:
        numbers = [nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(3))]
        optimizer = ls.AdamW([numbers[0]], lr=0.1, weight_decay=0.1)
        optimizer.add_param_group({"params": [numbers[1]], "lr": 0.3})
        return numbers, optimizer

    def run(numbers: list[nn.Parameter], optimizer: ls.AdamW, steps: range) -> None:
        for step in steps:
            for p in numbers:
                p.grad = torch.cos(torch.arange(float(p.numel())) * (step + 1))
            optimizer.step()

    whole, first = made()
    first.follow(whole[0], torch.full((2,), -1), torch.tensor([1, 4]))
    run(whole, first, range(3))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    cut, second = made()
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for ours, theirs in zip(cut, whole, strict=True):
        ours.data = theirs.data.clone()
    run(whole, first, range(3, 7))
    run(cut, second, range(3, 7))
    assert all(torch.equal(a, b) for a, b in zip(cut, whole, strict=True))
    assert [g["lr"] for g in second.param_groups] == [0.1, 0.3]
    assert second.count == first.count == 5


@pytest.mark.parametrize(
    "settings_", [{"lr": 0.0}, {"lr": math.nan}, {"lr": 1.0, "betas": (1.0, 0.9)},
                  {"lr": 1.0, "eps": -1.0}, {"lr": 1.0, "weight_decay": -0.1}]
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings_) -> None:
    with pytest.raises(UserError, match="got"):
        ls.AdamW([nn.Parameter(torch.zeros(1))], **settings_)


def test_sources_that_do_not_fit_are_refused() -> None:
    theta = nn.Parameter(torch.zeros(3))
    with pytest.raises(UserError, match="expected 3 sources"):
        ls.AdamW([theta], lr=0.1).follow(theta, torch.tensor([0]))


@pytest.mark.parametrize(
    ("step", "share"), [(1, 1.0), (2, 0.744), (6, 0.522), (21, 0.512), (101, 0.98)]
)
def test_an_entry_selected_late_begins_below_the_rate_where_ages_are_shared(step, share) -> None:
    """sqrt(1 - b2^t) / (1 - b1^t) (1 - b1) / sqrt(1 - b2): hand-computed shares of the rate."""
    theta = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = ls.AdamW([theta], lr=0.1, ages="shared")
    optimizer.follow(theta, torch.tensor([-1]), torch.tensor([0]))
    for _ in range(step - 1):
        theta.grad = torch.ones_like(theta)
        optimizer.step()
    optimizer.follow(theta, torch.tensor([0, -1]))
    theta.grad = torch.ones_like(theta)
    optimizer.step()
    assert float(theta.detach()[1]) == pytest.approx(-0.1 * share, rel=0.01)
    assert float(theta.detach()[0]) == pytest.approx(-0.1 * step, rel=1e-6)


def test_shared_ages_go_on_where_they_were_saved() -> None:
    def run(optimizer: ls.AdamW, theta: nn.Parameter, steps: range) -> None:
        for step in steps:
            theta.grad = torch.sin(torch.arange(3.0) + step)
            optimizer.step()

    whole, part = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
    run(ls.AdamW([whole], lr=0.1, ages="shared"), whole, range(6))
    first = ls.AdamW([part], lr=0.1, ages="shared")
    run(first, part, range(3))
    second = ls.AdamW([part], lr=0.1, ages="shared")
    second.load_state_dict(first.state_dict())
    run(second, part, range(3, 6))
    assert torch.equal(whole, part)
    with pytest.raises(UserError, match="ages to be one of own, shared"):
        ls.AdamW([whole], lr=0.1, ages="mine")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ages_count_further_than_a_narrow_type_can_and_survive_a_checkpoint(dtype) -> None:
    steps = {torch.bfloat16: 300, torch.float16: 2100}[dtype]  # past 256, and past 2048
    p = nn.Parameter(torch.zeros(3, dtype=dtype))
    optimizer = ls.AdamW([p], lr=1e-3)
    for _ in range(steps):
        p.grad = torch.full_like(p, 0.5)
        optimizer.step()
    again = ls.AdamW([p], lr=1e-3)
    again.load_state_dict(optimizer.state_dict())
    for _ in range(2):
        again.step()
    assert again.state[p]["step"].tolist() == [steps + 2] * 3
    again.follow(p, torch.tensor([0, -1, 2]))
    again.step()
    assert again.state[p]["step"].tolist() == [steps + 3, 1, steps + 3]
