"""CLIP with a fixed head of texts: its own logits, and all that a masked classifier can do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from samples import model_folder

import landscape as ls
from landscape.errors import UserError
from landscape.identity import base_digests, fingerprint
from landscape.models.kinds import kind, labels_of
from landscape.models.tensors import num_parameters

CLASSES = ("cat", "dog", "aeroplane")
MLP = ["*.mlp.fc1", "*.mlp.fc2"]


def clip() -> Any:
    return ls.tiny_model("clip", seed=3).double()


def images(count: int = 4, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(count, 3, 16, 16, generator=generator).to(dtype)
    return {"pixel_values": pixels, "labels": torch.arange(count) % 3}


def made(templates: tuple[str, ...] = ("a photo of a {}.",)) -> Any:
    return ls.zero_shot_classifier(clip(), ls.tiny_tokenizer(), CLASSES, templates)


def text_features(model: Any, text: str) -> torch.Tensor:
    ids = torch.tensor([ls.tiny_tokenizer()(text).input_ids])
    features = model.get_text_features(ids).pooler_output[0]
    return features / features.square().sum().sqrt()


def test_logits_of_one_template_are_clips_own() -> None:
    model, batch = clip(), images()
    texts = [f"a photo of a {name}." for name in CLASSES]
    tokens = ls.tiny_tokenizer()(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask,
            pixel_values=batch["pixel_values"],
        ).logits_per_image  # fmt: skip
        out = made()(**batch)
    torch.testing.assert_close(out.logits, expected, rtol=1e-12, atol=1e-12)
    loss = torch.nn.functional.cross_entropy(expected, batch["labels"])
    torch.testing.assert_close(out.loss, loss)
    assert expected.std(dim=1).min() > 1e-4, "the classes differ"


def test_several_templates_are_averaged_as_unit_vectors_one_unpadded_text_at_a_time() -> None:
    templates, model, batch = ("a {}.", "a drawing of one {}. ", "{} {}."), clip(), images()
    with torch.no_grad():
        head = []
        for name in CLASSES:
            each = [text_features(model, t.replace("{}", name)) for t in templates]
            mean = sum(each) / 3
            head.append(mean / mean.norm())
        seen = model.get_image_features(batch["pixel_values"]).pooler_output
        cosines = (seen / seen.norm(dim=1, keepdim=True)) @ torch.stack(head).t()
        logits = made(templates)(batch["pixel_values"]).logits
    torch.testing.assert_close(logits, model.logit_scale.exp() * cosines, rtol=1e-9, atol=1e-9)


def test_many_texts_make_the_head_that_they_make_in_one_piece() -> None:
    templates = tuple(f"a picture, number {i}, of a {{}}." for i in range(40))
    whole = made(templates).class_embeddings
    alone = [
        ls.zero_shot_classifier(clip(), ls.tiny_tokenizer(), pair, templates).class_embeddings
        for pair in (CLASSES[:2], CLASSES[1:])
    ]
    torch.testing.assert_close(whole[:2], alone[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(whole[1:], alone[1], rtol=1e-9, atol=1e-9)


def test_it_is_an_image_classifier_whose_head_is_no_parameter() -> None:
    model, whole = made(), clip()
    assert kind(model) == "image classifier"
    assert labels_of(model) == 3
    assert model.config.id2label == {0: "cat", 1: "dog", 2: "aeroplane"}
    assert not any(name.startswith(("text", "class", "logit")) for name, _ in
                   model.named_parameters())  # fmt: skip
    towers = num_parameters(whole.vision_model) + num_parameters(whole.visual_projection)
    assert num_parameters(model) == towers


def test_the_vision_towers_mlps_are_masked_alone_and_theirs_is_the_dense_gradient() -> None:
    model, plain, batch = made(), made(), images()
    mask = ls.random_mask(model, density=0.1, targets=MLP, seed=1)
    assert len(mask.indices) == 4
    assert all(".mlp.fc" in name for name in mask.indices)
    plain.requires_grad_(True)(**batch).loss.backward()
    dense = dict(plain.named_parameters())
    ls.attach(model, mask)
    model(**batch).loss.backward()
    for name, theta in ls.trainable(model).items():
        wanted = dense[name].grad.reshape(-1)[mask.indices[name]]
        torch.testing.assert_close(theta.grad, wanted, rtol=1e-9, atol=1e-12)


def test_the_hessian_inside_its_mask_is_that_part_of_the_dense_one() -> None:
    model, plain, batch = made(), made(), images()
    mask = ls.random_mask(model, count=12, targets="*.layers.1.mlp.fc2", seed=1)
    ((name, chosen),) = mask.indices.items()
    weight = dict(plain.named_parameters())[name]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        (grad,) = torch.autograd.grad(plain(**batch).loss, weight, create_graph=True)
        rows = [
            torch.autograd.grad(g, weight, retain_graph=True)[0].reshape(-1)[chosen]
            for g in grad.reshape(-1)[chosen]
        ]
    ls.attach(model, mask)
    found = ls.exact_matrix(ls.HessianOperator(model, [batch]))
    scale = torch.stack(rows).abs().max()
    torch.testing.assert_close(found / scale, torch.stack(rows) / scale, rtol=0, atol=1e-9)


def test_a_delta_comes_back_on_the_same_classes_and_is_refused_on_others(tmp_path) -> None:
    model, batch = made().float(), images(dtype=torch.float32)
    ls.attach(model, ls.random_mask(model, density=0.1, targets=MLP, seed=1))
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.add_(0.3)
        expected = model(**batch).logits
    ls.save_delta(model, tmp_path / "d.safetensors")
    again = made().float()
    ls.load_delta(again, tmp_path / "d.safetensors")
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, expected)
    other = ls.zero_shot_classifier(clip(), ls.tiny_tokenizer(), ("cat", "dog", "cow")).float()
    with pytest.raises(UserError, match="class_embeddings"):
        ls.load_delta(other, tmp_path / "d.safetensors")
    assert fingerprint(base_digests(made())) != fingerprint(base_digests(other.double()))


def test_it_is_saved_and_read_back_with_its_head_merged_or_not(tmp_path) -> None:
    model, batch = made().float(), images(dtype=torch.float32)
    ls.attach(model, ls.random_mask(model, density=0.1, targets=MLP, seed=1))
    with torch.no_grad():
        for theta in ls.trainable(model).values():
            theta.add_(0.3)
    merged: Any = ls.merge(model)
    model_folder(tmp_path, "clip")
    (tmp_path / "model.safetensors").unlink()
    merged.save_pretrained(tmp_path)
    for given in ({}, {"num_labels": 3}):
        read, processor = ls.load_model(tmp_path, **given)
        with torch.no_grad():
            assert torch.equal(read(**batch).logits, merged(**batch).logits)
        assert read.config.id2label[2] == "aeroplane"
        assert hasattr(processor, "image_mean")
    with pytest.raises(UserError, match="expected num_labels=3"):
        ls.load_model(tmp_path, num_labels=4)
    with pytest.raises(UserError, match="expected the fixed head of the zero-shot classifier"):
        ls.load_model(tmp_path, num_labels=4, new_head=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_of_clip_becomes_the_classifier_by_its_classes(tmp_path, dtype) -> None:
    folder = model_folder(tmp_path, "clip")
    whole, processor = ls.load_model(folder, dtype=dtype)
    model, images_only = ls.load_model(folder, classes=CLASSES, templates=["one {}."], dtype=dtype)
    expected = ls.zero_shot_classifier(whole, processor.tokenizer, CLASSES, ["one {}."])
    batch = images(dtype=dtype)
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, expected(**batch).logits)
    assert {p.dtype for p in model.parameters()} == {dtype} == {model.class_embeddings.dtype}
    pixels = images_only(torch.zeros(3, 20, 30), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("classes", "templates", "message"),
    [
        (["cat"], ["{}"], "at least two different names, got .'cat',."),
        (["cat", "cat"], ["{}"], "got 'cat' twice"),
        (["cat", " "], ["{}"], "at least two different names"),
        ("cat", ["{}"], "expected classes to be a tuple of texts"),
        (["cat", "dog"], ["a photo"], "texts with {} in the place .* got the text 'a photo'"),
        (["cat", "dog"], [], "expected templates to be texts with {}"),
        (["cat", "d" * 600], ["{}"], "at most 512 tokens, .* got 601 in 'ddd"),
    ],
)
def test_classes_and_templates_that_cannot_be_are_refused(
    tmp_path, classes, templates, message
) -> None:
    with pytest.raises(UserError, match=message):
        ls.zero_shot_classifier(clip(), ls.tiny_tokenizer(), classes, templates)
    with pytest.raises(UserError, match=message):
        ls.load_model(model_folder(tmp_path, "clip"), classes=classes, templates=templates)


def test_another_model_than_clip_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match=r"expected model to be a CLIPModel .* got a ViTForImage"):
        ls.zero_shot_classifier(ls.tiny_model("vit"), ls.tiny_tokenizer(), CLASSES)
    with pytest.raises(UserError, match=r"expected a CLIP model in .* got vit; give one such as"):
        ls.load_model(model_folder(tmp_path, "vit"), classes=CLASSES)
    with pytest.raises(UserError, match="expected num_labels to be None with classes"):
        ls.load_model(tmp_path, classes=CLASSES, num_labels=3)
    with pytest.raises(UserError, match="expected classes to be None for minilm-l6"):
        ls.load_model("minilm-l6", classes=CLASSES)
