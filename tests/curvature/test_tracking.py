"""The sharpness probe: right at every measurement, and invisible to the training run."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from oracles.curvature import dense, net, regression_data, squares
from samples import short_task
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.tasks.batches import make_batches

LR = 2e-2


def train(probes, *, dropout: float = 0.0, name: str = "opt", lr: float = LR, epochs: int = 3):
    tokenizer = ls.tiny_tokenizer()
    model = ls.tiny_model(name, vocab_size=len(tokenizer))
    for module in model.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = dropout
    ls.attach(model, ls.random_mask(model, count=40, sampling="exact", seed=0))
    run = ls.finetune(
        model, tokenizer, short_task(), lr=lr, epochs=epochs, batch_size=4, seed=1, probes=probes
    )
    return model, run


def batches() -> list:
    return make_batches(list(short_task().train), ls.tiny_tokenizer(), 16)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", ["opt", "llama"])
def test_training_with_and_without_the_probe_is_bit_identical(name, dropout) -> None:
    bare, without = train([], dropout=dropout, name=name)
    probe = ls.SharpnessProbe(batches(), every=2)
    state = torch.get_rng_state()
    watched, with_it = train([probe], dropout=dropout, name=name)
    assert torch.equal(state, torch.get_rng_state())
    assert len(probe.rows) == 6
    for (key, a), b in zip(bare.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    kept = [{k: row[k] for k in ("step", "loss", "gradient_norm")} for row in with_it.history]
    assert kept == without.history
    assert with_it.evaluations == without.evaluations
    assert all(p.grad is None or not p.grad.isnan().any() for p in watched.parameters())


def test_every_measurement_is_the_top_of_the_exact_spectrum_at_that_step() -> None:
    probe = ls.SharpnessProbe(batches(), every=3, tol=1e-3)
    seen = []

    class Witness:
        def start(self, optimizer) -> None:
            self.optimizer = optimizer

        def __call__(self, model, record) -> None:
            if "sharpness" in record:
                H = ls.HessianOperator(model, batches())
                P = ls.preconditioned(H, self.optimizer)
                tops = [float(ls.exact_spectrum(A).eigenvalues[0]) for A in (H, P)]
                seen.append((record["step"], *tops))

    _, run = train([probe, Witness()])
    assert [s for s, *_ in seen] == [row["step"] for row in probe.rows] == [1, 4, 7, 10]
    for (_, plain, scaled), row in zip(seen, probe.rows, strict=True):
        # a residual of 1e-3; float32 products
        assert row["sharpness"] == pytest.approx(plain, rel=2e-3)
        assert row["preconditioned_sharpness"] == pytest.approx(scaled, rel=2e-3)
        assert row["sharpness_threshold"] == pytest.approx(2 / LR)
        assert row["preconditioned_threshold"] == pytest.approx(2 * 1.9 / (0.1 * LR))
    assert run.history[3]["sharpness"] == probe.rows[1]["sharpness"]
    assert "sharpness" not in run.history[1]


def test_warm_starts_cost_fewer_products_than_the_first_measurement() -> None:
    probe = ls.SharpnessProbe(batches(), every=1, tol=0.02)
    train([probe], lr=1e-4)
    products = [row["sharpness_products"] for row in probe.rows]
    assert sum(products[1:]) / len(products[1:]) < products[0]


@pytest.mark.parametrize("kind", ["increment", "repeat", "drop_regrow"])
def test_a_mask_that_moves_during_training_is_followed_by_probe_and_preconditioner(kind) -> None:
    """Numbers that the schedule froze have no step: their rows of P^-1/2 H P^-1/2 are zero."""
    probe, seen = ls.SharpnessProbe(batches(), every=3, tol=1e-3), []

    class Witness:
        def start(self, optimizer) -> None:
            self.optimizer = optimizer

        def __call__(self, model, record) -> None:
            if "sharpness" not in record:
                return
            H = ls.HessianOperator(model, batches())
            S, matrix = ls.preconditioned(H, self.optimizer).scale(), ls.exact_matrix(H)
            moves = torch.cat(
                [torch.ones(p.numel(), dtype=torch.bool) if "active" not in state
                 else torch.zeros(p.numel(), dtype=torch.bool).index_fill(0, state["active"], True)
                 for p, state in ((p, self.optimizer.state[p]) for p in H.parameters)]
            )  # fmt: skip
            assert torch.equal(S > 0, moves)
            scaled = S[:, None].double() * matrix * S.double()
            seen.append(
                [float(torch.linalg.eigvalsh((m + m.t()) / 2)[-1]) for m in (matrix, scaled)]
            )
            sizes.append(H.size)

    sizes: list[int] = []
    tokenizer = ls.tiny_tokenizer()
    model = ls.tiny_model("opt", vocab_size=len(tokenizer))
    ls.finetune(
        model, tokenizer, short_task(), lr=LR, epochs=2, batch_size=4, seed=1,
        probes=[probe, Witness()], schedule=ls.Schedule(kind, count=24, every=2),
    )  # fmt: skip
    assert len(seen) == len(probe.rows) == 3
    assert kind == "drop_regrow" or len(set(sizes)) > 1  # the space itself grew
    for (plain, scaled), row in zip(seen, probe.rows, strict=True):
        assert row["sharpness"] == pytest.approx(plain, rel=5e-3)
        assert row["preconditioned_sharpness"] == pytest.approx(scaled, rel=5e-3)


def test_gradient_descent_above_its_threshold_is_unstable_and_below_it_is_not() -> None:
    """On a quadratic, where the sharpness is the same everywhere."""
    x, y, _ = regression_data()
    for factor, stable in ((0.95, True), (1.05, False)):
        model = nn.Sequential(nn.Linear(4, 1, bias=False)).double()
        nn.init.zeros_(model[0].weight)
        top = float(torch.linalg.eigvalsh(x.t() @ x / len(x))[-1])
        optimizer = torch.optim.SGD(model.parameters(), lr=factor * 2 / top)
        probe = ls.SharpnessProbe([(x, y)], loss=squares, every=10, tol=1e-6)
        probe.start(optimizer)
        losses = []
        for _ in range(40):
            loss = squares(model, (x, y))[0] / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            probe(model, {})
        assert [row["step"] for row in probe.rows] == [1, 11, 21, 31]
        for row in probe.rows:
            assert row["sharpness"] == pytest.approx(top, rel=1e-6)
            assert (row["sharpness"] < row["sharpness_threshold"]) == stable
            assert "preconditioned_sharpness" not in row  # plain gradient descent has no P
        assert (losses[-1] < losses[0]) == stable
        assert all((b < a) == stable for a, b in pairwise(losses[20:]))


def test_a_diverged_model_gets_nan_and_the_run_ends_cleanly() -> None:
    probe = ls.SharpnessProbe(batches(), every=1)
    parameter_became_nan = []

    def poison(model, record) -> None:
        if record["step"] == 3:
            with torch.no_grad():
                next(iter(ls.trainable(model).values())).fill_(math.nan)
            parameter_became_nan.append(True)

    _, run = train([poison, probe])
    assert parameter_became_nan
    assert run.diverged
    assert math.isfinite(probe.rows[1]["sharpness"])
    assert math.isnan(probe.rows[2]["sharpness"])
    assert math.isnan(probe.rows[2]["preconditioned_sharpness"])


def test_a_transformers_trainer_is_tracked_and_trains_bit_for_bit_as_without(tmp_path) -> None:
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    tokens = torch.randint(3, 60, (12, 6), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": t, "labels": i % 2} for i, t in enumerate(tokens)]
    everything = {"input_ids": tokens, "labels": torch.arange(12) % 2}
    results, probe = (
        [],
        ls.SharpnessProbe(
            [everything], every=2, loss=lambda m, b: (m(**b).loss * 12, 12), tol=1e-3
        ),
    )
    for callbacks in ([], [probe.as_callback()]):
        model = ls.tiny_model("bert")
        ls.attach(model, ls.random_mask(model, count=30, targets="*.query", sampling="exact"))
        arguments = TrainingArguments(
            tmp_path, max_steps=5, per_device_train_batch_size=4, learning_rate=LR, seed=3,
            use_cpu=True, report_to=[], logging_strategy="no", save_strategy="no",
            disable_tqdm=True, optim="adamw_torch", lr_scheduler_type="constant",
        )  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=rows, callbacks=callbacks)
        trainer.train()
        results.append(torch.cat(list(ls.trainable(model).values())).detach())
    assert torch.equal(*results)
    assert [row["step"] for row in probe.rows] == [1, 3, 5]
    logged = [row for row in trainer.state.log_history if "sharpness" in row]
    assert [row["sharpness"] for row in logged] == [row["sharpness"] for row in probe.rows]
    H = ls.HessianOperator(model, [everything], loss=lambda m, b: (m(**b).loss * 12, 12))
    scaled = ls.preconditioned(H, trainer.optimizer)
    for name, operator in (("sharpness", H), ("preconditioned_sharpness", scaled)):
        exact = float(ls.exact_spectrum(operator).eigenvalues[0])
        assert probe.rows[-1][name] == pytest.approx(exact, rel=2e-3)
    assert probe.rows[0]["preconditioned_threshold"] == pytest.approx(2 * 1.9 / (0.1 * LR))


def test_a_time_share_bounds_what_the_probe_takes(monkeypatch) -> None:
    clock = {"now": 0.0}
    monkeypatch.setattr("landscape.curvature.tracking.time.perf_counter", lambda: clock["now"])
    probe = ls.SharpnessProbe([None], every=1, time_share=0.1)
    probe.start(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1))

    def costly(model):
        clock["now"] += 3.0
        return {"sharpness": 1.0}

    def gradient(model):
        clock["now"] += 0.2

    monkeypatch.setattr(probe, "measure", costly)
    monkeypatch.setattr(probe, "_take_gradient", gradient)
    for step in range(1, 401):
        clock["now"] += 1.0
        probe(nn.Linear(1, 1), {})
        spent = clock["now"] - step
        assert spent <= 0.1 * step + 1e-9  # never above its share, and
    assert spent > 0.08 * step  # not far below it in the end


def test_the_default_schedule_keeps_to_a_tenth_of_the_training_time(monkeypatch) -> None:
    """On a clock that counts gradients: a step is one, and so is what a measurement is made of."""
    clock = {"now": 0.0}
    monkeypatch.setattr("landscape.curvature.tracking.time.perf_counter", lambda: clock["now"])

    def counted(model, batch):
        clock["now"] += 1.0
        return squares(model, batch)

    x, y, _ = regression_data()
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    probe = ls.SharpnessProbe([(x, y)], loss=counted)
    probe.start(optimizer)
    multiply = ls.HessianOperator._multiply

    def priced(self, *arguments, **named):
        clock["now"] += 1.0
        return multiply(self, *arguments, **named)

    monkeypatch.setattr(ls.HessianOperator, "_multiply", priced)
    for step in range(1, 1001):
        loss = squares(model, (x, y))[0] / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clock["now"] += 1.0
        probe(model, {})
        assert clock["now"] - step <= 0.1 * step, step
    assert len(probe.rows) >= 3


def test_memory_of_the_graph_is_given_back_between_measurements() -> None:
    x, y, _ = regression_data()
    probe = ls.SharpnessProbe([(x, y)], loss=squares, every=1)
    model = net()
    probe.start(torch.optim.SGD(model.parameters(), lr=0.1))
    probe(model, {})
    assert probe._hessian is not None
    assert probe._hessian.description["graphs_kept"] == 0
    top = float(torch.linalg.eigvalsh(dense(probe._hessian))[-1])
    assert probe.rows[0]["sharpness"] == pytest.approx(top, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"every": 0}, "at least 1, got 0"), ({"time_share": 0.0}, "time_share to be a finite"),
     ({"time_share": 1.5}, "at most 1, got 1.5")],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(arguments, words) -> None:
    with pytest.raises(UserError, match=words):
        ls.SharpnessProbe([None], **arguments)


def test_a_probe_without_an_optimizer_is_refused() -> None:
    with pytest.raises(UserError, match="call start"):
        ls.SharpnessProbe([None])(net(), {})


def test_a_resumed_run_is_measured_at_the_steps_of_a_whole_one() -> None:
    model, data = net(), regression_data()[:2]
    probe = ls.SharpnessProbe([data], every=3, loss=squares)
    probe.start(torch.optim.SGD(model.parameters(), lr=1e-2))
    for step in range(6, 14):  # it was stopped after step 5
        probe(model, {"step": step})
    assert [row["step"] for row in probe.rows] == [7, 10, 13]
