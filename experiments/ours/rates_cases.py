"""The cases of `rates`: what is trained, and which grids of learning rates are swept."""

from __future__ import annotations

from dataclasses import dataclass

BERT_ATTENTION = ("*.attention.self.query", "*.attention.self.value")


@dataclass(frozen=True)
class Case:
    """Say what is trained on which grid."""

    #: model: a packaged name, a hub name or a path
    model: str
    #: patterns of the masked modules
    targets: tuple[str, ...]
    #: ratios with AdamW; each multiple is a rate times the ratio
    ratios: tuple[float, ...]
    rate_times_ratio: tuple[float, ...]
    #: each seed draws its mask, its examples, their order, and a random head
    seeds: tuple[int, ...] = (0,)
    #: an encoder's head: fitted on the training examples, or random
    head: str = "fitted"
    #: score of `select_mask` that chooses the weights; none: a random mask
    score: str = ""
    #: ratios with SGD; each multiple is a rate in units of 2 / sharpness
    sgd_ratios: tuple[float, ...] = ()
    sgd_multiples: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)


DECADES = (1e-2, 1e-3, 1e-4, 1e-5)
HALF_DECADES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
WIDE = (3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4)
CASES: dict[str, Case] = {
    "encoder": Case(
        "minilm-l6", BERT_ATTENTION, HALF_DECADES, WIDE, seeds=(0, 1, 2), sgd_ratios=DECADES
    ),
    "encoder, random head": Case("minilm-l6", BERT_ATTENTION, DECADES, WIDE, head="random"),
    "encoder, all layers": Case("minilm-l6", ("bert.encoder.*.weight",), DECADES, WIDE),
    "encoder, last layer": Case("minilm-l6", ("bert.encoder.layer.5.*.weight",), DECADES[:3], WIDE),
    "encoder, largest gradients": Case(
        "minilm-l6", BERT_ATTENTION, DECADES[:3], (3e-8, 1e-7, *WIDE), score="gradient"
    ),
    "encoder, largest weights": Case(
        "minilm-l6", BERT_ATTENTION, DECADES[:3], WIDE, score="magnitude"
    ),
    "language model": Case(
        "smollm2-135m", ("*.[qv]_proj",), DECADES, (1e-6, 3e-6, 1e-5, 3e-5, 1e-4)
    ),
    "tiny": Case(
        "minilm-l6", BERT_ATTENTION, (1e-3,), (1e-5, 1e-4), sgd_ratios=(1e-3,), sgd_multiples=(0.3,)
    ),
    "opt": Case(
        "facebook/opt-125m", ("*.[qv]_proj",), (1e-1, *HALF_DECADES), WIDE, seeds=(0, 1, 2)
    ),
}
