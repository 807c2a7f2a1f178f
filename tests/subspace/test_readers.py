"""Whoever reads a masked weight, and by whatever door, finds W_0 + S(theta) and its gradient."""

from __future__ import annotations

import copy
import io
import pickle
import threading

import numpy as np
import pytest
import torch
from families import add_dense, attached, case_of, seeded, spread, tokens
from torch import Tensor, nn
from torch.func import functional_call

import landscape as ls
from landscape.subspace import theta_state


class Small(nn.Module):
    """One of each kind of site: an embedding, a norm, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(64, 16), nn.LayerNorm(16)
        self.inner, self.head = nn.Linear(16, 40), nn.Linear(40, 8)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.inner(self.norm(self.table(ids)))))


def pair(
    model: nn.Module, density: float = 0.1, targets="*", scale: float = 0.3
) -> tuple[nn.Module, nn.Module, ls.Mask]:
    """An attached model whose theta was changed after a forward, and a plain one edited by hand."""
    plain = copy.deepcopy(model)
    mask = ls.random_mask(model, density=density, targets=targets, seed=4)
    ls.attach(model, mask)
    add_dense(plain, mask, spread(model, scale))
    return model, plain, mask


def small() -> tuple[nn.Module, nn.Module, ls.Mask]:
    model = seeded(Small)
    model(tokens())
    return pair(model)


def weights(plain: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in plain.named_parameters()}


def by_pickle(model: nn.Module) -> nn.Module:
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


LOOKS = {
    "an attribute": lambda m, n: m.get_submodule(n.rpartition(".")[0]).weight,
    "a state dict": lambda m, n: m.state_dict()[n],
    "a part's state dict": lambda m, n: m.get_submodule(n.split(".")[0]).state_dict()["weight"],
    "named parameters": lambda m, n: dict(m.named_parameters())[n],
    "a parameter by name": lambda m, n: m.get_parameter(n),
    "a copy": lambda m, n: dict(copy.deepcopy(m).named_parameters())[n],
    "a copy of a part": lambda m, n: copy.deepcopy(m.get_submodule(n.split(".")[0])).weight,
    "a pickle": lambda m, n: pickle.loads(pickle.dumps(m)).get_parameter(n),
    "torch.save": lambda m, n: by_pickle(m).state_dict()[n],
    "a shallow copy": lambda m, n: copy.copy(m).state_dict()[n],
}


@pytest.mark.parametrize("change", ["in place", "through .data", "another storage", "an optimizer"])
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("near", [True, False], ids=["CPU", "device"])
def test_every_look_at_a_weight_shows_theta_as_it_is_now(look, change, near, monkeypatch) -> None:
    monkeypatch.setattr("landscape.subspace.sites._is_on_cpu", lambda _: near)
    model, plain, mask = small()
    before = {n: t.detach().clone() for n, t in ls.trainable(model).items()}
    for name in ("table.weight", "norm.weight", "inner.weight", "head.weight"):
        torch.testing.assert_close(LOOKS[look](model, name).detach(), weights(plain)[name])
    thetas = ls.trainable(model)
    if change == "an optimizer":
        optimizer = torch.optim.SGD(thetas.values(), lr=0.1)
        model(tokens()).square().sum().backward()
        optimizer.step()
    for theta in thetas.values():
        with torch.no_grad():
            if change == "in place":
                theta.add_(0.25)
            elif change == "through .data":
                theta.data.add_(0.25)
            elif change == "another storage":
                theta.data = theta.data + 0.25
    add_dense(plain, mask, {n: t.detach() - before[n] for n, t in thetas.items()})
    for name in ("table.weight", "norm.weight", "inner.weight", "head.weight"):
        torch.testing.assert_close(LOOKS[look](model, name).detach(), weights(plain)[name])


CHANGES = {
    "in place": lambda theta: theta.add_(0.25),
    "through .data": lambda theta: theta.data.add_(0.25),
    "through numpy": lambda theta: np.add(theta.numpy(), 0.25, out=theta.numpy()),
    "another storage": lambda theta: setattr(theta, "data", theta.data + 0.25),
    "not contiguous": lambda theta: setattr(
        theta, "data", torch.stack([theta.data + 0.25, theta.data], 1)[:, 0]
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("near", [True, False], ids=["CPU", "device"])
def test_a_forward_without_gradients_computes_with_theta_as_it_is_now(
    change, near, monkeypatch
) -> None:
    """It compares theta with what was written last, and asks nothing else of an unchanged one."""
    monkeypatch.setattr("landscape.subspace.sites._is_on_cpu", lambda _: near)
    model, plain, mask = small()
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(model(tokens()), plain(tokens()))
            for theta in ls.trainable(model).values():
                CHANGES[change](theta.requires_grad_(False))
            by_hand = {n: torch.full_like(t, 0.25) for n, t in ls.trainable(model).items()}
            add_dense(plain, mask, by_hand)
            torch.testing.assert_close(model(tokens()), plain(tokens()))


def test_a_forward_without_gradients_computes_with_the_theta_that_it_is_given() -> None:
    model, plain, mask = small()
    moved = {f"{n.rpartition('.')[0]}.theta_weight" if n.endswith("weight") else
             f"{n.rpartition('.')[0]}.theta_bias": t.detach() + 0.5
             for n, t in ls.trainable(model).items()}  # fmt: skip
    with torch.no_grad():
        here = model(tokens())
        other = add_dense(copy.deepcopy(plain), mask, {
            n: torch.full_like(t, 0.5) for n, t in ls.trainable(model).items()
        })  # fmt: skip
        torch.testing.assert_close(functional_call(model, moved, (tokens(),)), other(tokens()))
        assert torch.equal(model(tokens()), here)


def test_a_forward_without_gradients_refuses_a_weight_that_was_overwritten() -> None:
    model, _, _ = small()
    with torch.no_grad():
        model(tokens())
        dict.__getitem__(model.inner._parameters, "weight").zero_()
        with pytest.raises(ls.errors.UserError, match="written or put there since"):
            model(tokens())


def test_a_saved_model_computes_what_the_attached_one_does_after_steps(tmp_path) -> None:
    case = case_of("opt")
    model, mask = attached(case)
    optimizer = torch.optim.AdamW(ls.trainable(model).values(), lr=0.1, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        case.loss(model).backward()
        optimizer.step()
    values = {n: t.detach() for n, t in ls.trainable(model).items()}
    plain = add_dense(case.model(torch.float32), mask, values)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    wanted = plain(input_ids=tokens()).logits
    assert torch.equal(again(input_ids=tokens()).logits, wanted)
    assert torch.equal(again.model.decoder.layers[0].self_attn.q_proj.weight,
                       plain.model.decoder.layers[0].self_attn.q_proj.weight)  # fmt: skip
    torch.testing.assert_close(model(input_ids=tokens()).logits, wanted)


@pytest.mark.parametrize("near", [True, False], ids=["CPU", "device"])
def test_a_graph_stays_whole_while_theta_stays_and_is_refused_once_it_moved(
    near, monkeypatch
) -> None:
    monkeypatch.setattr("landscape.subspace.sites._is_on_cpu", lambda _: near)
    model, _, _ = small()
    first, second = model(tokens()).sum(), model(tokens()).sum()
    model.state_dict()
    (first + second).backward()
    stale = model(tokens()).sum()
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.mul_(2.0)
    model(tokens())
    with pytest.raises(RuntimeError, match=r"modified (by an )?inplace"):
        stale.backward()


def test_theta_that_is_not_a_number_is_computed_with_as_it_is() -> None:
    model, _, _ = small()
    with torch.no_grad():
        ls.trainable(model)["inner.weight"][0] = torch.nan
    for _ in range(2):  # NaN differs from itself, and is what was written all the same
        first, second = model(tokens()).sum(), model(tokens()).sum()
        (first + second).backward()
        assert first.isnan()


# --- other readers ------------------------------------------------------------------------------


def mamba() -> nn.Module:
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(MambaConfig(
        vocab_size=64, hidden_size=16, state_size=4, num_hidden_layers=1, time_step_rank=4,
    ))  # fmt: skip


def mamba2() -> nn.Module:
    from transformers import Mamba2Config, Mamba2ForCausalLM

    return Mamba2ForCausalLM(Mamba2Config(
        vocab_size=64, hidden_size=16, state_size=4, num_hidden_layers=1, num_heads=4, head_dim=8,
        n_groups=1, chunk_size=4,
    ))  # fmt: skip


def jamba() -> nn.Module:
    from transformers import JambaConfig, JambaForCausalLM

    return JambaForCausalLM(JambaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_experts=2, mamba_d_state=4,
        mamba_dt_rank=4, attn_layer_period=2, attn_layer_offset=1, use_mamba_kernels=False,
    ))  # fmt: skip


def deberta() -> nn.Module:
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    return DebertaV2ForSequenceClassification(DebertaV2Config(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16, relative_attention=True,
        position_buckets=4, pos_att_type=["c2p", "p2c"], norm_rel_ebd="layer_norm",
    ))  # fmt: skip


class Encoder(nn.Module):
    """torch's own encoder, whose fast path skips its layers' submodules in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
        self.inner = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Recurrent(nn.Module):
    """A layer that keeps a list of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(16, 8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]


class Lookups(nn.Module):
    """An embedding with sparse gradients, a weight that is normalised, one read as a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 16, sparse=True)
        self.scaled = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))
        self.read = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x + self.table(torch.tensor([3, 7, 3, 0, 1]))) @ self.read.weight


