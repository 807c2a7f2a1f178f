"""A head that is fitted: found by what it does, at the minimum of the penalised loss."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

import landscape as ls
from landscape.errors import UserError

TEXT = {"vocab_size": 261, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16}  # fmt: skip
#: architecture -> its configuration, and the head's name
MODELS = {
    "Bert": ({**TEXT, **SIZE}, "classifier"),
    "Roberta": ({**TEXT, **SIZE}, "classifier.out_proj"),
    "DebertaV2": ({**TEXT, **SIZE}, "classifier"),
    "DistilBert": ({**TEXT, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16},
                   "classifier"),
    "GPT2": ({**TEXT, "n_embd": 16, "n_layer": 1, "n_head": 2}, "score"),
    "Llama": ({**TEXT, **SIZE}, "score"),
    "OPT": ({**TEXT, "hidden_size": 16, "word_embed_proj_dim": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2, "ffn_dim": 16}, "score"),
}  # fmt: skip


def classifier(kind: str, **options) -> nn.Module:
    config = getattr(transformers, f"{kind}Config")(**{**MODELS[kind][0], "num_labels": 2})
    config.update(options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
        for p in model.parameters():
            if p.dim() == 2:  # wider than a fresh model's, so that texts differ at the head
                nn.init.normal_(p, std=0.3)
    return model.eval()


def texts() -> list[dict[str, torch.Tensor]]:
    """Texts of three lengths, padded, whose labels are single tokens."""
    words = ("bad", "good")
    examples = [
        ls.Example(
            prompt=f"film {i % 5} is {words[i % 2]}" + " and" * (i % 3),
            candidates=(" terrible", " great"),
            label=i % 2,
        )
        for i in range(11)
    ]
    return ls.make_batches(examples, ls.tiny_tokenizer(), 5)


def mean_loss(model: nn.Module, batches) -> torch.Tensor:
    sums, counts = zip(*(ls.losses.default_loss(model, batch) for batch in batches))
    return sum(sums) / sum(counts)


@pytest.mark.parametrize("kind", MODELS)
def test_the_gradient_of_the_penalised_loss_by_a_fitted_head_is_zero(kind) -> None:
    """By autograd through the whole model: whatever the head is called, whatever token it reads."""
    model = classifier(kind).double()
    batches = texts()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    ls.fit_head(model, batches, penalty=0.02)
    head = model.get_submodule(MODELS[kind][1])
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {f"{MODELS[kind][1]}.{n}" for n, _ in head.named_parameters()}
    total = mean_loss(model, batches) + 0.01 * head.weight.square().sum()
    for gradient in torch.autograd.grad(total, list(head.parameters())):
        assert float(gradient.abs().max()) < 1e-5  # L-BFGS stops at 1e-6 in float64
    assert float(mean_loss(model, batches).detach()) < 0.68
    assert torch.is_grad_enabled()


def test_an_image_classifiers_head_is_fitted_on_dicts_of_its_arguments() -> None:
    model = ls.tiny_model("vit").double()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(9, 3, 16, 16, generator=generator, dtype=torch.float64)
    labels = torch.arange(9) % 3
    batches = [{"pixel_values": pixels[:4], "labels": labels[:4]},
               {"pixel_values": pixels[4:], "labels": labels[4:]}]  # fmt: skip
    ls.fit_head(model, batches, penalty=0.1)
    total = mean_loss(model, batches) + 0.05 * model.classifier.weight.square().sum()
    gradient = torch.autograd.grad(total, list(model.classifier.parameters()))
    assert max(float(g.abs().max()) for g in gradient) < 1e-5


def test_a_head_below_a_classification_head_is_found() -> None:
    config = transformers.BartConfig(
        **TEXT, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_labels=2,
        decoder_start_token_id=2, forced_eos_token_id=2,
    )  # fmt: skip
    model = transformers.BartForSequenceClassification(config).eval().double()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 200, (6, 5), generator=generator)
    ids[:, -1] = 2  # the token that its head reads
    batches = [{"input_ids": ids, "labels": torch.arange(6) % 2}]
    ls.fit_head(model, batches, penalty=0.1)
    head = model.classification_head.out_proj
    total = mean_loss(model, batches) + 0.05 * head.weight.square().sum()
    assert (
        max(float(g.abs().max()) for g in torch.autograd.grad(total, list(head.parameters())))
        < 1e-5
    )


def test_the_last_of_many_layers_with_as_many_outputs_as_labels_is_the_head() -> None:
    """A body as wide as there are labels: all of its attention is."""
    config = transformers.BertConfig(**TEXT, **SIZE, num_labels=16)
    model = transformers.BertForSequenceClassification(config).eval().double()
    ids = torch.randint(3, 200, (20, 5), generator=torch.Generator().manual_seed(0))
    batches = [{"input_ids": ids, "labels": torch.arange(20) % 16}]
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    ls.fit_head(model, batches)
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_a_head_that_is_all_zero_is_fitted_at_the_token_that_it_reads() -> None:
    """All its outputs are the same then: the token cannot be told by its logits."""
    batches = texts()
    ends = []
    for zero in (False, True):
        model = classifier("GPT2").double()
        if zero:
            nn.init.zeros_(model.score.weight)
        ls.fit_head(model, batches)
        ends.append(model.score.weight.detach())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-6, atol=1e-9)


class ScaledForSequenceClassification(transformers.BertForSequenceClassification):
    """Its logits are twice what its last linear layer gives, and one more."""

    def forward(self, *args, labels=None, **given):
        found = super().forward(*args, **given)
        found.logits = 2 * found.logits + 1
        return found


def test_a_model_without_a_linear_head_is_refused_by_its_name() -> None:
    batches = texts()
    model = ls.tiny_model("llama")
    with pytest.raises(UserError, match=r"got LlamaForCausalLM .*num_labels="):
        ls.fit_head(model, batches)
    config = transformers.BertConfig(**TEXT, **SIZE, num_labels=2)
    scaled = ScaledForSequenceClassification(config).eval()
    before = scaled.classifier.weight.detach().clone()
    with pytest.raises(UserError, match=r"Scaled.* with logits that are no sum"):
        ls.fit_head(scaled, batches)
    assert torch.equal(scaled.classifier.weight, before)
    with pytest.raises(UserError, match="at least one batch"):
        ls.fit_head(scaled, [])


def test_a_head_is_fitted_without_dropout_and_the_model_stays_in_its_mode() -> None:
    still, trained = classifier("Bert"), classifier("Bert").train()
    assert any(isinstance(m, nn.Dropout) and m.p for m in trained.modules())
    for model in (still, trained):
        ls.fit_head(model, texts())
    torch.testing.assert_close(trained.classifier.weight, still.classifier.weight)
    assert all(module.training for module in trained.modules())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_head_in_half_precision_is_fitted_in_a_wider_one(dtype) -> None:
    model = classifier("Bert").to(dtype)
    ls.fit_head(model, texts())
    wide = classifier("Bert").to(dtype).float()
    ls.fit_head(wide, texts())
    assert model.classifier.weight.dtype == dtype
    error = (model.classifier.weight.float() - wide.classifier.weight).norm()
    assert error < 0.05 * wide.classifier.weight.norm()
