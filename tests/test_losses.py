"""What a user may pass as a loss, a split and batches, and what each of them means."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from oracles.curvature import dense, difference_hessian, net, regression_data, squares
from torch import Tensor, nn

import landscape as ls
from landscape.advisor import measure_rates, recommend
from landscape.curvature import peers
from landscape.errors import UserError
from landscape.losses import as_batches, as_loss, as_split

X, Y, LABELS = regression_data()
CLASS_WEIGHTS = torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64)
IGNORING = torch.where(torch.arange(11) % 4 == 0, -100, LABELS)
CLOSE = {"rtol": 1e-6, "atol": 1e-8}


def classifier(outputs: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, outputs)).double()


CRITERIA = {
    "cross-entropy": (nn.CrossEntropyLoss(), LABELS),
    "a function": (F.cross_entropy, LABELS),
    "unreduced": (nn.CrossEntropyLoss(reduction="none"), LABELS),
    "class weights": (nn.CrossEntropyLoss(weight=CLASS_WEIGHTS), LABELS),
    "weights of a function": (partial(F.cross_entropy, weight=CLASS_WEIGHTS), LABELS),
    "ignored labels": (nn.CrossEntropyLoss(), IGNORING),
    "label smoothing": (nn.CrossEntropyLoss(label_smoothing=0.1, weight=CLASS_WEIGHTS), LABELS),
    "class probabilities": (nn.CrossEntropyLoss(), X[:, :3].softmax(1)),
    "squares": (nn.MSELoss(), X[:, :3]),
    "huber": (nn.HuberLoss(), X[:, :3]),
    "logistic": (nn.BCEWithLogitsLoss(pos_weight=CLASS_WEIGHTS), (X[:, :3] > 0).double()),
}


@pytest.mark.parametrize("name", CRITERIA)
def test_the_curvature_of_a_criterion_is_that_of_its_own_mean_over_all_rows(name) -> None:
    """Whole or in unequal batches; the oracle calls the criterion once and takes differences."""
    criterion, target = CRITERIA[name]
    model = classifier()
    mean = criterion if name != "unreduced" else nn.CrossEntropyLoss()
    expected = difference_hessian(list(model.parameters()), lambda: mean(model(X), target))
    value = float(mean(model(X), target).detach())
    for batches in ((X, target), [(X[:3], target[:3]), (X[3:], target[3:])]):
        H = ls.HessianOperator(model, batches, loss=criterion)
        assert H.loss() == pytest.approx(value, rel=1e-12)
        torch.testing.assert_close(dense(H), expected, **CLOSE)
        surface = ls.surface_1d(
            model, batches, torch.ones(H.size), span=1, points=3, loss=criterion
        )
        assert surface.centre == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("name", ["cross-entropy", "ignored labels", "squares"])
def test_gauss_newton_and_fisher_of_a_criterion_are_closed_forms_around_the_jacobian(name) -> None:
    criterion, target = CRITERIA[name]
    model = nn.Linear(4, 3, bias=False).double()
    given = list(model.parameters())
    z = model(X)
    n = int((target != -100).sum()) if name == "ignored labels" else 11
    rows = [torch.autograd.grad(z[i, c], given, retain_graph=True)[0].reshape(-1)
            for i in range(11) for c in range(3)]  # fmt: skip
    J = torch.stack(rows).view(11, 3, -1)
    p = z.detach().softmax(1)
    if name == "squares":
        H_z = torch.eye(3, dtype=torch.float64).expand(11, 3, 3) * 2 / 3
        slopes = 2 * (z.detach() - target) / 3
    else:
        valid = (target != -100).double()[:, None]
        H_z = (torch.diag_embed(p) - p[:, :, None] * p[:, None, :]) * valid[:, :, None]
        slopes = (p - F.one_hot(target.clamp(min=0), 3)) * valid
    G = ls.GGNOperator(model, (X, target), loss=criterion)
    torch.testing.assert_close(dense(G), torch.einsum("nai,nab,nbj->ij", J, H_z, J) / n)
    gradients = torch.einsum("nai,na->ni", J, slopes)
    A = ls.FisherOperator(model, (X, target), split=criterion)
    torch.testing.assert_close(dense(A), gradients.t() @ gradients / n)


def test_a_criterion_of_ones_own_is_a_mean_over_rows() -> None:
    class Own(nn.Module):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return (z[:, 0] - y).pow(4).mean()

    model = net()
    expected = dense(ls.HessianOperator(
        model, (X, Y), loss=lambda m, b: ((m(b[0])[:, 0] - b[1]).pow(4).sum(), len(b[1]))
    ))  # fmt: skip
    for batches in ((X, Y), [(X[:3], Y[:3]), (X[3:], Y[3:])]):
        torch.testing.assert_close(dense(ls.HessianOperator(model, batches, loss=Own())), expected)


def test_a_module_that_takes_the_model_is_a_loss_and_no_criterion() -> None:
    class Own(nn.Module):
        def forward(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
            return squares(model, batch)

    for loss in (Own(), squares):
        assert ls.HessianOperator(net(), (X, Y), loss=loss).loss() == pytest.approx(
            float(squares(net(), (X, Y))[0].detach()) / 11
        )


def test_a_split_is_a_loss_too() -> None:
    def split(model, batch):
        return model(batch[0])[:, 0], lambda z: (0.5 * (z - batch[1]).square(), len(batch[1]))

    H = ls.HessianOperator(net(), [(X, Y)], split=split)
    torch.testing.assert_close(
        dense(H), dense(ls.HessianOperator(net(), [(X, Y)], loss=squares)), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": lambda m, b: F.mse_loss(m(b[0])[:, 0], b[1])}, r"tensor of shape \(\) alone"),
        ({"loss": torch.tensor(1.0)}, "the function, not its value"),
        ({"loss": nn.MSELoss(reduction="sum")}, "criterion that averages"),
        ({"loss": partial(F.mse_loss, reduction="sum")}, "criterion that averages"),
        ({"loss": lambda m, b: (m(b[0]), lambda z: (z, 1))}, "goes to split="),
        ({"loss": lambda m, b: ((m(b[0])[:, 0] - b[1]).square(), 11)}, "one number, got"),
        ({"loss": squares, "split": squares}, "got both"),
        ({"split": squares}, r"goes to the loss= of a HessianOperator"),
        ({"split": 3}, "got int"),
    ],
)
def test_what_is_no_loss_is_refused_with_a_sentence(options, words) -> None:
    with pytest.raises(UserError, match=words):
        ls.HessianOperator(net(), [(X, Y)], **options)


def test_a_loss_that_nobody_has_cut_is_refused_by_gauss_newton_and_fisher() -> None:
    for operator in (ls.GGNOperator, ls.FisherOperator):
        with pytest.raises(UserError, match="split at the model's outputs"):
            operator(net(), [(X, Y)], loss=squares)
        with pytest.raises(UserError, match="got both"):
            operator(net(), [(X, Y)], loss=nn.MSELoss(), split=squares)
    with pytest.raises(UserError, match="class weights"):
        ls.FisherOperator(classifier(), (X, LABELS), loss=CRITERIA["class weights"][0])


def test_batches_that_are_no_pairs_are_refused_for_a_criterion() -> None:
    for batches in ([X, Y], [{"x": X}], [(X, Y, Y)]):
        with pytest.raises(UserError, match=r"expected batches \(inputs, targets\)"):
            ls.HessianOperator(net(), batches, loss=nn.MSELoss())


def test_one_batch_may_come_without_a_list() -> None:
    assert [len(as_batches(b)) for b in ({"x": X}, X, (X, Y), ((X, X), Y), ({"x": X}, Y))] == [
        1
    ] * 5
    assert [len(as_batches(b)) for b in ([X, X], [(X, Y)], ({"x": X}, {"x": Y}), iter([X]))] == [
        2, 1, 2, 1,
    ]  # fmt: skip
    for bad in (3, "batches", None):
        with pytest.raises(UserError, match="list of batches"):
            as_batches(bad)
    for operate in (
        lambda b: ls.HessianOperator(net(), b, loss=squares).loss(),
        lambda b: ls.surface_1d(net(), b, torch.ones(37), span=1, points=3, loss=squares).centre,
    ):
        assert operate((X, Y)) == operate([(X, Y)])


def test_every_function_has_the_same_default_loss() -> None:
    """A dict with labels was a raw KeyError for surfaces, lines and peers."""
    batch = {
        "input_ids": torch.randint(3, 60, (2, 5), generator=torch.Generator().manual_seed(0)),
        "labels": torch.tensor([0, 1]),
    }
    model = ls.tiny_model("bert").double()
    expected = float(model(**batch).loss.detach())
    ls.attach(model, ls.random_mask(model, density=0.2, targets="*.query"))
    k = sum(p.numel() for p in ls.trainable(model).values())
    start = ls.delta(model)
    with torch.no_grad():
        next(iter(ls.trainable(model).values())).add_(0.1)
    moved = ls.delta(model)
    with torch.no_grad():
        next(iter(ls.trainable(model).values())).zero_()
    found = [
        ls.HessianOperator(model, batch).loss(),
        ls.GGNOperator(model, batch).loss(),
        ls.FisherOperator(model, batch).loss(),
        ls.surface_1d(model, batch, torch.ones(k), span=0.1, points=3).centre,
        ls.interpolate(model, batch, start, moved, points=2).centre,
        float(peers._MeanLoss(model, batch, None)(torch.zeros(1, dtype=torch.long)).detach()),
        ls.SharpnessProbe(batch)._operator(model).loss(),
    ]
    assert found == pytest.approx([expected] * len(found), rel=1e-6)
    ls.detach(model)
    mask = ls.select_mask(model, score="gradient", batches=batch, count=5, targets="*.query.weight")
    gradients = dict(zip(
        (names := [n for n, _ in model.named_parameters() if n.endswith("query.weight")]),
        torch.autograd.grad(model(**batch).loss, [model.get_parameter(n) for n in names]),
        strict=True,
    ))  # fmt: skip
    for name, chosen in mask.indices.items():
        best = gradients[name].abs().flatten().topk(len(chosen)).indices
        assert chosen.tolist() == sorted(best.tolist())


def test_rates_of_a_module_of_ones_own_are_measured_with_a_criterion() -> None:
    model = classifier()
    parts = [[(X[i : i + 3], LABELS[i : i + 3])] for i in (0, 3, 6)]
    by_criterion = measure_rates(model, parts, loss=nn.CrossEntropyLoss())
    by_split = measure_rates(model, parts, split=as_split(nn.CrossEntropyLoss()))
    assert by_criterion == by_split
    assert recommend(by_criterion).good > 0
    sgd = recommend(measure_rates(model, parts, optimizer="sgd", loss=nn.CrossEntropyLoss()))
    top = difference_hessian(
        list(model.parameters()), lambda: F.cross_entropy(model(X[:9]), LABELS[:9])
    )
    assert 2 / sgd.reference == pytest.approx(float(torch.linalg.eigvalsh(top)[-1]), rel=1e-2)
    with pytest.raises(UserError, match="module and batches of your own"):
        ls.suggest_lr(model, None, None)


def test_a_given_loss_stays_what_it_says_of_itself() -> None:
    assert as_loss(squares) is squares
    assert not as_loss().in_batch
    split = as_split(nn.MSELoss())
    split.in_batch = False
    assert as_loss(split=split).in_batch is False