def logits(model: nn.Module) -> Tensor:
    return model(input_ids=tokens(2, 5)).logits


def activations(model: nn.Module) -> Tensor:
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return model(x)


READERS = {
    "mamba": (mamba, logits, ["mixer.conv1d.weight", "mixer.dt_proj.weight"]),
    "mamba2": (mamba2, logits, ["mixer.conv1d.weight", "mixer.dt_bias"]),
    "jamba": (jamba, logits, ["mamba.conv1d.weight", "mamba.dt_proj.weight"]),
    "deberta": (deberta, logits, ["rel_embeddings.weight"]),
    "encoder": (Encoder, activations, ["out_proj.weight", "in_proj_weight"]),
    "lstm": (Recurrent, activations, ["weight_hh_l1", "bias_ih_l0"]),
    "lookups": (Lookups, activations, ["table.weight", "original1", "read.weight"]),
}


@pytest.mark.parametrize("name", READERS)
def test_a_weight_that_something_else_than_its_module_reads_counts_and_learns(name) -> None:
    build, outputs, special = READERS[name]
    # the products of Jamba's experts exist in float32 only
    dtype = torch.float32 if name == "jamba" else torch.float64
    model, plain, mask = pair(seeded(build).to(dtype), 0.4)
    with torch.no_grad():
        torch.testing.assert_close(outputs(model), outputs(plain), rtol=1e-5, atol=1e-6)
    for side in (model, plain):
        outputs(side).square().sum().backward()
    own = dict(plain.named_parameters())
    for tensor, theta in ls.trainable(model).items():
        dense = own[tensor].grad
        if dense is None:
            assert theta.grad is None, tensor
            continue
        dense = dense.to_dense() if dense.is_sparse else dense
        wanted = dense.reshape(-1)[mask.indices[tensor]]
        torch.testing.assert_close(theta.grad, wanted, rtol=1e-4, atol=1e-5, msg=tensor)
    for end in special:
        found = [t for n, t in ls.trainable(model).items() if n.endswith(end)]
        assert any(t.grad is not None and t.grad.abs().max() > 0 for t in found), end


