"""Functional calls, graphs, threads and replicas compute with the theta that they are given."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from families import add_dense, attached, case_of, small, spread, tokens
from torch import Tensor, nn
from torch.func import functional_call

import landscape as ls
from landscape.subspace import theta_state


def test_functional_calls_with_other_theta_compute_there_and_leave_the_model_alone() -> None:
    model, plain, mask = small()
    here = model(tokens()).detach()
    given = {n: t.detach().clone() for n, t in theta_state(model).items() if "indices" not in n}
    moved = {n: t + 0.5 for n, t in given.items()}
    other = copy.deepcopy(plain)
    add_dense(other, mask, {n.replace("theta_", ""): torch.full_like(t, 0.5)
                            for n, t in given.items()})  # fmt: skip
    torch.testing.assert_close(functional_call(model, moved, (tokens(),)), other(tokens()))
    assert torch.equal(model(tokens()).detach(), here)
    everything = {n: p.detach().clone() for n, p in model.named_parameters()} | moved
    torch.testing.assert_close(functional_call(model, everything, (tokens(),)), other(tokens()))

    def loss(theta: dict[str, Tensor]) -> Tensor:
        return functional_call(model, theta, (ids,)).square().sum()

    ids = tokens()
    both = {n: torch.stack([given[n], moved[n]]) for n in given}
    wanted = torch.stack([m(ids).square().sum() for m in (plain, other)])
    torch.testing.assert_close(torch.vmap(loss)(both), wanted)
    plain(ids).square().sum().backward()
    own = dict(plain.named_parameters())
    found = torch.func.grad(loss)(given)
    for name, gradient in found.items():
        tensor = name.replace("theta_", "")
        dense = own[tensor].grad.reshape(-1)[mask.indices[tensor]]
        torch.testing.assert_close(gradient, dense, rtol=1e-4, atol=1e-5)
    ones = {n: torch.ones_like(t) for n, t in given.items()}
    _, slope = torch.func.jvp(loss, (given,), (ones,))
    torch.testing.assert_close(slope, sum(g.sum() for g in found.values()), rtol=1e-4, atol=1e-4)
    assert torch.equal(model(tokens()).detach(), here)


def traced(model: nn.Module) -> nn.Module:
    return torch.jit.trace(model, tokens())


def exported(model: nn.Module) -> nn.Module:
    return torch.export.export(model, (tokens(),)).module()


def compiled(model: nn.Module) -> nn.Module:
    torch._dynamo.reset()
    return torch.compile(model, backend="aot_eager", fullgraph=True)


@pytest.mark.parametrize("made_by", [traced, exported, compiled])
def test_a_graph_of_an_attached_model_computes_what_the_plain_model_does(made_by) -> None:
    model, plain, mask = small()
    graph = made_by(model)
    torch.testing.assert_close(graph(tokens()), plain(tokens()))
    if made_by is exported:  # it has a copy of the parameters' names, not of their life
        return
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.add_(0.5)
    shift = {n: torch.full_like(t, 0.5) for n, t in ls.trainable(model).items()}
    add_dense(plain, mask, shift)
    torch.testing.assert_close(graph(tokens()), plain(tokens()))


# --- threads, replicas --------------------------------------------------------------------------


def test_four_threads_compute_what_one_does_and_leave_the_model_whole() -> None:
    model, plain, _ = small()
    wanted, kinds = plain(tokens()), [type(p) for p in model.parameters()]
    wrong: list[object] = []

    def work() -> None:
        try:
            for _ in range(200):
                out = model(tokens())
                if not torch.allclose(out, wanted, atol=1e-6):
                    wrong.append(out)
        except Exception as error:
            wrong.append(error)

    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.add_(0.0)  # every thread finds it changed
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert [type(p) for p in model.parameters()] == kinds
    ls.detach(model)
    assert all(isinstance(p, nn.Parameter) for m in model.modules() for p in m._parameters.values())


def replicated(model: nn.Module) -> nn.Module:
    """Do what torch's ``replicate`` does for one device, with copies that are differentiable."""
    modules = list(model.modules())
    copies = {id(p): p * 1 for p in model.parameters()}
    replicas = {module: module._replicate_for_data_parallel() for module in modules}
    for module, replica in replicas.items():
        for key, child in module._modules.items():
            setattr(replica, key, replicas[child])
        for key, parameter in module._parameters.items():
            if parameter is None:
                replica._parameters[key] = None
            else:
                setattr(replica, key, copies[id(parameter)])
        for key, buffer in module._buffers.items():
            setattr(replica, key, buffer.clone())
    return replicas[model]


@pytest.mark.parametrize("name", ["opt", "gpt2"])
def test_a_replica_of_data_parallel_computes_with_its_own_theta(name) -> None:
    """Both have a tied embedding, whose theta one of two modules holds."""
    case = case_of(name)
    model, mask = attached(case, targets="*", density=0.2)
    plain = add_dense(case.model(torch.float32), mask, spread(model))
    case.loss(plain).backward()
    loss = case.loss(replicated(model))
    torch.testing.assert_close(loss, case.loss(plain))
    loss.backward()
    own = dict(plain.named_parameters())
    for tensor, theta in ls.trainable(model).items():
        wanted = own[tensor].grad.reshape(-1)[mask.indices[tensor]]
        torch.testing.assert_close(theta.grad, wanted, rtol=1e-4, atol=1e-6)
