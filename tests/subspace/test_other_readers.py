"""Weights that something else than their module reads count and learn."""

from __future__ import annotations

import pytest
import torch
from families import add_dense, pair, seeded, tokens
from torch import Tensor, nn

import landscape as ls


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
