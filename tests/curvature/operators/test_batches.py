"""What is averaged: dict batches, unequal batches, micro-batches, losses that couple rows."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from oracles.curvature import (
    contrastive,
    dense,
    difference_hessian,
    net,
    regression_data,
    small_model,
    squares,
    tiny_clip,
)
from torch import Tensor, nn
from transformers import BatchEncoding

import landscape as ls
from landscape.errors import UserError

OPERATORS = [ls.HessianOperator, ls.GGNOperator, ls.FisherOperator]


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def labelled(name: str) -> tuple[nn.Module, list[dict]]:
    """A model and two dict batches of it with unequal numbers of rows and of labels."""
    generator = torch.Generator().manual_seed(0)
    model = small_model(name)
    targets = {"gpt2": "*.c_attn", "bert": "*.query", "vit": "*attention*weight"}
    ls.attach(model, ls.random_mask(model, density=0.2, targets=targets.get(name, "*.q_proj")))
    if name == "vit":
        pixels = torch.randn(5, 3, 16, 16, generator=generator, dtype=torch.float64)
        labels = torch.tensor([0, 1, 2, 1, 0])
        whole = {"pixel_values": pixels, "labels": labels}
    else:
        tokens = torch.randint(3, 60, (5, 7), generator=generator)
        kept = torch.ones_like(tokens)
        for row, length in enumerate((7, 3, 5, 6, 4)):
            kept[row, length:] = 0
        labels = torch.where(kept > 0, tokens, -100)
        if name == "bert":
            labels = torch.tensor([0, 1, 1, 0, 1])
        whole = {"input_ids": tokens, "attention_mask": kept, "labels": labels}
    return model, [{k: v[:2] for k, v in whole.items()}, {k: v[2:] for k, v in whole.items()}]


@pytest.mark.parametrize("name", ["opt", "llama", "gpt2", "bert", "vit"])
def test_a_dict_batch_with_labels_has_the_loss_that_the_model_computes(name) -> None:
    model, batches = labelled(name)
    for batch in batches:
        H = ls.HessianOperator(model, batch)
        loss = model(**batch).loss
        assert H.loss() == pytest.approx(float(loss.detach()), rel=1e-6)
        gradient = torch.autograd.grad(loss, list(ls.trainable(model).values()))
        expected = torch.cat([g.reshape(-1) for g in gradient])
        for operator in OPERATORS:
            assert relative(operator(model, batch).gradient(), expected) < 1e-5
        assert ls.HessianOperator(model, BatchEncoding(batch)).loss() == H.loss()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", ["llama", "bert"])
def test_unequal_dict_batches_and_micro_batches_are_weighed_by_their_labels(name, operator) -> None:
    model, batches = labelled(name)
    whole = {k: torch.cat([b[k] for b in batches]) for k in batches[0]}
    A = operator(model, whole)
    v = torch.randn(A.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = A @ v
    tolerance = 1e-5 if name == "llama" else 1e-10  # RMSNorm in float32
    for parts in (batches, ls.micro_batches(whole, 1), ls.micro_batches(whole, 2)):
        B = operator(model, parts)
        assert relative(B @ v, expected) < tolerance
        assert B.description["loss_terms"] == A.description["loss_terms"]
    equal = sum((operator(model, b) @ v for b in batches), torch.zeros(())) / len(batches)
    assert relative(equal, expected) > 1e-3  # equal weights a batch are another average


def test_micro_batches_hold_every_row_once_in_order() -> None:
    x, y, _ = regression_data()
    assert [len(p[0]) for p in ls.micro_batches((x, y), 4)] == [4, 4, 3]
    for again in (
        torch.cat([p[0] for p in ls.micro_batches((x, y), 4)]),
        torch.cat(ls.micro_batches(x, 2)),
        torch.cat([p["x"] for p in ls.micro_batches({"x": x, "return_loss": True}, 5)]),
    ):
        assert torch.equal(again, x)
    assert all(p["deep"] for p in ls.micro_batches({"x": x, "deep": True}, 5))
    with pytest.raises(UserError, match="rows to be a whole number of at least 1"):
        ls.micro_batches(x, 0)


@dataclasses.dataclass
class Record:
    x: Tensor
    name: str


def test_micro_batches_cut_any_tree_of_tensors() -> None:
    """A nested dict went whole into every piece: 72.67 instead of 3.767, "healthy"."""
    x, y, _ = regression_data(20)
    nested = [
        (({"x": x}, y[:, None]), lambda b: (b[0]["x"], b[1])),
        (((x, x), y), lambda b: (b[0][1], b[1])),
        ({"a": [{"x": x}, y], "rows": 3, "names": [str(i) for i in range(20)]},
         lambda b: (b["a"][0]["x"], b["a"][1])),
        ((Record(x, "r"), y), lambda b: (b[0].x, b[1])),
        ((x.numpy(), y), lambda b: (torch.as_tensor(b[0]), b[1])),
        (collections.UserDict(x=x, y=y), lambda b: (b["x"], b["y"])),
    ]  # fmt: skip
    whole = dense(ls.HessianOperator(net(), (x, y), loss=squares))
    for batch, parts_of in nested:
        pieces = ls.micro_batches(batch, 6)
        assert [len(parts_of(piece)[1]) for piece in pieces] == [6, 6, 6, 2]
        assert torch.equal(torch.cat([parts_of(piece)[0] for piece in pieces]), x)

        def loss(m, b, parts_of=parts_of):
            data, target = parts_of(b)
            return squares(m, (data, target.reshape(-1)))

        H = ls.HessianOperator(net(), pieces, loss=loss)
        torch.testing.assert_close(dense(H), whole, rtol=1e-10, atol=1e-12)
    assert [p["names"] for p in ls.micro_batches(nested[2][0], 19)] == [
        [str(i) for i in range(19)], ["19"],
    ]  # fmt: skip


def test_what_may_hold_rows_in_a_way_that_is_not_known_is_refused_by_name() -> None:
    x, y, _ = regression_data()

    class Graph:
        def __init__(self) -> None:
            self.x = x

    with pytest.raises(UserError, match=r"got Graph at batch\[0\]"):
        ls.micro_batches((Graph(), y), 2)
    with pytest.raises(UserError, match=r"batch\['a'\]\['x'\]: 11, batch\['y'\]: 3"):
        ls.micro_batches({"a": {"x": x}, "y": y[:3]}, 2)
    with pytest.raises(UserError, match="rows to be a whole number of at least 1"):
        ls.micro_batches(x, 0)
    for other in ((x, y[:3]), {"x": x, "scale": torch.tensor(1.0)}, None):
        with pytest.raises(UserError, match="same first dimension"):
            ls.micro_batches(other, 2)


def mean_of_rows(model, rows) -> tuple[Tensor, int]:
    """In-batch negatives without a model of transformers."""
    z = F.normalize(model(rows), dim=1)
    return F.cross_entropy(z @ z.t() / 0.3, torch.arange(len(rows)), reduction="sum"), len(rows)


def test_a_loss_with_in_batch_negatives_is_refused_over_several_batches() -> None:
    model, batch = tiny_clip()
    ls.attach(model, ls.random_mask(model, density=0.2, targets="*.q_proj"))
    whole = ls.HessianOperator(model, batch, loss=contrastive)  # one batch is the loss itself
    assert whole.loss() == pytest.approx(
        float(model(**batch, return_loss=True).loss.detach()), rel=1e-10
    )
    with pytest.raises(UserError, match="in-batch negatives"):
        ls.HessianOperator(model, ls.micro_batches(batch, 2), loss=contrastive)
    x, _, _ = regression_data(8)
    encoder = nn.Linear(4, 3, bias=False).double()
    with pytest.raises(UserError, match="pass a single batch"):
        ls.HessianOperator(encoder, [x[:4], x[4:]], loss=mean_of_rows)
    for operator in (ls.GGNOperator, ls.FisherOperator):

        def split(m, rows):
            z = F.normalize(m(rows), dim=1)
            labels = torch.arange(len(rows))
            return z @ z.t() / 0.3, lambda s: (
                F.cross_entropy(s, labels, reduction="none"), len(rows)
            )  # fmt: skip

        operator(encoder, [x], split=split)
        with pytest.raises(UserError, match="in-batch negatives"):
            operator(encoder, [x[:4], x[4:]], split=split)


def test_a_loss_may_say_itself_whether_it_couples_rows() -> None:
    x, y, _ = regression_data()
    batches = [(x[:5], y[:5]), (x[5:], y[5:])]

    def says(value: bool):
        def loss(model, batch):
            return squares(model, batch)

        loss.in_batch = value
        return loss

    with pytest.raises(UserError, match="in-batch negatives"):
        ls.HessianOperator(net(), batches, loss=says(True))
    ls.HessianOperator(net(), batches[:1], loss=says(True))
    mean_of_rows.in_batch = False  # believed
    try:
        ls.HessianOperator(nn.Linear(4, 3).double(), [x[:4], x[4:]], loss=mean_of_rows)
    finally:
        del mean_of_rows.in_batch


def test_a_mean_over_unequal_terms_is_refused_where_it_would_weigh_batches_equally() -> None:
    """66.2 became 129.5 in another tool."""
    x, y, _ = regression_data()
    batches = [(x[:5], y[:5]), (x[5:], y[5:])]

    def mean(model, batch):
        return squares(model, batch)[0] / len(batch[1]), 1

    with pytest.raises(UserError, match="averages them"):
        ls.HessianOperator(net(), batches, loss=mean)
    ls.HessianOperator(net(), batches, loss=squares)


def mean_beside_rows(model, batch) -> tuple[Tensor, int]:
    return squares(model, batch)[0] / len(batch[1]), len(batch[1])


def test_a_mean_beside_the_number_of_rows_is_refused_on_a_single_batch_too() -> None:
    """The commonest mistake: 0.0172 instead of 0.6866, unchecked."""
    x, y, _ = regression_data()

    def split(model, batch):
        def terms(z):
            return (z - batch[1]).square().mean(), len(batch[1])

        return model(batch[0])[:, 0], terms

    for batches in ((x, y), [(x[:5], y[:5]), (x[5:], y[5:])], {"x": x, "y": y}):
        whole = batches if not isinstance(batches, dict) else None

        def loss(m, b):
            return mean_beside_rows(m, (b["x"], b["y"]) if isinstance(b, dict) else b)

        with pytest.raises(UserError, match="got a mean beside"):
            ls.HessianOperator(net(), batches, loss=loss)
        with pytest.raises(UserError, match="got a mean beside"):
            ls.surface_1d(net(), batches, torch.ones(37), span=1, points=3, loss=loss)
        if whole is not None:
            with pytest.raises(UserError, match="got a mean beside"):
                ls.GGNOperator(net(), whole, split=split)
    tokens = torch.randint(3, 60, (3, 5), generator=torch.Generator().manual_seed(0))

    def language(m, t):
        logits = m(input_ids=t).logits[:, :-1].flatten(0, 1)
        return F.cross_entropy(logits, t[:, 1:].flatten()), t[:, 1:].numel()

    with pytest.raises(UserError, match="got a mean beside 12 terms"):
        ls.HessianOperator(small_model("opt"), tokens, loss=language)


def test_a_mean_of_each_batch_is_refused_where_the_last_batch_is_smaller() -> None:
    """.687 against .722; batches of one size have the same weight either way."""
    x, y, _ = regression_data(12)

    def mean(model, batch):
        return squares(model, batch)[0] / len(batch[1]), 1

    with pytest.raises(UserError, match=r"batches of \[4, 8\] rows would weigh the same"):
        ls.HessianOperator(net(), [(x[:8], y[:8]), (x[8:], y[8:])], loss=mean)
    H = ls.HessianOperator(net(), [(x[:6], y[:6]), (x[6:], y[6:])], loss=mean)
    G = ls.HessianOperator(net(), (x, y), loss=mean)
    expected = dense(ls.HessianOperator(net(), (x, y), loss=squares))
    torch.testing.assert_close(dense(H), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(dense(G), expected, rtol=1e-10, atol=1e-12)


def test_a_fisher_matrix_of_terms_that_are_one_sum_is_refused() -> None:
    """3.27 instead of .81."""
    x, y, _ = regression_data()
    with pytest.raises(UserError, match="1 for 11 terms"):
        ls.FisherOperator(net(), (x, y), split=lambda m, b: (m(b[0])[:, 0], lambda z: (
            (z - b[1]).square().sum(), len(b[1]))))  # fmt: skip


def with_slopes(model, batch) -> tuple[Tensor, int]:
    """A physics-informed loss: the output's slope along the inputs is part of it."""
    (x, extra), y = batch
    x = x.detach().requires_grad_()
    u = model(x)[:, 0]
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return ((u - y).square() + 0.3 * slope.square().sum(1) * extra).sum(), len(y)


