"""The way of training: its length is the sum of its steps, its plane is numpy's."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.curvature import net, regression_data, squares
from samples import short_task
from torch import Tensor, nn

import landscape as ls
from landscape.errors import UserError
from landscape.tensorfile import read_tensors, write_tensors

DATA = regression_data()[:2]


def walk(points: Tensor, *, every: int | None = 1) -> tuple[nn.Module, ls.Trajectory]:
    """A model whose weights take given values, one after the other."""
    model = nn.Linear(points.shape[1], 1, bias=False).double()
    path = ls.Trajectory(every=every)
    with torch.no_grad():
        model.weight.copy_(points[:1])
        path.start(torch.optim.SGD(model.parameters(), lr=1.0))
        for step, point in enumerate(points[1:], start=1):
            model.weight.copy_(point[None])
            path(model, {"step": step})
    return model, path


def random_walk(n: int, k: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, generator=generator, dtype=torch.float64).cumsum(0)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(1, 9), st.integers(0, 10**6), st.integers(1, 4))
def test_the_length_is_the_explicit_sum_of_all_steps_whatever_is_kept(n, k, seed, every) -> None:
    points = random_walk(n, k, seed)
    _, path = walk(points, every=every)
    expected = float(np.linalg.norm(np.diff(points.numpy(), axis=0), axis=1).sum())
    assert path.length == pytest.approx(expected, rel=1e-12)
    assert path.steps == [0, *range(every, n, every)]
    assert walk(points, every=None)[1].steps == [0]
    assert walk(points, every=None)[1].length == path.length
    assert path.length >= float((points[-1] - points[0]).norm()) * (1 - 1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 12), st.integers(3, 9), st.integers(0, 10**6))
def test_principal_directions_are_numpys_singular_vectors_about_the_last_point(n, k, seed) -> None:
    points = random_walk(n, k, seed)
    model, path = walk(points)
    found = path.pca(model, 2)
    M = (points - points[-1]).numpy()
    _, sigma, right = np.linalg.svd(M, full_matrices=False)
    shares = sigma[:2] ** 2 / (sigma**2).sum()
    np.testing.assert_allclose(found.explained, shares, rtol=1e-9)
    if sigma[0] - sigma[1] > 1e-3 * sigma[0] and sigma[1] - sigma[2] > 1e-3 * sigma[0]:
        products = np.abs(found.directions.numpy().T @ right[:2].T)
        np.testing.assert_allclose(products, np.eye(2), atol=1e-6)
    torch.testing.assert_close(found.directions.t() @ found.directions, torch.eye(2).double())
    place = path.coordinates(model, found)
    np.testing.assert_allclose(place, M @ found.directions.numpy(), atol=1e-12)
    assert float(place[0].max()) <= 1e-12  # the start is on the negative side
    assert place[-1].abs().max() == 0  # the model is the origin


def test_a_trajectory_in_a_plane_is_explained_by_two_directions_and_keeps_its_distances() -> None:
    flat = random_walk(9, 2, 0)
    basis, _ = torch.linalg.qr(random_walk(6, 2, 1))
    points = flat @ basis.t()
    model, path = walk(points)
    found = path.pca(model)
    assert float(found.explained.sum()) == pytest.approx(1.0, abs=1e-12)
    place = path.coordinates(model, found)
    torch.testing.assert_close(torch.cdist(place, place), torch.cdist(flat, flat))
    with pytest.raises(UserError, match="between 1 and 2 directions"):
        path.pca(model, 3)


def test_the_loss_in_the_plane_at_a_point_of_the_trajectory_is_its_loss() -> None:
    """Ties path, directions, axes and losses together: the plane passes through the path."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    path, losses = ls.Trajectory(), []
    path.start(optimizer)
    for _ in range(2):  # three points lie in a plane
        total, count = squares(model, DATA)
        losses.append(float(total.detach()) / count)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
        path(model, {})
    found = path.pca(model)
    start = path.coordinates(model, found)[0]
    surface = ls.surface_2d(model, [DATA], found, span=start.abs().tolist(), points=3, loss=squares)
    corner = [0 if c < 0 else 2 for c in start.tolist()]
    assert float(surface.losses[corner[0], corner[1]]) == pytest.approx(losses[0], rel=1e-12)
    assert abs(losses[0] - surface.centre) > 1e-3


def train(probes, schedule=None, folder=None, epochs=2, name="opt"):
    tokenizer = ls.tiny_tokenizer()
    model = ls.tiny_model(name, vocab_size=len(tokenizer))
    if schedule is None:
        ls.attach(model, ls.random_mask(model, count=40, sampling="exact", seed=0))
    run = ls.finetune(
        model, tokenizer, short_task(), lr=1e-2, epochs=epochs, batch_size=4, seed=1, probes=probes,
        schedule=schedule, folder=folder, checkpoint_every=3,
    )  # fmt: skip
    return model, run


