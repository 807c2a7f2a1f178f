"""Table 1 of Agarwal et al. 2024 (ID3) in miniature: ways to choose the weights, equal budget.

The preset "paper" is the arms of its tables 1 to 3, on SST-2 at the larger budget.

Every arm starts from the same pretrained weights, has its own learning rate, tuned on dev with the
first seed, and is then run with every seed at that rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.id3 import grids as id3
from experiments.kit import columns, panels, statements
from experiments.kit.judge import Finding, settle
from experiments.kit.records import Record, grouped
from experiments.kit.statements import Statement
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from landscape.sweep.grid import Grid
from landscape.sweep.rates import Rates

COUNT = 36_864
CASE = {"model": "minilm-l6", "task": "rotten_tomatoes", "epochs": 1}
SIZES = {"smoke": (16, 8, 16), "local": (960, 300, 600)}
SEEDS = {"smoke": (0, 1), "local": (0, 1, 2)}
SMOKE = ("full", "LoRA", "random", "PaFi", "ID3 increment", "ID3 + LoRA")
ATTENTION = ("*.query", "*.value")
LORA, ADAPTER = {"rank": 4, "alpha": 8}, {"width": 3, "start": "near identity"}
#: four times the budget, under a mask. LoRA's B starts as zeros: over all tensors, PaFi would take
#: its first layers whole. SNIP's scores vanish where adapters start as the identity
ON_LORA = {"on": "lora", "rank": 16, "alpha": 32}
ON_ADAPTER = {"on": "adapter", "width": 15, "start": "near identity", "scope": "global"}
SEEN = {"scope": "global", "examples": 64}
ID3 = {"eps": 1.0, "exp": 2.0, "scope": "global"}
#: arm -> method, schedule, options
ARMS: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "full": ("full", "", {}), "BitFit": ("bitfit", "", {}), "LoRA": ("lora", "", LORA),
    "adapter": ("adapter", "", ADAPTER), "random": ("random", "", {"sampling": "exact"}),
    "magnitude": ("magnitude", "", {"scope": "global"}),
    "PaFi": ("magnitude_smallest", "", {"scope": "global"}), "SNIP": ("snip", "", SEEN),
    "Fisher": ("fisher", "", SEEN), "ID3 static": ("id3", "static", ID3),
    "ID3 repeat": ("id3", "repeat", ID3), "ID3 increment": ("id3", "increment", ID3),
    "PaFi + LoRA": ("magnitude_smallest", "", {**ON_LORA, "scope": "tensor"}),
    "ID3 + LoRA": ("id3", "increment", {**ID3, **ON_LORA}),
    "SparseAdapter": ("snip", "", {"examples": 64, **ON_ADAPTER}),
    "ID3 + adapter": ("id3", "increment", {**ID3, **ON_ADAPTER}),
}  # fmt: skip
#: arms with a size of their own; the others have exactly the budget
WHOLE = ("full", "BitFit", "LoRA", "adapter")
RATES: Mapping[str, tuple[float, ...]] = {
    "full": (1e-5, 3e-5, 1e-4, 3e-4), "BitFit": (1e-4, 3e-4, 1e-3, 3e-3),
    "inserted": (1e-3, 3e-3, 1e-2, 3e-2), "masks": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
}  # fmt: skip
#: DeBERTa-v3-base at 103K parameters; of masks on a LoRA 320K
BUDGETS: Mapping[str, int | None] = {
    "random": 103_000, "Fisher": 103_000, "PaFi": 103_000, "ID3 increment": 103_000,
    "BitFit": 103_000, "full": None, "LoRA": None, "PaFi + LoRA": None, "ID3 + LoRA": None,
}  # fmt: skip
LARGE = id3.LARGE["paper"]
OF_TABLES = (
    "full", "BitFit", "LoRA", "adapter", "random", "PaFi", "Fisher", "ID3, static",
    "ID3, repeated", "ID3", "PaFi + LoRA", "ID3 + LoRA", "SparseAdapter", "ID3 + adapter",
)  # fmt: skip
PRINTED = {t: beside("id3", t, "method", "count", "task") for t in ("table 1", "table 2")}
ORDERS = (
    *(("ID3 increment", other) for other in
      ("random", "PaFi", "Fisher", "BitFit", "ID3 static", "SNIP", "magnitude")),
    ("Fisher", "random"), ("PaFi", "random"), ("full", "ID3 increment"),
    ("ID3 increment", "ID3 repeat"), ("ID3 + LoRA", "PaFi + LoRA"), ("ID3 + LoRA", "LoRA"),
    ("ID3 + adapter", "SparseAdapter"), ("ID3 + adapter", "adapter"),
)  # fmt: skip
BEFORE = "before training"
ONE_SIZE = "every mask has the same number of scalars"


def grids(preset: str) -> Sequence[Grid]:
    """List the pretrained model, then every arm."""
    if preset == "paper":
        return id3.arms("paper", id3.deberta("sst2"), ("none", *OF_TABLES), (LARGE,))
    sizes = dict(zip(("num_train", "num_dev", "num_test"), SIZES[preset], strict=True))
    seeds = {"seed": SEEDS[preset]}
    found = [Grid({**CASE, **sizes, "method": "none"}, seeds)]
    for arm in ARMS if preset == "local" else SMOKE:
        method, schedule, options = ARMS[arm]
        one = {**CASE, **sizes, "method": method, "schedule": schedule, "options": options}
        inserted = arm in ("LoRA", "adapter") or "on" in options
        one["targets"] = ATTENTION if inserted else ("bert.encoder.*.weight",)
        if arm not in WHOLE:
            one["count"] = COUNT
        tried = RATES.get(arm, RATES["inserted" if inserted else "masks"])
        found.append(Grid(one, seeds, Rates(tried if preset == "local" else tried[1:2], widen=0)))
    return found


def derive(record: Record) -> Mapping[str, Any]:
    """Return the name of a record's arm."""
    asked = record["method"], record["schedule"], record["options"].get("on")
    known = {(m, s, options.get("on")): arm for arm, (m, s, options) in ARMS.items()}
    return {"arm": known.get(asked, BEFORE)}