def test_a_mask_of_a_tensor_that_another_module_reads_can_be_all_there_is() -> None:
    model, _, _ = pair(seeded(mamba).double(), 0.5, "*.conv1d")
    logits(model).square().sum().backward()
    assert all(t.grad.abs().max() > 0 for t in ls.trainable(model).values())


def test_the_surface_of_a_model_with_a_fast_path_is_that_of_the_plain_model() -> None:
    model, plain, mask = pair(seeded(Encoder).double(), 0.5, "*.linear1")

    def loss(m: nn.Module, x: Tensor) -> tuple[Tensor, float]:
        return m(x).pow(4).sum(), x.shape[0]

    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    direction = torch.ones(mask.count, dtype=torch.float64)
    surface = ls.surface_1d(model, [x], direction, span=30.0, points=3, loss=loss)
    step = 30.0 / mask.count**0.5
    wanted = []
    for shift in (-step, step, step):  # the plain model walks from one end to the other
        ones = {n: torch.full((i.numel(),), shift) for n, i in mask.indices.items()}
        add_dense(plain, mask, ones)
        wanted.append(float(loss(plain, x)[0].detach()) / 2)
    assert max(wanted) > 1.01 * min(wanted)
    torch.testing.assert_close(surface.losses, torch.tensor(wanted, dtype=torch.float64))


def test_a_fast_path_with_gradients_is_left_where_theta_wants_one() -> None:
    model, plain, mask = pair(seeded(Encoder).double(), 0.5, "*.linear[12]")
    for side in (model, plain):
        activations(side).pow(4).sum().backward()
    own = dict(plain.named_parameters())
    for tensor, theta in ls.trainable(model).items():
        wanted = own[tensor].grad.reshape(-1)[mask.indices[tensor]]
        assert wanted.abs().max() > 0
        torch.testing.assert_close(theta.grad, wanted)


# --- torch's transforms -------------------------------------------------------------------------


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
