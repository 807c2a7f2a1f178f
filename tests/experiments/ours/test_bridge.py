"""The artefact `bridge`: its numbers in closed form, its measurements where a network is linear."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from samples import tiny_task
from scipy import optimize

import landscape as ls
from experiments.catalogue import artefacts
from experiments.kit.published import file_of, rows_at
from experiments.measurements import bridge, descents, gram, linearised
from experiments.ours import bridge_figure, bridge_report
from experiments.ours.bridge import ARTEFACT
from landscape import seeds
from landscape.errors import UserError
from landscape.masks import random_mask
from landscape.sweep import RunConfig
from landscape.sweep.measurements import Point
from landscape.sweep.plan import chosen
from theory import linearise
from theory.spectra import masked_grams

RNG = np.random.default_rng(5)


def test_the_least_distance_at_a_share_of_the_loss_is_what_a_constrained_solver_finds() -> None:
    features = RNG.standard_normal((6, 12))
    gaps, labels = RNG.standard_normal(6), np.array([1.0, -1, 1, 1, -1, 1])

    def loss(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -labels * (gaps + features @ w)).mean())

    target = 0.5 * loss(np.zeros(12))
    found = optimize.minimize(
        lambda w: w @ w, np.full(12, 0.1), method="SLSQP",
        constraints={"type": "ineq", "fun": lambda w: target - loss(w)},
    )  # fmt: skip
    ours = gram.nearest(features @ features.T, gaps, labels, 0.5)
    assert ours == pytest.approx(math.sqrt(found.fun), rel=1e-3)


def test_labels_that_no_weight_tells_apart_are_never_reached() -> None:
    same, labels = np.ones((2, 2)), np.array([1.0, -1.0])
    assert gram.nearest(same, np.zeros(2), labels, 0.5) == math.inf


def test_one_example_grows_beyond_two_over_its_squared_length() -> None:
    error, seen = np.array([3.0]), np.zeros(40, int)
    rate = gram.threshold(lambda lr: gram._grown(np.array([[5.0]]), error, seen, lr), 1e-3)
    assert rate / gram.NOTCH <= 2 / 5 < rate


@pytest.mark.parametrize(("length", "seen", "grown"), [
    (20.0, (0, 1, 2), False), (30.0, (0, 1, 2), True),  # at its turn 3 (length^2 - 1)^2 the mean
    (2e6, (0, 2), False),  # the long example has no turn
])  # fmt: skip
def test_an_error_ends_the_steps_as_grown_at_a_million_times_the_first_mean_square_at_its_turn(
    length: float, seen: tuple[int, ...], grown: bool
) -> None:
    """One weight: example 0 moves it to 1, a long one far away, the last one back to 0."""
    features, error = np.array([1.0, length, 1.0]), np.array([1.0, 0.0, 0.0])
    assert gram._grown(np.outer(features, features), error, np.array(seen), 1.0) is grown


@pytest.mark.parametrize("guess", [1e-4, 1.0, 1e5])
def test_the_best_rate_of_a_quadratic_is_found_from_any_guess(guess: float) -> None:
    rate, lowest, (low, high) = bridge.best_rate(lambda r: (r - 0.7) ** 2, guess, 14)
    assert rate == pytest.approx(0.7, rel=0.01)
    assert low < 0.7 < high
    assert lowest < 1e-4


@pytest.fixture(scope="module")
def point() -> Point:
    tokenizer = ls.tiny_tokenizer()
    config = RunConfig(method="none", targets=("*.[qv]_proj",))
    model = ls.tiny_model("opt", vocab_size=len(tokenizer))
    return Point(config, model, tokenizer, tiny_task(), None, {})


def asked(point: Point, **options: Any) -> Point:
    return dataclasses.replace(point, options={"examples": 4, **options})


def test_the_linear_models_numbers_of_a_mask_are_the_engines_where_steps_are_short(point) -> None:
    options = {"masks": 2, "draws": 19, "heavy": 3, "steps": 4, "share": 0.99}
    (told,) = linearised.predicted(asked(point, ratios=(2e-2,), **options))["ratios"]
    assert len(told["draws"]["rate"]) == 19
    for seed, mask in enumerate(told["masks"]):
        run = dataclasses.replace(point, config=point.config.replace(mask_seed=seed))
        begun = bridge.start(asked(run, ratio=2e-2, tol=1e-4, share=0.99))
        assert begun["count"] == mask["count"]
        assert begun["sharpness"] == pytest.approx(mask["sharpness"], rel=1e-3)
        low, high = mask["certified_sharpness"]
        assert low <= begun["sharpness"] <= high
        near, _ = begun["descents"]
        assert near["distance"] == pytest.approx(mask["distance"], rel=0.15)
        rates = bridge.sgd(asked(run, ratio=2e-2, steps=4, share=1e-4))
        assert rates["bound"] == pytest.approx(mask["bound"], rel=1e-3)
        assert abs(math.log2(rates["threshold"] / mask["sgd"])) < 0.26  # a notch is a quarter


def test_the_networks_steps_end_as_grown_at_the_same_error_as_its_linear_models(
    point, monkeypatch
) -> None:
    """With a cap of 1.2 it is an error in between that decides, at a lower rate than the last."""
    run = dataclasses.replace(point, config=point.config.replace(mask_seed=4))
    linear = linearised._linear(point, 4)
    mask = random_mask(point.model, ratio=2e-2, targets=list(point.config.targets), seed=4)
    (kernel,) = masked_grams(linear.features, [linear.indices(mask)])
    told, found = [], []
    for cap in (gram.FAR, 1.2):
        monkeypatch.setattr(gram, "FAR", cap)
        order = seeds.numbered(4, linearised.ORDERS)
        told.append(gram.numbers(linear, with_signs(kernel), {"steps": 8, "share": 0.99}, order))
        found.append(bridge.sgd(asked(run, ratio=2e-2, steps=8, share=1e-4))["threshold"])
    assert found == pytest.approx([one["sgd"] for one in told])
    assert found[1] < found[0]


def with_signs(kernel: np.ndarray) -> np.ndarray:
    """Append a row and a column, of which SGD's rate does not depend."""
    return np.pad(kernel, (0, 1), constant_values=1.0)


