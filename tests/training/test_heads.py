"""Heads: a linear probe on the pretrained features, at the minimum of its loss."""

from __future__ import annotations

import pytest
import torch

import landscape as ls


def test_the_head_of_an_encoder_is_the_minimum_of_the_penalised_loss() -> None:
    model = ls.tiny_model("bert", initializer_range=0.2).double()
    tokenizer = ls.tiny_tokenizer()
    words = (" terrible", " great")
    examples = [ls.Example(f"a film number {i * i} It was", words, i % 3 % 2) for i in range(12)]
    batches = ls.make_batches(examples, tokenizer, 5)
    ls.fit_head(model, batches, penalty=0.1)
    losses, counts = zip(*(ls.task_loss(model, batch) for batch in batches))
    weight, bias = model.classifier.weight, model.classifier.bias
    loss = torch.stack(losses).sum() / sum(counts) + 0.05 * weight.square().sum()
    gradient = torch.autograd.grad(loss, [weight, bias])
    assert max(float(g.abs().max()) for g in gradient) < 1e-5
    assert float(weight.detach().abs().max()) > 1e-3


def test_a_model_without_a_classifier_has_no_head_to_fit() -> None:
    with pytest.raises(
        ls.UserError, match="got LlamaForCausalLM; load an encoder with num_labels="
    ):
        ls.fit_head(ls.tiny_model("llama"), [])
