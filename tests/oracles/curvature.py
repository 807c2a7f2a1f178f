"""Slow references for curvature: dense Hessians of plain models, closed forms, known spectra."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape.masks import Mask
from landscape.models import tiny_model

#: a few hundred weights in the target tensors, so that the dense Hessian is small
SMALL = {
    "opt": {"hidden_size": 8, "word_embed_proj_dim": 8, "ffn_dim": 16, "num_attention_heads": 2},
    "llama": {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 4},
    "gpt2": {"n_embd": 8, "n_head": 2},
    "bert": {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2},
    "vit": {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2},
}

N = 60
_REST = torch.linspace(-0.5, 1.0, N - 8, dtype=torch.float64)
#: name -> eigenvalues; each is hard for some algorithm
SPECTRA = {
    "outlier": [10.0, 4.0, 3.9, 3.0, -3.0, -2.0, 2.0, 1.5, *_REST],
    "clustered": [5.0, 4.999, 4.998, 4.99, -5.5, -5.499, 2.0, 1.5, *_REST],
    "repeated": [5.0, 5.0, 5.0, 4.0, -6.0, -6.0, 2.0, 2.0, *_REST],
    "negative": [-1.0, -1.1, -2.0, -3.0, -4.0, -4.0, -7.0, -9.0, *(_REST - 2.0)],
    "mirrored": [8.0, -7.99, 6.0, -6.0, 3.0, -3.0, 1.2, -1.2, *_REST],
    "low rank": [4.0, 3.0, 1.0, -2.0, 0.0, 0.0, 0.0, 0.0, *(0 * _REST)],
    "tiny": [1e-9, 5e-10, 3e-10, -2e-10, 0.0, 0.0, 0.0, 0.0, *(1e-10 * _REST)],
    "indefinite decay": [(-1) ** i / (i + 1) ** 2 for i in range(N)],
}


def small_model(name: str, dtype: torch.dtype = torch.float64, scale: float = 8.0) -> nn.Module:
    """A tiny model whose matrices are large enough that its curvature is not negligible."""
    model = tiny_model(name, **SMALL[name]).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    return model


def functional_hessian(
    model: nn.Module, names: Sequence[str], loss: Callable[[nn.Module], Tensor]
) -> Tensor:
    """The dense Hessian over all entries of the named tensors of a plain model, by torch.func.

    Reverse over reverse with vmap on a functional copy: no mask, no masked kernel and none of the
    operator's code takes part. Eager attention is no oracle (its softmax is in float32), and
    neither is jacrev(jacrev) or torch.func.hessian: with torch 2.13 the derivative of a vmapped
    layer normalisation is wrong (see the test of it); the inner derivative must be `grad`.
    """
    plain = copy.deepcopy(model).requires_grad_(False)
    tensors = dict(plain.named_parameters())
    shapes = [tensors[name].shape for name in names]
    start = torch.cat([tensors[name].reshape(-1) for name in names])

    def value(flat: Tensor) -> Tensor:
        pieces = flat.split([s.numel() for s in shapes])
        given = {n: p.view(s) for n, p, s in zip(names, pieces, shapes, strict=True)}
        return loss(_Called(plain, given))

    with sdpa_kernel(SDPBackend.MATH):
        return jacrev(grad(value), chunk_size=64)(start)


def plain_jacobian(model: nn.Module, names: list[str], outputs) -> Tensor:
    """The Jacobian of a plain model's flat outputs by its named tensors, row by row."""
    tensors = dict(model.named_parameters())
    shapes = [tensors[n].shape for n in names]

    def value(flat: Tensor) -> Tensor:
        pieces = flat.split([s.numel() for s in shapes])
        given = {n: p.view(s) for n, p, s in zip(names, pieces, shapes, strict=True)}
        return outputs(lambda **kw: functional_call(model, given, (), kw))

    start = torch.cat([tensors[n].detach().reshape(-1) for n in names])
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return jacrev(value, chunk_size=64)(start)


class _Called(nn.Module):
    """A model that is called with some of its parameters replaced."""

    def __init__(self, model: nn.Module, given: dict[str, Tensor]) -> None:
        super().__init__()
        self.__dict__["plain"], self.__dict__["given"] = model, given

    def __getattr__(self, name: str):
        return getattr(self.__dict__["plain"], name)

    def parameters(self, recurse: bool = True):
        return self.__dict__["plain"].parameters(recurse)

    def forward(self, *args, **kwargs):
        return functional_call(self.__dict__["plain"], self.__dict__["given"], args, kwargs)