def test_a_share_of_the_errors_moves_targets_and_not_what_the_model_is(point) -> None:
    batches = ls.make_batches(point.task.train[:3], point.tokenizer, 1)
    loss = bridge._of_share(point.model, batches, 0.1)
    for batch in batches:
        whole, count = descents.square_loss(point.model, batch)
        part, same = loss(point.model, batch)
        assert part.item() == pytest.approx(0.01 * whole.item(), rel=1e-3)
        assert same == count == 1


def test_the_softmax_rate_is_the_lowest_linear_cross_entropy_of_a_scan(point) -> None:
    linear = linearised._linear(point, 4)
    gaps, labels = gram.scores(linear)
    step = labels * np.array([1.0, 2.0, 0.5, -1.0])
    scales = np.linspace(0.01, 3, 3000)
    losses = np.logaddexp(0, -labels * (gaps + scales[:, None] * step)).sum(1)
    found = gram._softmax_rate(step, gaps, labels)
    assert found == pytest.approx(scales[losses.argmin()], abs=2e-3)


def test_measurements_leave_the_model_without_a_mask_and_as_it_was(point) -> None:
    before = {n: p.clone() for n, p in point.model.state_dict().items()}
    bridge.start(asked(point))
    after = point.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_tasks_of_other_than_two_classes_are_refused(point) -> None:
    examples = [ls.Example("film", (" so", " no", " yes"), i % 3) for i in range(3)]
    three = dataclasses.replace(point.task, train=tuple(examples))
    with pytest.raises(UserError, match="two classes"):
        linearised._linear(dataclasses.replace(point, task=three), 3)
    assert linearise(point.model, ls.make_batches(examples, point.tokenizer, 1)).features.n == 6


def records(shift: float) -> list[dict[str, Any]]:
    """A world in which everything measured is `shift` times the linear model's number."""
    numbers = ("sharpness", "rate", "rate_softmax", "distance", "sgd", "bound")
    shared = {"model": "tiny", "arm": "none"}
    masks = [{"seed": s, **dict.fromkeys(numbers, 1.0), "certified_sharpness": [0.5, 2.0],
              "certified_rate": [0.1, 10.0]} for s in range(8)]  # fmt: skip
    draws = {name: [0.9 + 0.001 * i for i in range(199)] for name in numbers}
    found: list[dict[str, Any]] = [
        {**shared, "predicted_ratios": [
            {"ratio": r, "draws": draws, "masks": masks, "law": {"rate": 1.0}} for r in (1e-2, 1e-3)
        ]}
    ]  # fmt: skip
    for mask in range(8):
        where = {"ratio": 1e-3, "mask": mask}
        found += [
            {**shared, **{f"start_{n}": v for n, v in where.items()}, "start_rate": shift,
             "start_sharpness": shift, "start_descents": [
                {"optimizer": "sgd", "reached": True, "distance": shift},
                {"optimizer": "adamw", "reached": False, "distance": 9.0}]},
            {**shared, **{f"sgd_{n}": v for n, v in where.items()}, "sgd_threshold": shift,
             "sgd_bound": 1.0},
        ]  # fmt: skip
    return found


