"""Other libraries beside ours: as oracles, and each of their defects as a property of ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles.curvature import dense, net, squares, with_spectrum
from torch import Tensor, nn

import landscape as ls
from landscape.curvature import peers
from landscape.errors import UserError
from landscape.tasks.batches import make_batches

LIBRARIES = ["pyhessian", "curvlinops", "hessian_eigenthings"]


def examples() -> list[ls.Example]:
    """Twelve of unequal length and of several tokens, which makes unequal weights of batches."""
    return [
        ls.Example(f"film {i % 5} is {'very ' * (i % 4)}", (" no", " yes" + "!" * (i % 3)), i % 2)
        for i in range(12)
    ]


def masked(name: str = "opt", count: int = 40) -> nn.Module:
    """A tiny masked model away from its start, so that theta is not zero."""
    model = ls.tiny_model(name, vocab_size=len(ls.tiny_tokenizer()))
    ls.attach(model, ls.random_mask(model, count=count, sampling="exact", seed=0))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.normal_(0, 0.1, generator=generator)
    return model


def product(library: str, model: nn.Module, batches: list, v: Tensor, loss=None) -> Tensor:
    """The product of a wrapped library with a flat vector, flat."""
    if library == "curvlinops":
        return peers.curvlinops(model, batches, loss=loss) @ v
    if library == "hessian_eigenthings":
        return peers.eigenthings(model, batches, loss=loss).matvec(v)
    found = peers.pyhessian(model, batches, loss=loss)
    pieces = v.split([p.numel() for p in found.params])
    shaped = [x.view(p.shape) for x, p in zip(pieces, found.params, strict=True)]
    if found.full_dataset:
        _, result = found.dataloader_hv_product(shaped)
    else:
        result = torch.autograd.grad(found.gradsH, found.params, shaped, retain_graph=True)
    return torch.cat([piece.reshape(-1) for piece in result])


@pytest.mark.parametrize("loss", ["classification", "language modelling"])
@pytest.mark.parametrize("size", [5, 12])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_masked_language_model_has_the_same_products_everywhere(library, size, loss) -> None:
    pytest.importorskip(library)
    model = masked()
    model.train()
    batches = make_batches(examples(), ls.tiny_tokenizer(), size, loss=loss)
    H = ls.HessianOperator(model, batches)
    v = torch.randn(H.size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(product(library, model, batches, v), H @ v, rtol=1e-3, atol=1e-6)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_lora_model_has_the_same_products_everywhere(library) -> None:
    pytest.importorskip(library)
    peft = pytest.importorskip("peft")
    base = ls.tiny_model("opt", vocab_size=len(ls.tiny_tokenizer()))
    torch.manual_seed(0)
    config = peft.LoraConfig(r=1, target_modules=["q_proj"], init_lora_weights=False)
    model = peft.get_peft_model(base, config)
    batches = make_batches(examples(), ls.tiny_tokenizer(), 7)
    H = ls.HessianOperator(model, batches)
    v = torch.randn(H.size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(product(library, model, batches, v), H @ v, rtol=1e-3, atol=1e-6)


class Quadratic(nn.Module):
    """L = 1/2 w'Aw, whose Hessian is A."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(len(matrix), dtype=matrix.dtype))
        self.register_buffer("matrix", matrix)

    def forward(self) -> Tensor:
        return 0.5 * self.w @ self.matrix @ self.w


def value(model: nn.Module, batch: object) -> tuple[Tensor, int]:
    return model(), 1


