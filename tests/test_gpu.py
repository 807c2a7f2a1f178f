"""What holds on a CPU holds on a GPU: the same masks, the same training, the same curvature."""

from __future__ import annotations

import pytest
import torch
from samples import tiny_task
from torch import Tensor

import landscape as ls
from landscape.kernels import Coordinates, sampled_values, spmm_values
from landscape.kernels.choice import KERNELS, usable_kernels
from landscape.models import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU, CPU = torch.device("cuda"), torch.device("cpu")
ARCHITECTURES = ("opt", "llama", "gpt2")


def masked(architecture: str, device: torch.device, dtype: torch.dtype = torch.float64):
    """A tiny model with a mask of a twentieth of its weights."""
    model = tiny_model(architecture).to(device, dtype).eval()
    ls.attach(model, ls.random_mask(model, ratio=0.02, targets="auto", seed=3))
    return model


def trained(architecture: str, device: torch.device, **settings) -> tuple[ls.Run, dict]:
    model = masked(architecture, device)
    run = ls.finetune(model, tiny_tokenizer(), tiny_task(), lr=1e-2, epochs=2, **settings)
    return run, {name: p.detach().cpu() for name, p in ls.trainable(model).items()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_mask_is_the_same_on_a_gpu(architecture: str) -> None:
    here, there = (
        ls.random_mask(tiny_model(architecture).to(device), ratio=0.02, targets="auto", seed=3)
        for device in (CPU, GPU)
    )
    assert here.indices.keys() == there.indices.keys()
    assert all(torch.equal(i, there.indices[name].cpu()) for name, i in here.indices.items())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_on_a_gpu_is_that_on_a_cpu(architecture: str, accumulate: int) -> None:
    here, theta = trained(architecture, CPU, accumulate=accumulate)
    there, other = trained(architecture, GPU, accumulate=accumulate)
    rel = 1e-6 if architecture == "llama" else 1e-9  # whose rotations are computed in float32
    for one, two in zip(here.history, there.history, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=rel)
    assert all(torch.allclose(v, other[name], rtol=1e-4, atol=rel) for name, v in theta.items())
    assert here.metrics["test"] == pytest.approx(there.metrics["test"], rel=rel)


def test_a_run_on_a_gpu_repeats_itself_bit_for_bit() -> None:
    one, two = (trained("opt", GPU)[1] for _ in range(2))
    assert all(torch.equal(v, two[name]) for name, v in one.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_detach_on_a_gpu_gives_the_model_back_bit_for_bit(dtype: torch.dtype) -> None:
    model = tiny_model("opt").to(GPU, dtype)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ls.attach(model, ls.random_mask(model, ratio=0.02, targets="auto", seed=3))
    ls.finetune(model, tiny_tokenizer(), tiny_task(), lr=1e-2, epochs=1, autocast="bf16")
    ls.detach(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sharpness_on_a_gpu_is_that_on_a_cpu(architecture: str) -> None:
    found = []
    for device in (CPU, GPU):
        model = masked(architecture, device)
        batches = ls.make_batches(tiny_task().train[:8], tiny_tokenizer(), 4)
        found.append(ls.lanczos(ls.HessianOperator(model, batches), k=2, tol=1e-6))
    one, two = (f.eigenvalues.cpu().double() for f in found)
    assert torch.allclose(one, two, rtol=1e-6)


@pytest.mark.parametrize("name", list(KERNELS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_every_kernel_on_a_gpu_gathers_the_dense_gradient(name: str, dtype: torch.dtype) -> None:
    rows, cols, tokens = 96, 160, 200
    flat = torch.randperm(rows * cols, generator=torch.Generator().manual_seed(0))[:700].sort()[0]
    at = Coordinates(flat.to(GPU), (rows, cols))
    if name not in usable_kernels(at, dtype, GPU):
        pytest.skip("not usable here")
    a, b = (torch.randn(tokens, n, device=GPU, dtype=torch.float64) for n in (rows, cols))
    found = KERNELS[name].values(a.to(dtype), b.to(dtype), at)
    wanted = (a.t() @ b).reshape(-1)[at.flat]
    assert relative(found, wanted) < {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 2e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_chosen_products_on_a_gpu_are_the_dense_ones(dtype: torch.dtype) -> None:
    at = Coordinates(torch.arange(0, 96 * 160, 37, device=GPU), (96, 160))
    v = torch.randn(at.count, device=GPU, dtype=torch.float64)
    x = torch.randn(200, 160, device=GPU, dtype=torch.float64)
    y = torch.randn(200, 96, device=GPU, dtype=torch.float64)
    sparse = torch.zeros(96 * 160, device=GPU, dtype=torch.float64)
    sparse[at.flat] = v
    sparse = sparse.view(96, 160)
    bound = 1e-12 if dtype is torch.float64 else 1e-5
    assert relative(spmm_values(v.to(dtype), x.to(dtype), at, True), x @ sparse.t()) < bound
    assert relative(sampled_values(y.to(dtype), x.to(dtype), at), (y.t() @ x)[sparse != 0]) < bound


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())
