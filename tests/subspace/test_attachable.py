"""What cannot be masked, or not any more, is refused in one sentence and leaves the model whole."""

from __future__ import annotations

import copy

import pytest
import torch
from families import attached, case_of, spread, tokens
from torch import Tensor, nn

import landscape as ls
from landscape.errors import UserError


def plain(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 6))


def masked(model: nn.Module | None = None, targets="*", **budget) -> nn.Module:
    model = plain() if model is None else model
    ls.attach(model, ls.random_mask(model, **(budget or {"density": 0.5}), targets=targets))
    return model


def bits(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if "theta_" not in n}


# --- attached twice, in part --------------------------------------------------------------------


@pytest.mark.parametrize("second", ["same tensors", "other tensors"])
@pytest.mark.parametrize("order", ["part first", "whole first"])
def test_a_model_and_a_part_of_it_cannot_both_have_a_mask(order, second) -> None:
    model = case_of("llama").model(torch.float32)
    before = bits(model)
    parts = [(model.model, "*.q_proj"), (model, "*.q_proj")]
    if second == "other tensors":
        parts[1] = (model, "lm_head")
    first, then = parts if order == "part first" else reversed(parts)
    masked(*first)
    spread(first[0])
    with pytest.raises(UserError, match="belongs to a model that has one"):
        masked(*then)
    ls.detach(first[0])
    assert all(torch.equal(v, before[n]) for n, v in bits(model).items())
    masked(*then)


def test_an_adapter_put_over_a_masked_layer_is_named_and_detach_still_restores() -> None:
    peft = pytest.importorskip("peft")
    model, _ = attached(case_of("opt"))
    before = bits(case_of("opt").model(torch.float32))
    spread(model)
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["q_proj"]), model)
    for use in (ls.trainable, ls.distance, ls.merge, lambda m: ls.save_delta(m, "never")):
        with pytest.raises(UserError, match=r"q_proj.*base_layer.*wrapped or replaced"):
            use(model)
    ls.detach(model)
    after = {n.replace("base_layer.", ""): v for n, v in bits(model).items() if "lora" not in n}
    assert all(torch.equal(v, before[n]) for n, v in after.items())


def test_one_theta_frozen_beside_others_that_learn_is_named() -> None:
    model = masked()
    model[2].requires_grad_(False)
    with pytest.raises(UserError, match=r"frozen one for 2\."):
        ls.trainable(model)


def test_names_of_one_tied_tensor_cannot_both_be_masked() -> None:
    model = case_of("opt").model(torch.float32)
    shape = tuple(model.lm_head.weight.shape)
    mask = ls.Mask({"lm_head.weight": torch.tensor([3])}, {"lm_head.weight": shape}, 1000)
    with pytest.raises(UserError, match=r"first name, model.decoder.embed_tokens.weight,"):
        ls.attach(model, mask)


# --- overwritten --------------------------------------------------------------------------------


def test_other_weights_do_not_load_under_a_mask_and_detach_gives_one_base() -> None:
    model, before = masked(), bits(plain())
    spread(model)
    out = model(torch.ones(1, 6)).detach()
    for state in (plain(1).state_dict(), {"2.weight": torch.zeros(6, 5)}):
        with pytest.raises(UserError, match="weights alone; detach the mask, load"):
            model.load_state_dict(state, strict=False)
        with pytest.raises(UserError, match="weights alone"):
            model[2].load_state_dict({"weight": torch.zeros(6, 5)}, strict=False)
        assert torch.equal(model(torch.ones(1, 6)).detach(), out)
    ls.detach(model)
    assert all(torch.equal(v, before[n]) for n, v in bits(model).items())


@pytest.mark.parametrize("how", ["in place", "put there"])
def test_a_masked_weight_that_was_overwritten_is_named_when_it_is_next_read(how) -> None:
    model = masked()
    model(torch.ones(1, 6))
    with torch.no_grad():
        if how == "in place":
            model.get_parameter("0.weight").zero_()
        else:
            model[0].weight = nn.Parameter(torch.zeros(5, 6))
    with pytest.raises(UserError, match=r"weight of shape \(5, 6\) to be W_0 \+ S\(theta\)"):
        model(torch.ones(1, 6))
    with pytest.raises(UserError, match="change theta instead"):
        model.state_dict() if how == "in place" else model[0].weight
    ls.detach(model)