def test_eigenvalue_trace_and_density_of_pyhessian_are_ours() -> None:
    pytest.importorskip("pyhessian")
    matrix = with_spectrum([*torch.linspace(-1, 2, 29).tolist(), 5.0])
    model = Quadratic(matrix)
    H = ls.HessianOperator(model, [None], loss=value)
    torch.manual_seed(0)
    theirs = peers.pyhessian(model, [None], loss=value)
    values, _ = theirs.eigenvalues(maxIter=200, tol=1e-9)
    assert values[0] == pytest.approx(float(ls.lanczos(H).eigenvalues[0]), rel=1e-5)
    assert values[0] == pytest.approx(5.0, rel=1e-5)
    exact = float(matrix.diagonal().sum())
    samples = np.array(theirs.trace(maxIter=200, tol=0.0))
    error = float(samples.std() / len(samples) ** 0.5)
    assert samples.mean() == pytest.approx(exact, abs=5 * error)
    assert ls.trace(H).value == pytest.approx(exact, abs=1e-9)
    nodes, weights = (np.array(rows) for rows in theirs.density(iter=12, n_v=20))
    ours = ls.spectral_density(H, num_vectors=20, steps=12)
    assert weights.sum(1) == pytest.approx(np.ones(20), abs=1e-4)
    assert nodes.max() == pytest.approx(5.0, rel=1e-4)
    assert float(ours.nodes.max()) == pytest.approx(5.0, rel=1e-9)
    for power in (1, 2):
        means = (weights * nodes**power).sum(1)
        expected, error = ours.moment(power)
        spread = (means.std() ** 2 / len(means) + error**2) ** 0.5
        assert means.mean() == pytest.approx(expected, abs=float(5 * spread)), power


def test_ours_is_right_where_pyhessian_stops_too_early() -> None:
    pytest.importorskip("pyhessian")
    model = Quadratic(with_spectrum([1.0, *torch.linspace(0.5, 0.99, 40).tolist()]))
    torch.manual_seed(0)
    theirs = peers.pyhessian(model, [None], loss=value).eigenvalues(tol=1e-3)[0][0]
    assert theirs < 1 - 3e-3  # its tolerance was 1e-3
    ours = ls.lanczos(ls.HessianOperator(model, [None], loss=value), tol=1e-3)
    assert ours.converged
    assert float(ours.eigenvalues[0]) == pytest.approx(1.0, abs=1e-5)


def test_pyhessian_works_on_unused_parameters_and_has_a_density_when_wrapped() -> None:
    library = pytest.importorskip("pyhessian")

    class Idle(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 1, bias=False)
            self.idle = nn.Parameter(torch.ones(2))

    model, x = Idle(), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))

    def loss(model, batch) -> tuple[Tensor, int]:
        return 0.5 * model(batch).square().sum(), len(batch)

    with pytest.raises((AssertionError, RuntimeError)):
        library.hessian(model, lambda z, y: z.square().mean(), data=(x, x), cuda=False).trace()
    model.zero_grad()
    matrix = torch.zeros(5, 5)
    matrix[:3, :3] = x.t() @ x / 5
    top = float(torch.linalg.eigvalsh(matrix)[-1])
    torch.manual_seed(0)
    theirs = peers.pyhessian(model, [x], loss=loss)
    assert theirs.eigenvalues(tol=1e-7, maxIter=300)[0][0] == pytest.approx(top, rel=1e-4)
    assert max(theirs.density(iter=3)[0][0]) <= top * (1 + 1e-4)
    H = ls.HessianOperator(model, [x], loss=loss)
    torch.testing.assert_close(dense(H), matrix, rtol=1e-5, atol=1e-6)


def regression():
    """A smooth network, and two batches of 2 and 9 rows."""
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (2, 9)]
    return net(), [(x, 2 * x[:, 0]) for x in rows]


def test_batches_count_by_their_terms_where_hessian_eigenthings_counts_them_equally() -> None:
    library = pytest.importorskip("hessian_eigenthings")
    model, batches = regression()
    whole = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    H = dense(ls.HessianOperator(model, [whole], loss=squares))
    theirs = library.HessianOperator(model, batches, lambda m, b: squares(m, b)[0] / len(b[0]))
    wrapped = peers.eigenthings(model, batches, loss=squares)
    unit = torch.eye(len(H), dtype=H.dtype)
    alone = torch.stack([theirs.matvec(e) for e in unit], dim=1)
    assert float((alone - H).norm() / H.norm()) > 0.1
    torch.testing.assert_close(torch.stack([wrapped.matvec(e) for e in unit], dim=1), H)
    torch.testing.assert_close(dense(ls.HessianOperator(model, batches, loss=squares)), H)


