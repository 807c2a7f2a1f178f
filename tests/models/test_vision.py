"""An image model: read from an export and from a folder, with its processor, under a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import landscape as ls
from landscape.errors import UserError
from landscape.models import PACKAGED
from landscape.models.targets import target_shapes
from landscape.models.vision import backbone

SIZES = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip


def exported() -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Return the constants and the nodes' inputs of an export, with the exporter's names."""
    generator = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    held = {
        "backbone.embeddings.cls_token": drawn(1, 1, 24),
        "backbone.embeddings.patch_embeddings.projection.weight": drawn(24, 3, 14, 14),
        "backbone.layernorm.weight": drawn(24),
        "backbone.encoder.layer.0.mlp.fc1.bias": drawn(96),
        "onnx::MatMul_7": drawn(24, 96),
        "onnx::MatMul_3": drawn(24, 24),
        "onnx::Reshape_9": drawn(1, 4, 24),
        "onnx::Concat_8": drawn(1, 1, 24),
        "decoder.bn1.weight": drawn(5),
    }
    inputs = {
        "/backbone/encoder/layer.0/mlp/fc1/MatMul": ["x", "onnx::MatMul_7"],
        "/backbone/encoder/layer.0/attention/attention/query/MatMul": ["x", "onnx::MatMul_3"],
        "/backbone/encoder/layer.0/attention/attention/MatMul": ["q", "k"],
        "/backbone/Constant": [],
    }
    return held, inputs


def test_an_exports_weights_get_the_names_and_the_orientation_that_transformers_reads() -> None:
    held, inputs = exported()
    weights = backbone(held, inputs, "a file")
    fc1 = weights["encoder.layer.0.mlp.fc1.weight"]
    assert torch.equal(fc1, torch.from_numpy(held["onnx::MatMul_7"]).T)
    assert weights["encoder.layer.0.attention.attention.query.weight"].shape == (24, 24)
    positions = weights["embeddings.position_embeddings"]
    assert torch.equal(positions[0, :1], torch.from_numpy(held["onnx::Concat_8"])[0])
    assert torch.equal(positions[0, 1:], torch.from_numpy(held["onnx::Reshape_9"])[0])
    assert not any("decoder" in name or "onnx" in name for name in weights)
    assert all(tensor.is_contiguous() for tensor in weights.values())


def test_an_export_of_something_else_is_refused() -> None:
    held, inputs = exported()
    del held["onnx::Reshape_9"]
    with pytest.raises(UserError, match="DINOv2 backbone in a file, got 8 constants"):
        backbone(held, inputs, "a file")


def test_a_folder_of_an_image_classifier_loads_with_its_processor(tmp_path: Path) -> None:
    config = transformers.Dinov2Config(**SIZES, num_labels=3)
    made = transformers.Dinov2ForImageClassification(config).eval()
    made.save_pretrained(tmp_path)
    transformers.BitImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    ).save_pretrained(tmp_path)
    model, processor = ls.load_model(tmp_path, num_labels=3)
    pixels = processor(np.zeros((40, 60, 3), np.uint8), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 28, 28)
    assert not model.training
    mask = ls.random_mask(model, density=0.2, targets="auto", seed=0)
    assert len(mask.shapes) == 4
    ls.attach(model, mask)
    with torch.no_grad():
        assert torch.equal(model(pixel_values=pixels).logits, made(pixel_values=pixels).logits)
        for theta in ls.trainable(model).values():
            theta.add_(0.5)
        assert not torch.equal(model(pixel_values=pixels).logits, made(pixel_values=pixels).logits)


@pytest.mark.skipif(
    not PACKAGED["dinov2-small"].pinned.installed(),
    reason=f"the model package is not installed: {PACKAGED['dinov2-small'].install}",
)
def test_the_packaged_image_encoder_is_masked_on_its_queries_and_values(tmp_path: Path) -> None:
    model, _ = ls.load_model("dinov2-small", num_labels=10, seed=0, cache=tmp_path)
    assert len(target_shapes(model, "auto")) == 24
    ls.attach(model, ls.random_mask(model, ratio=1e-4, targets="auto", seed=0))
    assert model(pixel_values=torch.zeros(1, 3, 224, 224)).logits.shape == (1, 10)
    bare, processor = ls.load_model("dinov2-small", cache=tmp_path)
    pixels = processor(np.zeros((40, 60, 3), np.uint8), return_tensors="pt")["pixel_values"]
    assert bare(pixel_values=pixels).pooler_output.shape == (1, 384)
