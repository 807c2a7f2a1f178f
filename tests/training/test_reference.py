"""`finetune` step by step against a slow dense reference, and which checkpoint it keeps."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from oracles import selection
from oracles.scoring import loss_terms as slow_terms
from oracles.training import Slow, mean_loss, order, run, seed_of
from samples import tiny_task

import landscape as ls
from landscape.tasks.batches import make_batches
from landscape.tasks.encoding import encode
from landscape.training import epochs as dealt
from landscape.training import training as train

BASIC = {"lr": 0.02, "epochs": 2, "batch_size": 4, "seed": 3, "max_gradient_norm": math.inf}
SETTINGS = {
    "plain": {},
    "decay": {"weight_decay": 0.5},
    "clipped": {"max_gradient_norm": 0.01, "weight_decay": 0.5},
    "clipped in part": {"max_gradient_norm": 0.55},
    "short memory": {"betas": (0.5, 0.8), "eps": 1e-3},
    "a last batch of one": {"batch_size": 5, "seed": 8},
    "language modelling": {"loss": "language modelling"},
}


def made(**overrides):
    """A model in float64 with room for a mask, its dense twin, a tokenizer and six examples."""
    tokenizer = ls.tiny_tokenizer()
    model = ls.tiny_model("opt", vocab_size=len(tokenizer), init_std=0.2, **overrides).double()
    mask = ls.random_mask(model, density=0.2, targets=["*.[qv]_proj", "*.fc1"], seed=1)
    task = tiny_task(24)
    task = replace(task, train=task.train[:6], dev=task.train[:2])
    return model, copy.deepcopy(model), mask, tokenizer, task


class Watch:
    """Keep the values of theta after every step."""

    def __init__(self) -> None:
        self.thetas: list[dict[str, torch.Tensor]] = []

    def __call__(self, model, record) -> None:
        self.thetas.append({n: p.detach().clone() for n, p in ls.trainable(model).items()})


def assert_equal(found, watch, expected, tolerance: float = 1e-9) -> None:
    """Both in float64: other sums, whose rounding AdamW divides by sqrt(v)."""
    assert len(found.history) == len(expected) == len(watch.thetas) > 1
    for record, thetas, wanted in zip(found.history, watch.thetas, expected, strict=True):
        assert record["loss"] == pytest.approx(wanted["loss"], rel=tolerance)
        assert record["gradient_norm"] == pytest.approx(wanted["gradient_norm"], rel=tolerance)
        assert thetas.keys() == wanted["theta"].keys()
        for name, theta in thetas.items():
            assert theta.numpy() == pytest.approx(wanted["theta"][name], rel=0, abs=1e-7), name


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_equals_dense_masked_training_step_by_step(name) -> None:
    model, twin, mask, tokenizer, task = made()
    settings = BASIC | SETTINGS[name]
    loss = settings.pop("loss", "classification")
    task = replace(task, loss=loss)
    watch = Watch()
    ls.attach(model, mask)
    found = ls.finetune(model, tokenizer, task, probes=[watch], test=False, **settings)
    chosen = {n: settings.pop(n) for n in ("epochs", "batch_size", "seed")}
    expected = list(run(
        Slow(twin, mask, **settings), task.train,
        lambda m, batch, step: mean_loss(m, tokenizer, batch, loss), **chosen,
    ))  # fmt: skip
    assert_equal(found, watch, expected)
    told = {"rule": dict(mask.rule), "count": mask.count, "ratio": mask.ratio}
    assert found.config["mask"] == told
    if "max_gradient_norm" in SETTINGS[name]:
        norms = [r["gradient_norm"] for r in expected]
        assert max(norms) > settings["max_gradient_norm"]  # or nothing was clipped
    if name == "clipped in part":
        assert min(norms) < settings["max_gradient_norm"]


def test_a_run_of_whole_tensors_equals_dense_training_of_them() -> None:
    """Without a mask what is trained are the weights themselves, and so what decays."""
    model, twin, _, tokenizer, task = made()
    mask = ls.random_mask(model, density=1.0, targets="*.q_proj")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in mask.indices)
    settings = BASIC | {"max_gradient_norm": 0.05}
    watch, before = Watch(), time.perf_counter()
    found = ls.finetune(model, tokenizer, task, probes=[watch], test=False, **settings)
    assert 0 < found.metrics["seconds"] <= time.perf_counter() - before
    assert found.config["mask"] == {}
    slow = Slow(twin, mask, lr=BASIC["lr"], max_gradient_norm=0.05)
    expected = list(run(
        slow, task.train, lambda m, batch, step: mean_loss(m, tokenizer, batch, "classification"),
        **{n: BASIC[n] for n in ("epochs", "batch_size", "seed")},
    ))  # fmt: skip
    for thetas in watch.thetas:
        for name, start in slow.start.items():
            thetas[name] = thetas[name].flatten() - torch.from_numpy(start)
    assert_equal(found, watch, expected)


def test_dropout_of_a_step_is_that_of_its_seed_in_the_dense_model_too() -> None:
    model, twin, mask, tokenizer, task = made(dropout=0.3, attention_dropout=0.2)
    ls.attach(model, mask)
    watch = Watch()
    found = ls.finetune(model, tokenizer, task, probes=[watch], test=False, **BASIC)

    def loss(twin, batch, step) -> torch.Tensor:
        (rows,) = make_batches(batch, tokenizer, len(batch))
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(BASIC["seed"], "dropout", step))
            total, count = ls.task_loss(twin.train(), rows)
        return total / count

    slow = Slow(twin, mask, lr=BASIC["lr"], max_gradient_norm=math.inf)
    chosen = {n: BASIC[n] for n in ("epochs", "batch_size", "seed")}
    assert_equal(found, watch, list(run(slow, task.train, loss, **chosen)))


def test_dropout_differs_from_step_to_step_and_from_seed_to_seed() -> None:
    """One batch an epoch and a rate of almost nothing: only dropout tells the steps apart."""
    losses = []
    for seed in (0, 1):
        model, _, mask, tokenizer, task = made(dropout=0.3)
        ls.attach(model, mask)
        settings = BASIC | {"seed": seed, "batch_size": 6, "epochs": 3, "lr": 1e-12}
        found = ls.finetune(model, tokenizer, task, test=False, **settings)
        losses += [r["loss"] for r in found.history]
    assert min(abs(a - b) for i, a in enumerate(losses) for b in losses[:i]) > 1e-6


def test_every_epoch_passes_over_all_examples_once_in_an_order_of_its_own(monkeypatch) -> None:
    model, _, mask, tokenizer, task = made()
    examples = {e.prompt: i for i, e in enumerate(task.train)}
    assert len(examples) == 6
    encoded = {e.prompt: encode([e], tokenizer)[0].prompt for e in task.train}
    number = {encoded[prompt]: i for prompt, i in examples.items()}
    seen: list[int] = []
    honest = dealt.form_of(task.train)

    def spy(rows, *given):
        seen.extend(number[row.prompt] for row in rows)
        return honest.collate(rows, *given)

    monkeypatch.setattr(dealt, "form_of", lambda _: replace(honest, collate=spy))
    ls.attach(model, mask)
    ls.finetune(model, tokenizer, task, test=False, **(BASIC | {"epochs": 3}))
    epochs = [seen[:6], seen[6:12], seen[12:]]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs == [order(BASIC["seed"], epoch, 6) for epoch in range(3)]


@pytest.mark.parametrize("kind", ["increment", "repeat"])
def test_a_scheduled_run_equals_dense_training_whose_mask_moves(kind) -> None:
    model, twin, _, tokenizer, task = made()
    names = [
        n for n in dict(model.named_parameters()) if n.endswith(("q_proj.weight", "v_proj.weight"))
    ]
    settings = BASIC | {"weight_decay": 0.5, "max_gradient_norm": 0.05, "batch_size": 2}
    budget, steps = 25, 6
    schedule = ls.Schedule(kind, count=budget, steps=steps, every=2, score="gradient")
    found = ls.finetune(model, tokenizer, task, schedule=schedule, test=False, **settings)
    dense = selection.DenseSchedule(twin, names, "gradient")
    step, updates = 0, []
    for epoch in range(2):
        shuffled = [task.train[i] for i in order(3, epoch, 6)]
        for batch in (shuffled[:2], shuffled[2:4], shuffled[4:]):
            loss = mean_loss(twin, tokenizer, batch, "classification")
            assert found.history[step]["loss"] == pytest.approx(float(loss.detach()), rel=1e-9)
            grads = selection.gradients(twin, names, loss)
            before = dense.updates
            if kind == "increment":
                wanted = budget * (step + 1) // steps - budget * step // steps
                dense.select(dense.choose(grads, wanted, exclude=True), kind)
            elif step % 2 == 0:
                dense.select(dense.choose(grads, budget, exclude=False), kind)
            dense.update(grads, settings["lr"], 0.5, 0.05)
            step += 1
            updates.append(dense.updates - before)
    assert [r["updated"] for r in found.history] == updates
    assert found.config["mask"] == {}  # the schedule says it
    assert found.config["schedule"]["kind"] == kind
    assert len(updates) == steps


def test_with_shared_ages_a_growing_mask_trains_as_torchs_adamw_on_masked_gradients() -> None:
    """One counter serves a whole parameter, as in the code of paper 2: torch's own optimizer."""
    model, twin, _, tokenizer, task = made()
    ends = ("q_proj.weight", "v_proj.weight")
    names = [n for n in dict(model.named_parameters()) if n.endswith(ends)]
    settings = BASIC | {"batch_size": 2}
    schedule = ls.Schedule("increment", count=25, steps=6, score="gradient")
    watch = Watch()
    ls.finetune(
        model, tokenizer, task, schedule=schedule, test=False, probes=[watch],
        optimizer=partial(ls.AdamW, ages="shared"), **settings,
    )  # fmt: skip
    held = dict(twin.named_parameters())
    optimizer = torch.optim.AdamW([held[n] for n in names], lr=settings["lr"], weight_decay=0.0)
    chosen = {n: torch.zeros(held[n].numel(), dtype=torch.bool) for n in names}
    start = {n: held[n].detach().clone() for n in names}
    for step in range(6):
        rows = [task.train[i] for i in order(3, step // 3, 6)][step % 3 * 2 :][:2]
        grads = selection.gradients(twin, names, mean_loss(twin, tokenizer, rows, "classification"))
        free = torch.cat([g.flatten().abs().where(~chosen[n], -1.0) for n, g in grads.items()])
        picked = torch.zeros_like(free, dtype=torch.bool)
        picked[free.topk(25 * (step + 1) // 6 - 25 * step // 6).indices] = True
        for n, part in zip(names, picked.split([chosen[n].numel() for n in names])):
            chosen[n] |= part
            held[n].grad = grads[n] * chosen[n].view_as(grads[n])
        optimizer.step()
    moved = {n: (held[n].detach() - start[n]).flatten() for n in names}
    for name, theta in watch.thetas[-1].items():
        torch.testing.assert_close(theta, moved[name][chosen[name]], rtol=1e-9, atol=1e-14)
    assert sum(theta.numel() for theta in watch.thetas[-1].values()) == 25


def test_batches_of_a_step_weigh_the_same_where_the_reference_averages_their_means() -> None:
    model, twin, mask, tokenizer, task = made()
    long = replace(task.train[0], prompt="a", candidates=(" terrible and long", " great"), label=0)
    task = replace(task, train=(*task.train[:3], long), loss="language modelling")
    losses = []
    for average in ("terms", "batches"):
        ls.attach(model, mask)
        found = ls.finetune(
            model, tokenizer, task, test=False, loss_average=average,
            **(BASIC | {"batch_size": 1, "accumulate": 4, "epochs": 1}),
        )  # fmt: skip
        losses.append(found.history[0]["loss"])
        ls.detach(model)
    terms = [
        [float(t) for t in slow_terms(twin, tokenizer, e, "language modelling")] for e in task.train
    ]
    every = [t for each in terms for t in each]
    assert losses[0] == pytest.approx(sum(every) / len(every), rel=1e-9)
    assert losses[1] == pytest.approx(sum(sum(t) / len(t) for t in terms) / 4, rel=1e-9)
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


# --- checkpoints --------------------------------------------------------------------------------


def judged(monkeypatch, scores: list[tuple[float, float]], **settings):
    """Fine-tune while the dev evaluations give prescribed accuracies and losses."""
    model, _, mask, tokenizer, task = made()
    ls.attach(model, mask)
    left = iter(scores)

    def judge(*_, **__):
        accuracy, loss = next(left)
        return {"accuracy": accuracy, "loss": loss, "n": 2}

    monkeypatch.setattr(train, "evaluate", judge)
    watch = Watch()
    settings = BASIC | {"epochs": len(scores), "batch_size": 3, "test": False} | settings
    found = ls.finetune(model, tokenizer, task, probes=[watch], **settings)
    kept = ls.trainable(model)
    at = found.metrics["best_step"]
    for name, theta in kept.items():
        assert torch.equal(theta, watch.thetas[at - 1][name])
    assert sum(
        torch.equal(kept[n], t) for thetas in watch.thetas for n, t in thetas.items()
    ) == len(kept)
    return found


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.5, 1.0), (0.5, 1.0), (0.5, 1.0)], 2),  # the first of equals
        ([(0.5, 1.0), (0.5, 0.9), (0.5, 0.9)], 4),  # the lower loss, the first of equals
        ([(0.5, 1.0), (0.6, 2.0), (0.5, 0.1)], 4),  # accuracy before loss
        ([(0.0, 9.0), (0.0, 10.0), (0.0, 9.5)], 2),  # nothing right is better than no checkpoint
    ],
)
def test_the_first_of_the_best_checkpoints_is_kept(monkeypatch, scores, best) -> None:
    found = judged(monkeypatch, scores)
    assert found.metrics["best_step"] == best  # two steps an epoch
    assert [e["step"] for e in found.evaluations] == [2, 4, 6]
    accuracy, loss = scores[best // 2 - 1]
    assert found.metrics["dev"] == {"step": best, "accuracy": accuracy, "loss": loss}


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.5, 1.0), (0.5, 1.0), (0.4, 1.0)], 2),  # the first of equals
        ([(0.5, 1.0), (0.6, 1.0), (0.6, 1.0)], 4),  # the higher accuracy, the first of equals
        ([(0.9, 1.0), (0.1, 0.9), (0.9, 0.95)], 4),  # loss before accuracy
    ],
)
def test_the_first_of_the_lowest_losses_is_kept_where_loss_selects(
    monkeypatch, scores, best
) -> None:
    found = judged(monkeypatch, scores, select_by="loss")
    assert found.metrics["best_step"] == best


@pytest.mark.parametrize(
    ("number", "steps"),
    [(1, [6, 12]), (4, [1, 3, 4, 6, 7, 9, 10, 12]), (6, list(range(1, 13)))],
)
def test_evaluations_are_evenly_spaced_and_the_last_is_at_the_end_of_an_epoch(
    monkeypatch, number, steps
) -> None:
    scores = [(0.5, 1.0)] * len(steps)
    found = judged(monkeypatch, scores, batch_size=1, epochs=2, evaluations_per_epoch=number)
    assert [e["step"] for e in found.evaluations] == steps


@pytest.mark.parametrize(("every", "steps"), [(5, [5, 10, 12]), (4, [4, 8, 12]), (50, [12])])
def test_evaluations_every_so_many_steps_are_there_and_one_is_at_the_end(
    monkeypatch, every, steps
) -> None:
    scores = [(0.5, 1.0)] * len(steps)
    found = judged(monkeypatch, scores, batch_size=1, epochs=2, evaluate_every=every)
    assert [e["step"] for e in found.evaluations] == steps
