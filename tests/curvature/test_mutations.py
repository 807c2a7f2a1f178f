"""Broken twins of the operators: each mistake that others made must be seen by a check here.

A check is a test of this folder in miniature: it must accept the sound code and refuse its twin.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from oracles.curvature import dense, net, principal_rows, regression_data, squares
from torch import Tensor

import landscape as ls
from landscape.curvature import stability
from landscape.curvature.operators import batched, precondition
from landscape.errors import UserError


def close(a: Tensor, b: Tensor, rtol: float = 1e-8) -> bool:
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=rtol, atol=1e-12))


# --- the checks -------------------------------------------------------------------------------


def weights_of_batches() -> bool:
    x, y, _ = regression_data()
    parts = ls.HessianOperator(net(), [(x[:2], y[:2]), (x[2:], y[2:])], loss=squares)
    return close(dense(parts), dense(ls.HessianOperator(net(), [(x, y)], loss=squares)))


def mask_is_a_principal_submatrix() -> bool:
    x, y, _ = regression_data()
    model = net()
    mask = ls.random_mask(model, density=0.5, targets="0.weight", seed=1)
    full = dense(ls.HessianOperator(model, [(x, y)], loss=squares))
    rows = principal_rows(mask)
    ls.attach(model, mask)
    try:
        return close(dense(ls.HessianOperator(model, [(x, y)], loss=squares)), full[rows][:, rows])
    except (UserError, RuntimeError):
        return False


def adam_after(steps: int, optimizer_class: Callable = torch.optim.AdamW):
    """A network with two groups after some steps of Adam, its Hessian, and a step's numbers."""
    x, y, _ = regression_data()
    model = net()
    groups = [
        {"params": list(model[0].parameters()), "lr": 0.02},
        {"params": list(model[2].parameters()), "lr": 0.005, "eps": 1e-2, "betas": (0.8, 0.95)},
    ]
    optimizer = optimizer_class(groups, weight_decay=0.0, lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        (squares(model, (x, y))[0] / len(x)).backward()
        optimizer.step()
    return model, optimizer, ls.HessianOperator(model, [(x, y)], loss=squares)


def preconditioner_is_what_a_step_divides_by() -> bool:
    model, optimizer, H = adam_after(3)
    x, y, _ = regression_data()
    optimizer.zero_grad()
    (squares(model, (x, y))[0] / len(x)).backward()
    before = [p.detach().clone() for p in H.parameters]
    optimizer.step()
    moved = torch.cat([(p - b).reshape(-1) for p, b in zip(H.parameters, before)]).detach()
    m = torch.cat([optimizer.state[p]["exp_avg"].reshape(-1) for p in H.parameters])
    S = ls.preconditioned(H, optimizer).scale()
    return close(-0.02 * S.square() * m, moved, rtol=1e-7)


def preconditioned_is_symmetric_and_similar() -> bool:
    _, optimizer, H = adam_after(3)
    A = ls.preconditioned(H, optimizer)
    matrix, S = dense(A), precondition.PreconditionedOperator.scale(A)
    similar = torch.linalg.eigvals(S[:, None].square() * dense(H)).real.sort().values
    symmetric = ls.health_check(A, raise_on_failure=False).healthy
    return symmetric and close(torch.linalg.eigvalsh(matrix), similar, rtol=1e-5)


def threshold_is_where_momentum_turns_unstable() -> bool:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    verdicts = []
    for factor in (0.97, 1.03):
        x, m = 1.0, 0.0
        curvature = factor * stability.stability_threshold(optimizer)
        for _ in range(3000):
            m = 0.9 * m + 0.1 * curvature * x
            x -= 0.01 * m
            if abs(x) > 1e9:
                break
        verdicts.append(abs(x) < 1.0)
    return verdicts == [True, False]


def tracking_measures_the_present_weights() -> bool:
    model, optimizer, _ = adam_after(2)
    for group in optimizer.param_groups:
        group["betas"] = (0.9, 0.95)  # one threshold needs one momentum
    x, y, _ = regression_data()
    probe = ls.SharpnessProbe([(x, y)], loss=squares, every=1, tol=1e-6, max_matvecs=100)
    probe.start(optimizer)
    for step in range(3):
        optimizer.zero_grad()
        (squares(model, (x, y))[0] / len(x)).backward()
        optimizer.step()
        record: dict = {"step": step}
        try:
            probe(model, record)
        except UserError:
            return False
        H = ls.HessianOperator(copy.deepcopy(model), [(x, y)], loss=squares)
        top = float(torch.linalg.eigvalsh(dense(H))[-1])
        if abs(record.get("sharpness", float("nan")) - top) > 1e-6 * top:
            return False
        P = dense(ls.preconditioned(H_of(model), optimizer))
        scaled = float(torch.linalg.eigvalsh(P)[-1])
        if not abs(record["preconditioned_sharpness"] - scaled) <= 1e-6 * scaled:
            return False
        rate = optimizer.param_groups[0]["lr"]
        if record["sharpness_threshold"] != 2 / rate:
            return False
    return True


def H_of(model) -> ls.HessianOperator:
    x, y, _ = regression_data()
    return ls.HessianOperator(model, [(x, y)], loss=squares)


# --- the broken twins -------------------------------------------------------------------------


def equal_weight_per_batch(patch) -> None:
    sound = batched.BatchedOperator._product

    def product(self, v, mode, graphs):
        batches, total = self._batches, torch.zeros_like(v)
        for number, batch in enumerate(batches):
            self._batches = [batch]
            graph = {0: graphs[number]} if number in graphs else {}
            counts, self._counts = self._counts, [self._counts[number]]
            total += sound(self, v, mode, graph) / len(batches)
            self._batches, self._counts = batches, counts
        return total

    patch.setattr(batched.BatchedOperator, "_product", product)


def batch_dropped(patch) -> None:
    sound = batched.BatchedOperator.__init__

    def init(self, model, batches, *given, **named):
        sound(self, model, list(batches)[-1:], *given, **named)

    patch.setattr(batched.BatchedOperator, "__init__", init)


def mask_ignored(patch) -> None:
    """The whole tensor instead of the mask's numbers."""
    sound = ls.attach
    patch.setattr(
        ls, "attach",
        lambda m, mask: sound(m, ls.random_mask(m, density=1.0, targets=list(mask.shapes))),
    )  # fmt: skip


def mask_of_another_seed(patch) -> None:
    sound = ls.attach
    patch.setattr(
        ls, "attach",
        lambda m, mask: sound(m, ls.random_mask(m, density=0.5, targets=list(mask.shapes), seed=7)),
    )  # fmt: skip


def one_sided(patch) -> None:
    """P^-1 H."""
    patch.setattr(
        precondition.PreconditionedOperator, "_pull", lambda self, w: self.scale().square() * w
    )
    patch.setattr(precondition.PreconditionedOperator, "_push", lambda self, v: v)


def not_rooted(patch) -> None:
    """P^-1 H P^-1: symmetric, with other eigenvalues."""
    for name in ("_push", "_pull"):
        patch.setattr(
            precondition.PreconditionedOperator, name, lambda self, v: self.scale().square() * v
        )


def preconditioner(formula: Callable[..., Tensor]) -> Callable:
    def patched(patch) -> None:
        def inverse_root(optimizer, state, group, reference):
            beta1, beta2 = group["betas"]
            t, v = float(state["step"]), state["exp_avg_sq"].double()
            ratio = reference / group["lr"]
            return formula(v=v, t=t, b1=beta1, b2=beta2, eps=group["eps"], ratio=ratio).rsqrt()

        patch.setattr(precondition, "_inverse_root", inverse_root)

    return patched


def sound_preconditioner(v, t, b1, b2, eps, ratio) -> Tensor:
    return (1 - b1**t) * ((v / (1 - b2**t)).sqrt() + eps) * ratio


def no_second_correction(v, t, b1, b2, eps, ratio) -> Tensor:
    return (1 - b1**t) * (v.sqrt() + eps) * ratio


def no_first_correction(v, t, b1, b2, eps, ratio) -> Tensor:
    return ((v / (1 - b2**t)).sqrt() + eps) * ratio


def eps_inside_the_root(v, t, b1, b2, eps, ratio) -> Tensor:
    return (1 - b1**t) * (v / (1 - b2**t) + eps).sqrt() * ratio


def no_eps(v, t, b1, b2, eps, ratio) -> Tensor:
    return (1 - b1**t) * (v / (1 - b2**t)).sqrt() * ratio


def rate_of_the_first_group(v, t, b1, b2, eps, ratio) -> Tensor:
    return (1 - b1**t) * ((v / (1 - b2**t)).sqrt() + eps)


def rate_upside_down(v, t, b1, b2, eps, ratio) -> Tensor:
    return (1 - b1**t) * ((v / (1 - b2**t)).sqrt() + eps) / ratio


def threshold_without_momentum(patch) -> None:
    patch.setattr(stability, "stability_threshold", lambda o: 2 / stability.reference_rate(o))


def stale_graph(patch) -> None:
    """Products of the weights of the first measurement."""
    patch.setattr(batched.Point, "has_moved", lambda self, model, parameters: False)
    patch.setattr(batched.BatchedOperator, "release", lambda self: None)


def warm_start_is_believed(patch) -> None:
    """One product with the old eigenvector, and no more."""
    import landscape.curvature.tracking as tracking

    sound = tracking.lanczos

    def believed(operator, *, v0, **given):
        if v0 is None:
            return sound(operator, **given)
        value = torch.tensor([float(v0 @ operator.matvec(v0))])
        return type("Found", (), {"eigenvalues": value, "residuals": value, "num_matvecs": 1,
                                  "eigenvectors": v0[:, None]})  # fmt: skip

    patch.setattr(tracking, "lanczos", believed)


MUTATIONS = [
    (weights_of_batches, equal_weight_per_batch),
    (weights_of_batches, batch_dropped),
    (mask_is_a_principal_submatrix, mask_ignored),
    (mask_is_a_principal_submatrix, mask_of_another_seed),
    (preconditioned_is_symmetric_and_similar, one_sided),
    (preconditioned_is_symmetric_and_similar, not_rooted),
    (preconditioner_is_what_a_step_divides_by, preconditioner(no_second_correction)),
    (preconditioner_is_what_a_step_divides_by, preconditioner(no_first_correction)),
    (preconditioner_is_what_a_step_divides_by, preconditioner(eps_inside_the_root)),
    (preconditioner_is_what_a_step_divides_by, preconditioner(no_eps)),
    (preconditioner_is_what_a_step_divides_by, preconditioner(rate_of_the_first_group)),
    (preconditioner_is_what_a_step_divides_by, preconditioner(rate_upside_down)),
    (threshold_is_where_momentum_turns_unstable, threshold_without_momentum),
    (tracking_measures_the_present_weights, stale_graph),
    (tracking_measures_the_present_weights, warm_start_is_believed),
]


@pytest.mark.parametrize("check", sorted({c for c, _ in MUTATIONS}, key=lambda c: c.__name__))
def test_the_check_accepts_the_sound_code(check) -> None:
    assert check()


def test_the_check_accepts_a_second_writing_of_the_preconditioner(monkeypatch) -> None:
    preconditioner(sound_preconditioner)(monkeypatch)
    assert preconditioner_is_what_a_step_divides_by()


@pytest.mark.filterwarnings("ignore::landscape.errors.NotConvergedWarning")
@pytest.mark.parametrize(
    ("check", "mutate"), MUTATIONS, ids=[f"{c.__name__}-{n}" for n, (c, _) in enumerate(MUTATIONS)]
)
def test_the_check_sees_the_mistake(check, mutate, monkeypatch) -> None:
    mutate(monkeypatch)
    assert not check()