def printed(task: str) -> columns.Lookup:
    """Return the paper's score of a record's arm on SST-2, or its average over GLUE."""

    def look(record: Record) -> float | None:
        if record["arm"] not in BUDGETS:
            return None
        inserted = record["arm"] == "LoRA" or "on" in record["options"]
        budget = LARGE if record.get("budget") == LARGE else BUDGETS[record["arm"]]
        place = {"method": record["method"], "count": budget, "task": task}
        return PRINTED["table 2" if inserted else "table 1"](place)

    return look


def _one_size(records: Sequence[Record]) -> Finding:
    """Compare the sizes of all masks."""
    sizes = {arm: own[0]["count"] for (arm,), own in grouped(records, "arm").items()}
    sizes.pop(BEFORE, None)
    masks = {arm: size for arm, size in sizes.items() if arm not in WHOLE}
    one = len(set(masks.values())) == 1
    said = f"all {next(iter(masks.values())):,}" if one else _listed(masks)
    whole = {arm: size for arm, size in sizes.items() if arm in WHOLE}
    return Finding(ONE_SIZE, settle(one), f"{said}; without a mask: {_listed(whole)}", kind="exact")


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{arm} {size:,}" for arm, size in sizes.items())


ARTEFACT = Artefact(
    name="selections",
    title="Which weights to train, at equal budget",
    source="Agarwal et al. 2024 (ID3), table 1",
    grids=grids,
    derive=derive,
    tables={
        "Results": columns.Table(
            by=("arm",),
            columns={
                "trainable": columns.count(), "rate": columns.rate(), "seeds": columns.seeds(),
                "dev": columns.mean_std("dev"), "test": columns.mean_std("test"),
                "paper, SST-2": columns.paper(printed("sst2")),
                "paper, GLUE": columns.paper(printed("average")),
            },
        ),
    },
    statements={
        f"{one} over {other}": statements.better(
            f"{one} is more accurate than {other}", "test", one, other, over=""
        )
        for one, other in ORDERS
    } | {
        "size": Statement(ONE_SIZE, _one_size),
        "learns": statements.at_each(
            "every method is more accurate on test after training than before", "arm",
            lambda arm: statements.better(arm, "test", arm, BEFORE, over=""), but=BEFORE,
        ),
    },
    panels=(panels.dots("test", "Which weights to train", "test accuracy"),),
    lead=(
        "A pretrained model is fine-tuned by methods that differ in the weights they "
        "train: drawn at random, chosen by a score before training or during it, or inserted. "
        "Each has its own learning rate, tuned on dev."
    ),
    caption="Test accuracy of each method; points are seeds",
    differences=(
        ("model {model}, whose head is locally a linear probe, fitted first and then frozen; the "
         "paper trains DeBERTa-v3-base with a fresh classifier head",
         "no head has to be learned, so fewer scalars and steps suffice"),
        ("task {task}; the paper's columns are SST-2 and the average of GLUE", "levels differ"),
        ("{num_train} training examples, {epochs} epochs; the paper takes the whole training set "
         "and 7 epochs of SST-2", "increments hand the budget out over fewer steps"),
        ("all seeds are averaged, rates are chosen on dev with the first; the paper averages the "
         "best three of four seeds",
         "the paper's means are higher and its deviations smaller than those of all four"),
        ("every method's rate is tuned over its own grid; the paper has one grid for all but full "
         "fine-tuning", "methods that need a larger rate, such as random masks, gain here"),
        ("ID3 with exp = 2, eps = 1, as table 7a says; the text recommends exp = -1",
         "with eps = 1 weights below 0.1 hardly matter: the score is almost the gradient"),
        ("locally LoRA and adapters have the size nearest to the budget, those under a mask 4 "
         "times that; the paper gives LoRA 1.33M scalars and masks on it 320K",
         "the paper compares a mask with the whole LoRA under it, here with one of its own size"),
        ("adapters of two a layer; table 3 has one a layer, on RoBERTa-base",
         "no level to compare"),
        ("Fisher scores 64 examples locally; the paper 1024", "noisier scores"),
    ),
    needs=("peft",),
)  # fmt: skip