def test_measurements_inside_hold_those_outside_fail_and_what_never_arrives_is_outside() -> None:
    verdicts = {f.statement: f.verdict for f in bridge_report.check(records(1.0))}
    assert set(verdicts.values()) == {"holds"}
    assert not any("distance, AdamW" in statement for statement in verdicts)
    lines = {line["number"]: line for line in bridge_report.coverage_table(records(1.0))}
    assert lines["distance, AdamW"]["inside, all ratios"].startswith("0 of ")
    found = {f.statement: f.verdict for f in bridge_report.check(records(0.4))}
    assert (
        found["tiny: sharpness lies in its 95 % interval (certified: heavy and light columns)"]
        == "fails"
    )
    wide = "tiny: AdamW's first rate lies in its 95 % interval (certified: Bernstein and Cantelli)"
    assert found[wide] == "holds"


def test_unstable_rates_stand_over_the_bound_of_the_mean_square_beside_the_linear_models() -> None:
    (line,) = bridge_report.bound_table(records(0.4))
    assert (line["network"], line["linear model"]) == ("0.4 (0.4 to 0.4)", "1 (1 to 1)")
    assert line["below the bound"] == "8 and 0 of 8"


def test_the_table_counts_what_lies_inside_ratio_by_ratio() -> None:
    (line, *_) = bridge_report.coverage_table(records(1.0))
    assert line["inside, all ratios"] == "8 of 8"
    assert (line["ratio 0.01"], line["ratio 0.001"]) == ("-", "8/8")


def test_rates_best_after_training_are_those_of_the_published_runs() -> None:
    one = artefacts()["figure4a"]
    rows = {row["address"]: row for row in rows_at(file_of("local"), one, "local")}
    published = {
        (choice.runs[0].model, choice.runs[0].ratio): choice.lr
        for choice in chosen(one.of("local"), rows)
    }
    for model, rates in bridge_figure.TRAINED.items():
        assert rates == {ratio: published[model, ratio] for ratio in rates}


def test_a_measurements_own_time_is_kept_and_told_where_it_was_not(point) -> None:
    (first, *others) = records(1.0)
    others[0]["start_seconds"], others[2]["start_seconds"] = 3.0, 5.0
    lines = {line["measurement"]: line for line in bridge_report.cost_table([first, *others])}
    assert lines["first step and descents"]["made"] == "8"
    assert lines["first step and descents"]["with its time"] == "2"
    assert lines["first step and descents"]["processor seconds"] == "4 (3 to 5)"
    assert lines["SGD's unstable rate"]["processor seconds"] == "-"
    assert 0 < bridge.sgd(asked(point, ratio=2e-2, steps=1))["seconds"] < 60


def test_a_panel_shows_the_models_that_were_measured_each_mask_beside_the_others() -> None:
    silent = {"model": "silent", "predicted_ratios": records(1.0)[0]["predicted_ratios"]}
    panels = {p.title: p for p in bridge_figure.drawn([*records(0.5), silent])}
    figure, axis = plt.subplots()
    panels["SGD's smallest unstable rate"].draw(axis, [], {})
    plt.close(figure)
    (bars,) = axis.collections
    assert len(bars.get_paths()) == 2  # of "tiny" at both ratios; "silent" measured nothing
    (points,) = [line for line in axis.lines if line.get_marker() == "o"]
    xs, ys = (np.asarray(data) for data in points.get_data())
    assert len(set(xs)) == 8
    assert 5e-4 < xs.min() < xs.max() < 2e-3
    assert ys == pytest.approx(0.5 / 0.999)  # of draws from .9 to 1.098


@pytest.mark.parametrize("preset", ["smoke", "local", "paper"])
def test_a_preset_predicts_before_it_measures(preset) -> None:
    names = [name for grid in ARTEFACT.of(preset) for name in grid.measure]
    assert names[0].endswith("PREDICTED")


def test_errors_that_are_no_number_after_the_last_step_have_grown() -> None:
    with np.errstate(invalid="ignore"):  # inf * 0 in the other example's error
        assert gram._grown(np.eye(2), np.ones(2), np.array([0]), np.inf)
