"""Table 2 of Xu & Zhang 2024: masks on the MLP layers of an image encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart
from experiments.kit.presets import SMOKE
from experiments.kit.records import Record
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from experiments.random_masking.exponents import grows
from experiments.random_masking.grids import (
    DEVICES,
    METHODS,
    OWN,
    baselines,
    masks,
    named,
    rates_of,
)  # fmt: skip
from landscape.sweep.grid import Grid

MLP = ("*.mlp.fc1", "*.mlp.fc2")
LOCAL = {"model": "dinov2-small-56px", "task": "mnist", "targets": MLP, "epochs": 2}
RATIOS: Mapping[str, tuple[float, ...]] = {
    "smoke": (1e-2, 1e-3), "local": (1e-2, 1e-3, 1e-4), "paper": (1e-2, 1e-3, 1e-4),
}  # fmt: skip
#: task -> training and test examples of the official splits; 2000 steps of 128 in whole epochs
IMAGES: Mapping[str, tuple[int, int]] = {
    "cifar10": (45_000, 10_000), "gtsrb": (24_000, 12_630), "mnist": (55_000, 10_000),
    "svhn": (68_000, 26_032), "resisc45": (17_000, 6300),
}  # fmt: skip
ACCURATE = "masks", "LoRA", "full fine-tuning", "before training"
PRINTED = {
    value: beside("random_masking", "table 2", "method", "ratio", value=value, task="mnist")
    for value in ("score", "lr")
}


def case(preset: str) -> list[Mapping[str, Any]]:
    """Return what the runs of a preset share; the smoke preset is text, for want of images."""
    if preset == "smoke":
        return [{**SMOKE, "targets": ("*.intermediate.dense", "*.output.dense")}]
    if preset == "local":
        return [LOCAL]
    from landscape.tasks.protocol import reference_settings

    found: list[Mapping[str, Any]] = []
    for task, (train, test) in IMAGES.items():
        settings = reference_settings(task)
        found.append({
            "model": "openai/clip-vit-base-patch16", "task": task, "num_train": train,
            "num_test": test, "targets": tuple(f"vision_model.{layer}" for layer in MLP),
            "batch_size": settings.pop("batch_size"), "epochs": round(2000 * 128 / train),
            "settings": settings,
        })  # fmt: skip
    return found


def grids(preset: str) -> Sequence[Grid]:
    """Return masks on the MLP layers, LoRA on the same, and full fine-tuning.

    Masks are there at the first seed's rate, as the others, and at every seed's own.
    """
    own = replace(rates_of(preset, "random"), every_seed=True)
    return [
        grid for shared in case(preset)
        for grid in (
            masks(preset, shared, ratios=RATIOS[preset]),
            masks(preset, shared, ratios=RATIOS[preset], rates=own),
            *baselines(preset, shared, ("none", "full", "lora")),
        )
    ]  # fmt: skip


def derive(record: Record) -> Mapping[str, Any]:
    """Tell masks at every seed's own rate from those at the first seed's."""
    return {"arm": OWN} if record["every_seed"] else named(record)


def printed(value: str) -> columns.Lookup:
    """Return the paper's number of the same method and ratio on MNIST."""

    def look(record: Record) -> float | None:
        return PRINTED[value](record | {"method": METHODS.get(record["arm"], "random")})

    return look


ARTEFACT = Artefact(
    name="table2",
    title="Masks on the MLP layers of an image encoder",
    source="Xu & Zhang 2024, table 2",
    grids=grids,
    derive=derive,
    tables={
        "Results": columns.Table(
            by=("model", "task", "arm", "ratio"),
            columns={
                "trainable": columns.count(), "accuracy": columns.mean_std("test"),
                "rate": columns.rate(), "seeds": columns.seeds(),
                "device": columns.first("device"),
                "paper (CLIP, MNIST)": columns.paper(printed("score")),
                "its rate": columns.paper(printed("lr"), "g"),
            },
        ),
    },
    statements={
        "full": statements.better(
            "masks of ratio 1e-3 on images lose less than a point to full fine-tuning", "test",
            "masks", "full fine-tuning", by=-0.01, where={"ratio": 1e-3},
        ),
        "lora": statements.better(
            "masks of ratio 1e-3 on images lose less than a point to LoRA on the same layers",
            "test", "masks", "LoRA", by=-0.01, where={"ratio": 1e-3},
        ),
        "rates": grows(
            "the best rate on images grows as the ratio falls", by_seed=True,
            paper="-1 on four of five sets", where={"arm": OWN},
        ),
    },
    panels=apart(
        panels.curve("test", "Accuracy", "test accuracy", where={"arm": ACCURATE}),
        panels.curve("lr", "Rate chosen on dev", "learning rate", log=True, law=-1.0,
                     where={"arm": (OWN, "LoRA", "full fine-tuning")}),
        panels.curve("distance", "Distance", "distance to initialisation", log=True,
                     where={"arm": ("masks", "LoRA", "full fine-tuning")}),
    ),
    lead=(
        "Random masks on the MLP layers of an image encoder, where the text experiments have them "
        "on query and value, beside LoRA on the same layers and full fine-tuning."
    ),
    caption="Accuracy, rate and distance over the ratio; points are seeds",
    differences=(
        ("model {model}, images of 56 pixels; the paper's is CLIP ViT-B/16 at 224",
         "a quarter of the weights, a twelfth of the patches"),
        ("a head fitted to the training examples on pretrained features, then frozen; the paper's "
         "is made of CLIP's own texts", "both are fixed during training"),
        ("{num_train} training examples, {epochs} epochs of batches of {batch_size}, constant "
         "rate; the paper takes the whole split, 2000 steps of 128, a cosine and weight decay 0.1",
         "levels are lower"),
        ("accuracies are at the rate that the first seed chose on dev, of every method; the rate's "
         "exponent is of masks whose every seed chose its own", "the paper does not say"),
        DEVICES,
    ),
    needs=("peft",),
)  # fmt: skip
