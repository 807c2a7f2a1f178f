"""Hessian, Gauss-Newton and Fisher on CLIP and BERT, and nested masks, against dense float64."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.curvature import (
    contrastive,
    plain_jacobian,
    principal_rows,
    small_model,
    tiny_clip,
)
from oracles.subspace import dense_hessian
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import landscape as ls
from landscape.tasks.batches import make_batches

CLIP_TARGETS = ["text_model*q_proj.weight", "vision_model*v_proj.weight", "text_projection.weight"]


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.detach() - b.detach()).norm() / b.detach().norm())


def clip_case(density: float):
    model, batch = tiny_clip()
    mask = ls.random_mask(model, density=density, targets=CLIP_TARGETS, seed=1)
    return model, batch, mask


def test_the_hessian_of_clips_contrastive_loss_is_the_dense_double_backward() -> None:
    """Rows by double backward of the plain model, no torch.func: one batch in one piece."""
    model, batch, mask = clip_case(0.2)
    plain = dict(model.named_parameters())
    with sdpa_kernel(SDPBackend.MATH):
        full = dense_hessian(
            model(**batch, return_loss=True).loss, [plain[n] for n in mask.shapes]
        ).detach()
    rows = principal_rows(mask)
    ls.attach(model, mask)
    H = ls.HessianOperator(model, batch, loss=contrastive)
    assert relative(ls.exact_matrix(H, block=4), full[rows][:, rows]) < 1e-9
    assert ls.health_check(H).second_mode == "forward-over-reverse"
    top = float(torch.linalg.eigvalsh(full[rows][:, rows])[-1])
    assert float(ls.lanczos(H, tol=1e-6).eigenvalues[0]) == pytest.approx(top, rel=1e-9)


def test_gauss_newton_and_fisher_of_clip_are_closed_forms_around_its_jacobian() -> None:
    """z = logits (n, n); the loss of pair i is half a cross-entropy along row i and column i."""
    model, batch, mask = clip_case(0.2)
    n = len(batch["input_ids"])
    rows, pairs = principal_rows(mask), torch.arange(n)

    def outputs(call) -> Tensor:
        return call(**batch).logits_per_text

    J = plain_jacobian(model, list(mask.shapes), outputs)[..., rows]
    z = model(**batch).logits_per_text.detach()
    p, q = z.softmax(1), z.softmax(0)
    curvature = torch.zeros(n, n, n, n, dtype=z.dtype)
    slopes = torch.zeros(n, n, n, dtype=z.dtype)
    for i in range(n):
        curvature[i, :, i, :] += (torch.diag(p[i]) - torch.outer(p[i], p[i])) / 2
        curvature[:, i, :, i] += (torch.diag(q[:, i]) - torch.outer(q[:, i], q[:, i])) / 2
        slopes[i, i, :] += (p[i] - F.one_hot(pairs[i], n)) / 2
        slopes[i, :, i] += (q[:, i] - F.one_hot(pairs[i], n)) / 2
    G = torch.einsum("abk,abcd,cdl->kl", J, curvature, J) / n
    g = torch.einsum("iab,abk->ik", slopes, J)
    ls.attach(model, mask)

    def split(m, b):
        def terms(s: Tensor) -> tuple[Tensor, int]:
            both = (F.cross_entropy(t, pairs, reduction="none") for t in (s, s.t()))
            return sum(both) / 2, n

        return m(**b).logits_per_text, terms

    for operator, expected in ((ls.GGNOperator, G), (ls.FisherOperator, g.t() @ g / n)):
        A = operator(model, batch, split=split)
        assert relative(ls.exact_matrix(A), expected) < 1e-9
        assert A.loss() == pytest.approx(float(contrastive(model, batch)[0].detach()) / n, rel=1e-9)
        assert ls.health_check(A).second_mode == "forward-over-reverse"


def test_gauss_newton_and_fisher_of_bert_are_closed_forms_around_its_jacobian() -> None:
    model = small_model("bert")
    tokens = torch.randint(3, 60, (5, 6), generator=torch.Generator().manual_seed(1))
    batch = {"input_ids": tokens, "labels": torch.tensor([0, 1, 1, 0, 1])}
    mask = ls.random_mask(model, density=0.3, targets="*.attention.self.*", seed=2)
    rows = principal_rows(mask)
    J = plain_jacobian(model, list(mask.shapes), lambda call: call(input_ids=tokens).logits)
    p = model(input_ids=tokens).logits.detach().softmax(-1)
    J, slopes = J[..., rows], p - F.one_hot(batch["labels"], 2)
    G = sum(j.t() @ (torch.diag(q) - torch.outer(q, q)) @ j for j, q in zip(J, p)) / len(p)
    g = torch.einsum("ic,ick->ik", slopes, J)
    ls.attach(model, mask)
    for operator, expected in ((ls.GGNOperator, G), (ls.FisherOperator, g.t() @ g / len(g))):
        assert relative(ls.exact_matrix(operator(model, batch)), expected) < 1e-9


# --- nested masks -----------------------------------------------------------------------------


@functools.cache
def whole(name: str):
    """A tiny model, the mask of a query and a value matrix whole, a batch, and its spectrum.

    OPT in float64 up to the last bit; Llama's RMSNorm works in float32.
    """
    model = small_model(name, scale=4.0)
    targets = ["*layers.0*q_proj.weight", "*layers.1*v_proj.weight"]
    mask = ls.random_mask(model, density=1.0, targets=targets)
    examples = [
        ls.Example(prompt=t, candidates=(" terrible", " great"), label=i % 2)
        for i, t in enumerate(["a", "a film about war", "no"])
    ]
    batches = make_batches(examples, ls.tiny_tokenizer(), 2)
    ls.attach(model, mask)
    matrix = ls.exact_matrix(ls.HessianOperator(model, batches), block=16)
    ls.detach(model)
    return model, mask, batches, torch.linalg.eigvalsh((matrix + matrix.t()) / 2).flip(0)


def spectrum_of(name: str, chosen: list[int]) -> Tensor:
    """The spectrum inside the mask of some of the whole mask's numbers, the largest first."""
    model, everything, batches, _ = whole(name)
    wanted, start, indices = torch.tensor(sorted(chosen)), 0, {}
    for tensor, all_of_it in everything.indices.items():
        inside = wanted[(wanted >= start) & (wanted < start + len(all_of_it))] - start
        indices[tensor] = all_of_it[inside]
        start += len(all_of_it)
    ls.attach(model, dataclasses.replace(everything, indices=indices))
    try:
        return ls.exact_spectrum(ls.HessianOperator(model, batches)).eigenvalues
    finally:
        ls.detach(model)


@pytest.mark.parametrize("name", ["opt", "llama"])
@settings(max_examples=8, deadline=None)
@given(numbers=st.lists(st.integers(0, 95), min_size=2, max_size=9, unique=True), data=st.data())
def test_spectra_of_nested_masks_interlace_and_grow(name, numbers, data) -> None:
    """With m of n rows lambda_(i+n-m)(A) <= lambda_i(B) <= lambda_i(A) (Cauchy)."""
    part = numbers[: data.draw(st.integers(1, len(numbers) - 1))]
    small, large, all_of_it = spectrum_of(name, part), spectrum_of(name, numbers), whole(name)[3]
    rounding = (2e-5 if name == "llama" else 1e-11) * float(all_of_it.abs().max())
    for inner, outer in ((small, large), (large, all_of_it), (small, all_of_it)):
        m, n = len(inner), len(outer)
        assert (inner <= outer[:m] + rounding).all()
        assert (inner >= outer[n - m :] - rounding).all()
