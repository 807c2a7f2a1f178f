"""The cases of `rates`: what is trained, and which grids of learning rates are swept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from landscape.sweep.grid import Grid

EVIDENCE = "experiments.measurements.predictor:EVIDENCE"
LOSSES = "experiments.measurements.predictor:LOSSES"
BERT_ATTENTION = ("*.attention.self.query", "*.attention.self.value")
SGD = {"optimizer": "sgd", "max_gradient_norm": 1e9}
"""Plain steps, whose gradients are as good as never clipped.

Those published for preset local took the examples in another order than `finetune` does today, as
their provenance says: the same run made again differs by more than rounding.
"""


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
    #: score that chooses the weights; none: a random mask
    score: str = ""
    #: ratios with SGD, and the sharpness there that evidence found; each multiple is a rate in
    #: units of 2 / sharpness
    sgd: Mapping[float, float] = field(default_factory=dict)
    sgd_multiples: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)

    def shared(self) -> dict[str, Any]:
        """Return what the runs of the case share and no other case's do."""
        if not self.score:
            return {"model": self.model, "targets": self.targets, "head": self.head}
        return {"model": self.model, "targets": self.targets, "head": self.head,
                "method": self.score, "options": {"examples": 64, "batch_size": 4}}  # fmt: skip

    def grids(
        self, setting: Mapping[str, Any], seeds: tuple[int, ...], examples: int
    ) -> list[Grid]:
        """List the start, and of each optimizer its runs, and what predicts its rates.

        Args:
            setting: what all cases share.
            seeds: of those that the case has.
            examples: of the training split that the predictor sees.
        """
        seed = {"seed": [s for s in self.seeds if s in seeds]}
        start = {"model": self.model, "head": self.head, "method": "none"}
        found = [Grid({**setting, **start}, seed, measure={LOSSES: {}})]
        adamw = {r: [_digits(m / r) for m in self.rate_times_ratio] for r in self.ratios}
        sgd = {
            r: [_digits(m * (2 / top)) for m in self.sgd_multiples] for r, top in self.sgd.items()
        }
        for optimizer, settings, rates in (("adamw", {}, adamw), ("sgd", SGD, sgd)):
            if not rates:
                continue
            shared = {**setting, **self.shared(), "settings": settings}
            every = [(r, lr) for r, tried in rates.items() for lr in tried]
            middle = [(r, tried[len(tried) // 2]) for r, tried in rates.items()]
            asked = {EVIDENCE: {"examples": examples, "optimizer": optimizer}}
            found += [
                Grid(shared, {"ratio+lr": every, **seed}, measure={LOSSES: {}}),
                Grid(shared, {"ratio+lr": middle, **seed}, measure=asked),
            ]
        return found


def _digits(rate: float) -> float:
    return float(f"{rate:.3g}")


def case_of(record: Mapping[str, Any]) -> str:
    """Return the name of the case of a run that trains, or the model where it is nobody's."""
    asked = (record["model"], tuple(record["targets"]), record["head"], record["method"])
    for name, case in CASES.items():
        if asked == (case.model, case.targets, case.head, case.score or "random"):
            return name
    return str(record["model"])


DECADES = (1e-2, 1e-3, 1e-4, 1e-5)
HALF_DECADES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
WIDE = (3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4)
CASES: dict[str, Case] = {
    "encoder": Case(
        "minilm-l6", BERT_ATTENTION, HALF_DECADES, WIDE, seeds=(0, 1, 2),
        sgd={1e-2: 1.224, 1e-3: 0.103582, 1e-4: 0.00987962, 1e-5: 0.0184587},
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
        "minilm-l6", ("auto",), (1e-3,), (1e-5, 1e-4), sgd={1e-3: 0.1}, sgd_multiples=(0.3,)
    ),
    "opt": Case(
        "facebook/opt-125m", ("*.[qv]_proj",), (1e-1, *HALF_DECADES), WIDE, seeds=(0, 1, 2)
    ),
}  # fmt: skip