def tiny_clip(dtype: torch.dtype = torch.float64, rows: int = 4) -> tuple[nn.Module, dict]:
    """A tiny CLIP whose matrices are large enough for curvature, and a batch of pairs for it."""
    from transformers import CLIPConfig, CLIPModel

    shape = {
        "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "projection_dim": 6,
    }  # fmt: skip
    text = {**shape, "vocab_size": 40, "max_position_embeddings": 8, "eos_token_id": 2,
            "bos_token_id": 1, "pad_token_id": 0}  # fmt: skip
    config = CLIPConfig(
        text_config=text, vision_config={**shape, "image_size": 4, "patch_size": 2},
        projection_dim=6, logit_scale_init_value=1.0,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    tokens = torch.randint(3, 40, (rows, 5), generator=generator)
    tokens[:, -1] = 2
    pixels = torch.randn(rows, 3, 4, 4, generator=generator, dtype=torch.float64).to(dtype)
    return model, {"input_ids": tokens, "pixel_values": pixels}


def contrastive(model: nn.Module, batch: dict) -> tuple[Tensor, int]:
    """CLIP's own in-batch loss, as a sum over its pairs."""
    rows = len(batch["input_ids"])
    return model(**batch, return_loss=True).loss * rows, rows


def principal_rows(mask: Mask) -> Tensor:
    """The rows of the dense Hessian over whole tensors that a mask selects."""
    starts, total = {}, 0
    for name, shape in mask.shapes.items():
        starts[name] = total
        total += torch.Size(shape).numel()
    return torch.cat([mask.indices[name] + starts[name] for name in mask.shapes])


def dense(operator) -> Tensor:
    """The matrix of an operator, one product with each unit vector."""
    unit = torch.eye(operator.size, dtype=operator.dtype)
    return torch.stack([operator.matvec(row) for row in unit], dim=1)


def with_spectrum(values: Sequence[float] | Tensor, seed: int = 0) -> Tensor:
    """A dense symmetric float64 matrix with these eigenvalues, in a random orthonormal basis."""
    values = torch.as_tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    n = values.numel()
    basis, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    matrix = (basis * values) @ basis.t()
    return (matrix + matrix.t()) / 2


def regression_data(n: int = 11, d: int = 4, classes: int = 3, seed: int = 0):
    """Features (n, d), real targets (n,) and labels (n,)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = torch.randn(n, generator=generator, dtype=torch.float64)
    return x, y, torch.randint(0, classes, (n,), generator=generator)


def softmax_hessian(x: Tensor, weight: Tensor) -> Tensor:
    """H = 1/n sum_i (diag p_i - p_i p_i') kron x_i x_i', rows of the weight first."""
    p = (x @ weight.t()).softmax(1)
    spread = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return sum(
        torch.kron(s, row[:, None] * row[None, :]) for s, row in zip(spread, x, strict=True)
    ) / len(x)


def net() -> nn.Module:
    """A smooth regression network with 37 numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()


def squares(model, batch) -> tuple[Tensor, int]:
    """Half the squared errors of a regression, summed, and their number."""
    x, y = batch
    return 0.5 * (model(x)[:, 0] - y).square().sum(), len(x)


def jacobian_of_net(model: nn.Module, x: Tensor) -> Tensor:
    """dz/dtheta of z = w2' tanh(W1 x + b1) + b2 by hand, shape (n, 37), parameters in order."""
    w2 = model[2].weight.detach()[0]
    t = torch.tanh(x @ model[0].weight.detach().t() + model[0].bias.detach())
    inner = w2 * (1 - t.square())
    first = (inner[:, :, None] * x[:, None, :]).flatten(1)
    return torch.cat([first, inner, t, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)


def difference_product(
    parameters: Sequence[Tensor], mean: Callable[[], Tensor], v: Tensor
) -> Tensor:
    """H v of a mean loss by a central difference of its first gradient along v, in float64."""
    sides, step = [], 1e-5
    pieces = v.split([p.numel() for p in parameters])
    for h in (step, -2 * step):
        with torch.no_grad():
            for p, piece in zip(parameters, pieces, strict=True):
                p += h * piece.view_as(p)
        gradient = torch.autograd.grad(mean(), list(parameters))
        sides.append(torch.cat([g.reshape(-1) for g in gradient]))
    with torch.no_grad():
        for p, piece in zip(parameters, pieces, strict=True):
            p += step * piece.view_as(p)
    return (sides[0] - sides[1]) / (2 * step)


def difference_hessian(parameters: Sequence[Tensor], mean: Callable[[], Tensor]) -> Tensor:
    """The dense Hessian of a mean loss by central differences of its first gradient, in float64.

    Only first derivatives take part, so that a wrong double backward cannot agree with it.
    """
    parameters, step = list(parameters), 1e-5

    def gradient() -> Tensor:
        pieces = torch.autograd.grad(mean(), parameters, allow_unused=True)
        both = zip(pieces, parameters, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in both])

    columns = []
    for p in parameters:
        for i in range(p.numel()):
            sides = []
            for h in (step, -2 * step):
                with torch.no_grad():
                    p.view(-1)[i] += h
                sides.append(gradient())
            with torch.no_grad():
                p.view(-1)[i] += step
            columns.append((sides[0] - sides[1]) / (2 * step))
    return torch.stack(columns, dim=1)