def test_one_eigenvalue_is_right_where_hessian_eigenthings_takes_two_steps() -> None:
    library = pytest.importorskip("hessian_eigenthings")
    model = Quadratic(with_spectrum([1.0, *torch.linspace(-0.9, 0.9, 60).tolist()]))
    theirs = library.lanczos(peers.eigenthings(model, [None], loss=value), k=1, seed=0)
    assert abs(float(theirs.eigenvalues[0])) < 0.9
    ours = ls.lanczos(ls.HessianOperator(model, [None], loss=value), k=1)
    assert float(ours.eigenvalues[0]) == pytest.approx(1.0, abs=1e-4)
    enough = library.lanczos(peers.eigenthings(model, [None], loss=value), k=1, max_iter=40, seed=0)
    assert float(enough.eigenvalues[0]) == pytest.approx(1.0, abs=1e-6)


def test_products_of_a_relu_network_are_exact_where_finite_differences_are_not() -> None:
    library = pytest.importorskip("hessian_eigenthings")
    x = torch.linspace(-1, 1, 400, dtype=torch.float64)[:, None]
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.zero_()

    def loss(model, batch) -> tuple[Tensor, int]:
        return model(batch).sum(), len(batch)  # linear on both sides of the kink: no curvature

    v = torch.tensor([0.0, 1.0], dtype=torch.float64)
    theirs = library.HessianOperator(
        model, [x], lambda m, b: loss(m, b)[0] / len(b), method="finite_difference", fd_eps=5e-3
    )
    assert float(theirs.matvec(v).norm()) > 0.1
    ours = ls.HessianOperator(model, [x], loss=loss) @ v
    assert ours.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("matrix", ["Hessian", "GGN", "EF"])
def test_curvlinops_has_the_same_hessian_gauss_newton_and_fisher(matrix) -> None:
    library = pytest.importorskip("curvlinops")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    generator = torch.Generator().manual_seed(0)
    data = [
        (torch.randn(n, 3, generator=generator, dtype=torch.float64), torch.arange(n) % 3)
        for n in (5, 2)
    ]
    parameters = list(model.parameters())
    make = getattr(library, f"{matrix}LinearOperator")
    theirs = make(model, nn.CrossEntropyLoss(), parameters, data)
    unit = torch.eye(sum(p.numel() for p in parameters), dtype=torch.float64)

    def terms(z: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(z, y, reduction="none")

    def split(model, batch):
        x, y = batch
        return model(x), lambda z: (terms(z, y), len(y))

    def loss(model, batch) -> tuple[Tensor, int]:
        return terms(model(batch[0]), batch[1]).sum(), len(batch[1])

    ours = {
        "Hessian": lambda: ls.HessianOperator(model, data, loss=loss),
        "GGN": lambda: ls.GGNOperator(model, data, split=split),
        "EF": lambda: ls.FisherOperator(model, data, split=split),
    }[matrix]()
    torch.testing.assert_close(dense(ours), theirs @ unit, rtol=1e-7, atol=1e-10)


def test_a_library_that_is_not_there_and_what_no_library_takes_are_refused(monkeypatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named '{name}'")

    model = masked(count=4)
    with pytest.raises(UserError, match="a batch, got") as refused:
        peers._MeanLoss(model, [], None)
    assert "0 batches" in str(refused.value)
    monkeypatch.setattr("landscape.sources.carriers.importlib.import_module", absent)
    for call, words in (
        (peers.pyhessian, r"No module named 'pyhessian'.*pip install PyHessian"),
        (peers.curvlinops, "pip install curvlinops-for-pytorch"),
        (peers.eigenthings, "pip install hessian-eigenthings"),
    ):
        with pytest.raises(UserError, match=words):
            call(model, [{}])