def test_theta_alone_loads_onto_the_same_mask() -> None:
    model = masked()
    spread(model)
    out = model(torch.ones(1, 6)).detach()
    state = ls.subspace.theta_state(model)
    other = masked()
    other.load_state_dict(state, strict=False)
    assert torch.equal(other(torch.ones(1, 6)).detach(), out)
    elsewhere = masked(plain(), density=0.4)
    with pytest.raises(UserError, match="another mask"):
        elsewhere.load_state_dict(state, strict=False)


@pytest.mark.parametrize("name", ["opt", "llama"])
@pytest.mark.parametrize("size", [70, 50])
def test_a_masked_embedding_is_not_resized_under_its_mask(name, size) -> None:
    case = case_of(name)
    model, _ = attached(case, targets=["*embed_tokens", "*.q_proj"])
    spread(model)
    loss = case.loss(model).detach()
    with pytest.raises(UserError, match=r"rows under the mask .* detach the mask, resize"):
        model.resize_token_embeddings(size, mean_resizing=False)
    assert torch.equal(case.loss(model).detach(), loss)
    plain_ = case.model(torch.float32).state_dict()
    assert all(torch.equal(v, plain_[k]) for k, v in ls.detach(model).state_dict().items())


def test_a_masked_head_that_a_resize_has_replaced_is_named() -> None:
    model, _ = attached(case_of("llama"), targets=["lm_head", "*.q_proj"])
    model.resize_token_embeddings(70, mean_resizing=False)
    with pytest.raises(UserError, match=r"expected lm_head.weight where the mask was attached"):
        ls.trainable(model)


# --- who else holds a tensor --------------------------------------------------------------------