def test_losses_that_differentiate_inside_are_measured_over_nested_batches() -> None:
    """Both raised torch's own errors, also for surfaces, which evaluate without a graph."""
    x, y, _ = regression_data()
    extra = x[:, 0].square()
    batches = [((x[:4], extra[:4]), y[:4]), ((x[4:], extra[4:]), y[4:])]
    model = net()
    H = ls.HessianOperator(model, batches, loss=with_slopes)
    expected = difference_hessian(
        list(model.parameters()), lambda: with_slopes(model, ((x, extra), y))[0] / 11
    )
    torch.testing.assert_close(dense(H), expected, rtol=1e-6, atol=1e-8)
    surface = ls.surface_1d(
        model, batches, torch.ones(37), span=1e-2, points=3, loss=with_slopes, predict=True
    )
    assert surface.centre == pytest.approx(H.loss(), rel=1e-12)
    torch.testing.assert_close(surface.losses, surface.prediction, rtol=1e-5, atol=0)


def test_a_loss_that_takes_no_other_rows_is_measured_unchecked() -> None:
    x, y, _ = regression_data()
    H = ls.HessianOperator(
        net(), [x], loss=lambda m, x: (0.5 * (m(x)[:, 0] - y).square().sum(), 11)
    )
    assert H.loss() == pytest.approx(float(squares(net(), (x, y))[0].detach()) / 11)


