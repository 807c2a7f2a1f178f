"""What a pack cannot be made of, each said in a sentence of its own."""

from __future__ import annotations

import pytest
import torch
from headed import Headed
from pack_cases import TOKENIZER
from samples import tiny_task
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.training.packed import why_not
from landscape.training.packed.pack import Pack

pytestmark = pytest.mark.filterwarnings("ignore:expected splits")


def lane_on(model: nn.Module, task: ls.Task | None = None, **own) -> ls.Lane:
    mask = ls.random_mask(model, ratio=1e-2)
    return ls.Lane(task or tiny_task(10), mask=mask, lr=1e-2, **own)


def opt(**config) -> nn.Module:
    return ls.tiny_model("opt", vocab_size=len(TOKENIZER), **config)


def test_a_tied_tensor_of_its_own_is_refused() -> None:
    model = opt()
    own = {"lm_head.weight": torch.ones(model.lm_head.weight.shape)}
    assert "tied to another tensor" in why_not(model, lane_on(model, values=own))


def test_a_lane_refuses_indices_that_do_not_ascend() -> None:
    mask = ls.random_mask(opt(), ratio=1e-2)
    name = max(mask.indices, key=lambda n: mask.indices[n].numel())
    other = ls.Mask({**mask.indices, name: mask.indices[name].flip(0)}, mask.shapes, 1000)
    with pytest.raises(UserError, match="in ascending order"):
        ls.Lane(tiny_task(10), mask=other, lr=1e-2)


def test_a_hook_on_a_masked_layer_is_refused_and_one_elsewhere_is_not() -> None:
    model = opt()
    lane, layer = lane_on(model), model.model.decoder.layers[0]
    layer.fc1.register_forward_hook(lambda *_: None)
    assert why_not(model, lane) is None
    layer.self_attn.q_proj.register_forward_pre_hook(lambda *_: None)
    assert "in a module with hooks" in why_not(model, lane)


def test_images_are_refused() -> None:
    case = Headed("images", "vit")
    model = case.model()
    assert "are images" in why_not(model, lane_on(model, case.task()))


def test_wrapped_models_and_those_of_peft_are_refused() -> None:
    model = opt()
    lane = lane_on(model)
    assert "wrapped in DataParallel" in why_not(nn.DataParallel(model), lane)
    model.peft_config = {}
    assert "peft" in why_not(model, lane)


def test_layers_dropped_whole_are_refused() -> None:
    model = opt(layerdrop=0.1)
    assert "whole layers are dropped" in why_not(model, lane_on(model))


def test_an_encoder_decoder_is_refused_where_it_drops_out_alone() -> None:
    sized = {"vocab_size": len(TOKENIZER)}
    for rate in (0.0, 0.1):
        model = ls.tiny_model("t5", dropout_rate=rate, **sized)
        reason = why_not(model, lane_on(model))
        assert reason is None if rate == 0 else "rows of two lengths" in reason


def test_a_masked_norm_is_refused() -> None:
    model = opt()
    name = "model.decoder.layers.0.final_layer_norm.weight"
    size = sum(p.numel() for p in model.parameters())
    mask = ls.Mask({name: torch.tensor([1, 3])}, {name: (32,)}, size)
    reason = why_not(model, ls.Lane(tiny_task(10), mask=mask, lr=1e-2))
    assert reason == f"{name} is a masked weight of LayerNorm"


@pytest.mark.parametrize("other", ["kind", "loss", "autocast"])
def test_lanes_of_another_kind_loss_or_precision_are_refused_together(other: str) -> None:
    model, examples = opt(), tiny_task(10).train
    answers = tuple(ls.Completion(e.prompt, ("good",)) for e in examples)
    likely = {"loss": "language modelling"}
    tasks = {
        "kind": ls.Task("tiny", answers, answers, answers, "exact_match"),
        "loss": ls.Task("tiny", examples, examples, examples, **likely),
        "autocast": tiny_task(10),
    }
    first = tasks["loss"] if other == "kind" else tiny_task(10)  # of kinds, the loss is one
    own = {"autocast": "bf16"} if other == "autocast" else {}
    lanes = [lane_on(model, first), lane_on(model, tasks[other], **own)]
    with pytest.raises(UserError, match="share the kind of examples, the loss and autocast"):
        ls.finetune_packed(model, TOKENIZER, lanes)


class Reading(nn.Module):
    """Multiplies by a layer's weight without calling the layer."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.inner = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.inner.weight, self.inner.bias)


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("others", [(), ("*.v_proj",)])
def test_a_masked_layer_whose_weight_is_read_without_calling_it_is_refused_at_the_first_step(
    stacked: bool, others: tuple[str, ...]
) -> None:
    model = opt()
    for layer in model.model.decoder.layers:
        layer.self_attn.q_proj = Reading(layer.self_attn.q_proj)
    mask = ls.random_mask(model, density=0.1, targets=["*.q_proj.inner", *others])
    lanes = [ls.Lane(tiny_task(10), mask=mask, lr=1e-2) for _ in range(2)]
    pack = Pack(model, TOKENIZER, lanes, stacked=stacked)
    with pytest.raises(UserError, match=r"model calls, got model\.decoder.*q_proj\.inner, whose"):
        pack.step()