def test_recording_leaves_training_bit_identical_and_writes_the_length() -> None:
    class Witness:
        points: list = []  # noqa: RUF012

        def __call__(self, model, record) -> None:
            self.points.append(torch.cat([p.detach() for p in ls.trainable(model).values()]))

    path, witness = ls.Trajectory(every=3), Witness()
    bare, without = train([])
    watched, run = train([path, witness])
    for (key, a), b in zip(bare.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    rows = [{k: v for k, v in row.items() if k != "path_length"} for row in run.history]
    assert rows == without.history
    points = np.stack([np.zeros(40), *(p.double().numpy() for p in witness.points)])
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1).cumsum()
    np.testing.assert_allclose([r["path_length"] for r in run.history], lengths, rtol=1e-6)
    assert path.steps == [0, 3, 6]
    place = path.coordinates(watched, path.pca(watched))
    assert place.shape == (3, 2)


@pytest.mark.parametrize("kind", ["increment", "drop_regrow", "repeat"])
def test_the_path_of_a_moving_mask_is_that_of_the_weights(kind) -> None:
    schedule = ls.Schedule(kind, count=30, score="gradient", **({} if kind == "increment" else
                           {"every": 2}))  # fmt: skip
    seen = []

    def witness(model, record) -> None:
        ls.trainable(model)
        ls.subspace.synchronise(model)
        seen.append(torch.cat([p.detach().reshape(-1).clone() for n, p in model.named_parameters()
                               if "theta_" not in n]))  # fmt: skip

    bare = ls.tiny_model("opt", vocab_size=len(ls.tiny_tokenizer()))
    start = torch.cat([p.detach().reshape(-1) for p in bare.parameters()])
    path = ls.Trajectory()
    model, _ = train([path, witness], schedule)
    points = torch.stack([start, *seen]).double()
    expected = float((points[1:] - points[:-1]).norm(dim=1).sum())
    assert path.length == pytest.approx(expected, rel=1e-5)
    assert path.steps == list(range(9))
    if kind == "drop_regrow":
        with pytest.raises(UserError, match="outside the present mask"):
            path.pca(model)


def test_a_resumed_run_is_recorded_from_where_it_was_resumed(tmp_path) -> None:
    def stop(model, record) -> None:
        if record["step"] == 5:
            raise KeyboardInterrupt

    whole = ls.Trajectory()
    train([whole])
    with pytest.raises(KeyboardInterrupt):
        train([stop], folder=tmp_path)
    path = ls.Trajectory()
    train([path], folder=tmp_path)
    assert path.steps == list(range(path.steps[0], 9))
    assert path.steps[0] == 4  # the evaluation at the end of the first epoch saved it
    assert 0 < path.length < whole.length


@pytest.mark.parametrize("masked", [False, True])
def test_a_trajectory_is_read_as_it_was_written(tmp_path, masked) -> None:
    if masked:
        path = ls.Trajectory(every=2)
        model, _ = train([path], ls.Schedule("increment", count=30, score="gradient"))
    else:
        model, path = walk(random_walk(6, 4, 3))
    again = ls.Trajectory.load(path.save(tmp_path / "t.safetensors"))
    assert (again.length, again.steps) == (path.length, path.steps)
    for name in ("directions", "explained"):
        assert torch.equal(getattr(again.pca(model), name), getattr(path.pca(model), name))


def test_other_files_are_no_trajectories(tmp_path) -> None:
    file = tmp_path / "t.safetensors"
    for content in (None, b"nothing"):
        if content:
            file.write_bytes(content)
        with pytest.raises(UserError, match="expected a trajectory"):
            ls.Trajectory.load(file)
    model = ls.tiny_model("opt")
    ls.attach(model, ls.random_mask(model, density=0.1))
    with pytest.raises(UserError, match="got another file"):
        ls.Trajectory.load(ls.save_delta(model, file))


def renamed(header: dict, tensors: dict) -> None:
    tensors["x/y"] = tensors.pop(min(tensors))