def test_a_loss_of_rows_in_half_precision_is_not_taken_for_one_that_couples_them() -> None:
    model = small_model("llama", torch.bfloat16)
    ls.attach(model, ls.random_mask(model, density=0.2))
    tokens = torch.randint(3, 60, (6, 7), generator=torch.Generator().manual_seed(0))

    def loss(m, t):
        z = m(input_ids=t).logits[:, :-1].float()
        return F.cross_entropy(z.flatten(0, 1), t[:, 1:].flatten(), reduction="sum"), t[
            :, 1:
        ].numel()

    ls.HessianOperator(model, [tokens[:4], tokens[4:]], loss=loss)


@pytest.mark.parametrize("operator", OPERATORS)
def test_dict_batches_that_have_no_loss_are_refused_with_a_sentence(operator) -> None:
    model, (batch, _) = labelled("bert")
    with pytest.raises(UserError, match="at least one loss term"):
        operator(model, {**batch, "labels": torch.full((2,), -100)})
    with pytest.raises(UserError, match="pass loss= "):
        operator(model, {k: v for k, v in batch.items() if k != "labels"})
    with pytest.raises(UserError, match="pass loss= "):
        operator(model, [torch.ones(2)])
    several: Any = {"num_labels": 3, "problem_type": "multi_label_classification"}
    with pytest.raises(UserError, match="mean cross-entropy of its labels"):
        operator(
            ls.tiny_model("bert", **several).double(),
            {**batch, "labels": torch.ones(2, 3, dtype=torch.float64)},
        )