class Keeper(nn.Module):
    """Keeps its inner weight a second time, in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        held = self.inner.weight
        if how == "list":
            self.kept = [held]
        elif how == "dict":
            self.kept = {"w": held.detach()}
        elif how == "transposed":
            self.register_buffer("kept", held.detach().t())
        elif how == "part":
            self.kept = nn.Parameter(held.detach()[2:])


@pytest.mark.parametrize("how", ["list", "dict", "transposed", "part"])
def test_a_weight_that_is_kept_a_second_time_is_refused_with_both_names(how) -> None:
    model = Keeper(how)
    where = "another parameter" if how == "part" else "kept"
    with pytest.raises(UserError, match=f"expected inner.weight .* in {where} too"):
        masked(model, "inner")
    assert type(model.inner) is nn.Linear
    masked(model, "inner.bias")


@pytest.mark.parametrize("name", ["opt", "gpt2"])
def test_a_weight_that_a_module_outside_the_model_is_tied_to_is_refused(name) -> None:
    model = case_of(name).model(torch.float32)
    part = model.base_model
    with pytest.raises(UserError, match="a module outside of it that shares it"):
        masked(part, ["*embed_tokens"] if name == "opt" else ["wte"])
    kept = list(model.parameters())  # a user's list is no module
    masked(part, "*.bias")
    assert len(kept) == len(list(model.parameters())) - len(ls.trainable(part))


def test_a_loss_that_reads_a_stored_tensor_past_its_mask_is_refused_with_the_name() -> None:
    model = plain()
    kept = model[2].weight
    masked(model)
    x = torch.ones(2, 6)
    good = lambda: model(x).sum() + model[2].weight.square().sum()  # noqa: E731
    ls.subspace.refuse_unseen_readers(model, good)
    past = [
        lambda: model(x).sum() + kept.square().sum(),
        lambda: model(x).sum() + sum(p.square().sum() for p in model.parameters()),
    ]
    for loss, name in zip(past, ["2.weight", "(0|2)."], strict=True):
        with pytest.raises(UserError, match=f"to read {name}"):
            ls.subspace.refuse_unseen_readers(model, loss)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        "0.theta_weight", "0.theta_bias", "2.theta_weight", "2.theta_bias"
    }  # fmt: skip


def language_loss(model: nn.Module, ids: Tensor) -> tuple[Tensor, int]:
    return model(input_ids=ids, labels=ids).loss * len(ids), len(ids)


def past_its_mask(model: nn.Module, ids: Tensor) -> tuple[Tensor, int]:
    """A loss and a penalty on what is stored."""
    value, count = language_loss(model, ids)
    return value + sum(p.square().sum() for p in model.parameters()), count


def test_curvature_and_selection_refuse_a_loss_that_reads_past_the_mask() -> None:
    model, _ = attached(case_of("opt"))
    ls.HessianOperator(model, [tokens()], loss=language_loss)
    with pytest.raises(UserError, match=r"to read model\.decoder.* as its module's attribute"):
        ls.HessianOperator(model, [tokens()], loss=past_its_mask)
    ls.detach(model)
    budget = {"score": "gradient", "count": 5, "batches": [tokens()]}
    assert ls.select_mask(model, loss=language_loss, **budget).count == 5
    with pytest.raises(UserError, match="as its module's attribute"):
        ls.select_mask(model, loss=past_its_mask, **budget)
    assert not ls.subspace.is_attached(model)


def test_an_embedding_that_renormalises_itself_is_refused() -> None:
    model = nn.ModuleDict({"e": nn.Embedding(8, 4, max_norm=1.0)})
    with pytest.raises(UserError, match="max_norm"):
        masked(model, "e")


# --- settings -----------------------------------------------------------------------------------


def test_a_model_made_under_inference_mode_is_refused_and_one_attached_there_trains() -> None:
    with torch.inference_mode():
        model = plain()
    with pytest.raises(UserError, match="inference_mode"):
        masked(model)
    usual = plain()
    with torch.inference_mode():
        masked(usual)
        usual(torch.ones(1, 6))
    usual(torch.ones(1, 6)).sum().backward()
    assert all(t.grad is not None for t in ls.trainable(usual).values())


def test_a_mask_is_attached_before_a_model_is_wrapped_and_reached_through_the_wrapper() -> None:
    model = plain()
    for wrapper in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        with pytest.raises(UserError, match="attach the mask first, then wrap or compile"):
            masked(wrapper)
    masked(model)
    for wrapper in (nn.DataParallel(model), torch.compile(nn.DataParallel(model))):
        assert ls.trainable(wrapper).keys() == ls.trainable(model).keys()
    ls.detach(wrapper)
    assert not ls.subspace.is_attached(model)


def test_a_scripted_model_is_refused() -> None:
    with pytest.warns(DeprecationWarning, match="script"):
        model = torch.jit.script(plain())
    with pytest.raises(UserError, match=r"torch\.jit"):
        ls.attach(model, ls.random_mask(plain(), density=0.5, targets="0"))


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
def test_a_masked_linear_layer_takes_the_arguments_of_a_plain_one(kind) -> None:
    from transformers.pytorch_utils import Conv1D

    layer, named = (nn.Linear(6, 5), "input") if kind == "Linear" else (Conv1D(5, 6), "x")
    model = masked(nn.ModuleDict({"l": layer}), "l")
    x = torch.randn(2, 6)
    assert torch.equal(layer(**{named: x}), layer(x))
    for positional, keywords in (((x, x), {}), ((x,), {"other": 1}), ((), {"wrong": x}), ((), {})):
        with pytest.raises(TypeError) as ours:
            layer(*positional, **keywords)
        ls.detach(model)
        with pytest.raises(TypeError) as theirs:
            layer(*positional, **keywords)
        masked(model, "l")
        count = lambda error: str(error.value).split("()")[-1]  # noqa: E731
        assert count(ours) == count(theirs)


def test_a_copy_of_a_part_of_an_attached_model_is_whole_but_gets_no_mask_of_its_own() -> None:
    model, _ = attached(case_of("llama"))
    spread(model)
    part = copy.deepcopy(model.model)
    wanted = model.model(input_ids=tokens()).last_hidden_state
    assert torch.equal(part(input_ids=tokens()).last_hidden_state, wanted)
    with pytest.raises(UserError, match="belongs to a model that has one"):
        masked(part, "*.k_proj")


# --- indices by hand ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("indices", "words"),
    [(torch.tensor([7, 3, 5]), "in ascending order"), (torch.tensor([3, 3, 5]), "each once"),
     (torch.tensor([3, 5], dtype=torch.int32), "int64 of shape"),
     (torch.tensor([3.0, 5.0]), "int64 of shape"), (torch.ones(30).bool(), "int64 of shape"),
     (torch.tensor([[3, 5]]), "int64 of shape"), (torch.tensor([-1, 5]), "from 0 to 29"),
     (torch.tensor([3, 30]), "from 0 to 29")],
)  # fmt: skip
def test_indices_that_kernels_would_misread_are_refused_and_the_model_stays_plain(
    indices, words
) -> None:
    model, before = plain(), bits(plain())
    shapes = {"0.weight": (5, 6), "2.weight": (6, 5)}
    mask = ls.Mask({"0.weight": torch.tensor([1, 2]), "2.weight": indices}, shapes, 71)
    with pytest.raises(UserError, match=words):
        ls.attach(model, mask)
    assert all(p.requires_grad for p in model.parameters())
    assert {n: p.shape for n, p in model.named_parameters()} == {
        n: b.shape for n, b in before.items()
    }