@pytest.mark.parametrize(
    "change",
    [lambda h, t: h.pop("steps"), lambda h, t: h.update(steps=5), lambda h, t: h.update(steps=[]),
     lambda h, t: h.update(steps=[0, 2, 2]), lambda h, t: h.update(steps=[0, 1.5, 2]),
     lambda h, t: h.update(steps=["0", "1", "2"]), lambda h, t: h.update(length=None),
     lambda h, t: h.update(length="long"), lambda h, t: h.update(masked="yes"),
     lambda h, t: t.pop(min(t)), lambda h, t: t.update({"0/w.indices": torch.ones(2)}),
     lambda h, t: t.update({max(t): torch.ones(1, 2)}),
     lambda h, t: t.update({k: v[:1] for k, v in t.items() if k.endswith("indices")}),
     lambda h, t: t.update({k: v.flip(0) for k, v in t.items() if k.endswith("indices")}),
     lambda h, t: t.update({k: v.bool() for k, v in t.items()}), renamed],
)  # fmt: skip
def test_points_of_another_shape_are_refused_in_a_sentence(tmp_path, change) -> None:
    model, path = ls.tiny_model("opt"), ls.Trajectory()
    ls.attach(model, ls.random_mask(model, count=9, targets="*.0.*.q_proj", sampling="exact"))
    optimizer = torch.optim.SGD(list(ls.trainable(model).values()), lr=1.0)
    path.start(optimizer)
    for _ in range(2):
        for theta in ls.trainable(model).values():
            theta.data.add_(1.0)
        path(model, {})
    file = read_tensors(path.save(tmp_path / "t.safetensors"), "a trajectory")
    assert len(ls.Trajectory.load(file.path).steps) == 3
    change(file.header, file.tensors)
    write_tensors(file.path, file.tensors, file.header)
    with pytest.raises(UserError, match="expected the points of a trajectory"):
        ls.Trajectory.load(file.path)


def test_a_trajectory_with_another_number_is_refused(tmp_path) -> None:
    file = tmp_path / "t.safetensors"
    walk(random_walk(4, 3, 0))[1].save(file)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match="its digest differs"):
        ls.Trajectory.load(file)


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda: ls.Trajectory(every=0), "every to be a whole number of at least 1"),
        (lambda: ls.Trajectory().pca(net()), "expected a recorded trajectory"),
        (lambda: walk(random_walk(4, 3, 0))[1].pca(net()), "other trainable tensors"),
        (lambda: walk(torch.zeros(3, 2).double())[1].pca(nn.Linear(2, 1, bias=False).double(), 2),
         "between 1 and"),
        (lambda: _pca(torch.tensor([[0.0, 0.0], [math.nan, 1.0]]).double()), "finite points"),
    ],
)  # fmt: skip
def test_what_has_no_plane_is_refused(do, words) -> None:
    with pytest.raises(UserError, match=words):
        do()


def _pca(points: Tensor) -> None:
    model, path = walk(points)
    path.pca(model, 1)


def test_a_transformers_trainer_is_recorded_and_trains_bit_for_bit_as_without(tmp_path) -> None:
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    tokens = torch.randint(3, 60, (12, 6), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": t, "labels": i % 2} for i, t in enumerate(tokens)]
    path, ends = ls.Trajectory(every=2), []
    for callbacks in ([], [path.as_callback()]):
        model = ls.tiny_model("bert")
        ls.attach(model, ls.random_mask(model, count=30, targets="*.query", sampling="exact"))
        arguments = TrainingArguments(
            tmp_path, max_steps=4, per_device_train_batch_size=4, learning_rate=1e-2, seed=3,
            use_cpu=True, report_to=[], logging_strategy="no", save_strategy="no",
            disable_tqdm=True, optim="adamw_torch", lr_scheduler_type="constant",
        )  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=rows, callbacks=callbacks)
        trainer.train()
        ends.append(torch.cat(list(ls.trainable(model).values())).detach())
    assert torch.equal(*ends)
    assert path.steps == [0, 2, 4]
    lengths = [row["path_length"] for row in trainer.state.log_history if "path_length" in row]
    assert len(lengths) == 4
    assert lengths[-1] == path.length > float(ends[-1].norm())


@pytest.mark.parametrize("dense", [None, "classifier"])
def test_the_first_step_counts_with_our_own_optimizer_on_a_mask_that_stays(dense) -> None:
    def trained(**how: object) -> ls.Trajectory:
        model, path = ls.tiny_model("bert", num_labels=2), ls.Trajectory()
        examples = tuple(ls.TextExample((f"film {i}",), i % 2, ("a", "b")) for i in range(16))
        task = ls.Task("t", examples[:8], examples[8:12], examples[12:])
        if "schedule" not in how:
            ls.attach(model, ls.random_mask(model, count=50, targets="*.query"), dense=dense or ())
        ls.finetune(model, ls.tiny_tokenizer(), task, lr=1e-2, epochs=1, batch_size=4,
                    probes=[path], **how)  # fmt: skip
        return path

    torchs, ours = trained(), trained(optimizer=functools.partial(ls.AdamW))
    assert ours.steps == torchs.steps == [0, 1, 2]
    assert ours.length == pytest.approx(torchs.length, rel=1e-4)
    grown = trained(schedule=ls.Schedule("static", count=50, targets="*.query", dense=dense or ()))
    assert grown.steps == [0, 1, 2]