@pytest.mark.parametrize("operator", OPERATORS)
def test_bad_input_is_refused_with_one_sentence_by_every_operator(operator) -> None:
    model, (batch, _) = labelled("bert")
    with pytest.raises(UserError, match="attach a mask"):
        operator(small_model("bert").requires_grad_(False), batch)
    with pytest.raises(UserError, match="k between 1 and the operator's size"):
        ls.lanczos(operator(model, batch), k=10_000)
    with torch.no_grad():
        next(iter(ls.trainable(model).values())).fill_(float("nan"))
    with pytest.raises(UserError, match="finite loss, got nan"):
        operator(model, batch)


def test_lora_of_peft_is_measured_as_any_model_is() -> None:
    """The dense Hessian by double backward over the adapters' own tensors."""
    peft = pytest.importorskip("peft")
    from oracles.subspace import dense_hessian

    base, (batch, _) = labelled("bert")
    ls.detach(base)
    config = peft.LoraConfig(r=1, target_modules=["query"], lora_alpha=2, lora_dropout=0.0)
    model = peft.get_peft_model(base, config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # B = 0 has no curvature in A
        for p in ls.trainable(model).values():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    H = ls.HessianOperator(model, batch)
    parameters = list(ls.trainable(model).values())
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = dense_hessian(model(**batch).loss, parameters)
    assert relative(ls.exact_matrix(H), expected) < 1e-9
    assert ls.health_check(H).second_mode == "forward-over-reverse"
