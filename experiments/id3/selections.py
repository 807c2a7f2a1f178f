"""Table 1 of Agarwal et al. 2024 (ID3) in miniature: ways to choose the weights, equal budget.

Every method starts from the same pretrained weights, has its own learning rate, tuned on dev with
the first seed, and is then run with every seed at that rate.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import landscape as ls
from experiments.id3.selections_report import METHODS, PAGE, check, draw, tables
from experiments.kit.artefact import Artefact
from experiments.kit.cells import Cell, tuned
from experiments.kit.measure import Setup, load_setup, tuned_run, zero_shot
from experiments.kit.settings import ENCODER, ID3, PACKAGED, Setting, paper

if TYPE_CHECKING:
    from torch import nn

    from landscape.selection.select import Scope

#: masks by score: method -> score of `select_mask`
SCORES: dict[str, str] = {
    "magnitude": "magnitude", "PaFi": "magnitude_smallest", "SNIP": "snip", "Fisher": "fisher",
    "PaFi + LoRA": "magnitude_smallest", "SparseAdapter": "snip",
}  # fmt: skip
#: masks by ID3's score during training: method -> kind of schedule
KINDS: dict[str, Any] = {
    "ID3 static": "static", "ID3 repeat": "repeat", "ID3 increment": "increment",
    "ID3 + LoRA": "increment", "ID3 + adapter": "increment",
}  # fmt: skip
#: masks on inserted numbers: method -> what is inserted, its tensors, the scope of the budget.
#: LoRA's B starts as zeros: over all tensors, PaFi would take its first layers whole
ON_TOP: dict[str, tuple[str, str, Scope]] = {
    "PaFi + LoRA": ("LoRA", "*.lora_*", "tensor"), "ID3 + LoRA": ("LoRA", "*.lora_*", "global"),
    "SparseAdapter": ("adapter", "*.adapter.*", "global"),
    "ID3 + adapter": ("adapter", "*.adapter.*", "global"),
}  # fmt: skip


#: (model, rank or width, seed) -> the model with what is inserted
Make = Callable[[Any, int, int], Any]


@dataclass(frozen=True)
class Config(Setting):
    """The setting of paper 2's table 1, where this toolkit has it; presets hold the deviations."""

    #: model: a packaged name, a hub name or a path; the paper trains DeBERTa-v3-base
    model: str = "facebook/opt-125m"
    #: task, by name
    task: str = paper("sst2", ID3)
    #: patterns of the weights that masks choose from
    targets: str = "*.layers.*.weight"
    #: weights that every method may train; LoRA and adapters take the size nearest to it
    count: int = paper(103_000, ID3)
    #: learning rates tried for masks
    rates: tuple[float, ...] = paper((1e-4, 3e-4, 5e-4, 7e-4), ID3)
    #: learning rates tried for BitFit
    bitfit_rates: tuple[float, ...] = paper((1e-4, 3e-4, 5e-4, 7e-4), ID3)
    #: size of the LoRA or adapter under a mask, over the budget; table 2 has 1.33M under 320K
    surplus: float = 4.0
    #: learning rates tried for LoRA and adapters, with a mask or without
    inserted_rates: tuple[float, ...] = paper((1e-4, 3e-4, 5e-4, 7e-4), ID3)
    #: learning rates tried for full fine-tuning
    full_rates: tuple[float, ...] = paper((5e-6, 7e-6, 1e-5, 3e-5), ID3)
    #: ID3's exponent: table 7a says 2, the text and figure 4b recommend -1
    id3_exp: float = paper(2.0, ID3)
    #: ID3's addend of |weight|: table 7a says 1, figure 4a 0.5
    id3_eps: float = paper(1.0, ID3)
    #: training examples that scores average over
    score_examples: int = paper(1024, ID3)
    #: passes over the training examples
    epochs: int = paper(7, ID3)
    #: examples a step
    batch_size: int = paper(16, ID3)
    #: training, development and test examples
    num_train: int = 60_000
    num_dev: int = 1000
    num_test: int = paper(872, ID3)
    #: each seed draws its mask, its examples and their order
    seeds: tuple[int, ...] = (6, 7, 8, 9)


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": PACKAGED | {
        "epochs": 1, "batch_size": 8, "num_train": 24, "num_dev": 16, "num_test": 32,
        "score_examples": 8, "rates": (3e-3,), "bitfit_rates": (1e-3,), "inserted_rates": (1e-3,),
        "full_rates": (1e-5,), "seeds": (0,),
    },
    "local": ENCODER | {
        "targets": "bert.encoder.*.weight", "count": 36_864,
        "epochs": 1, "batch_size": 8, "num_train": 960, "num_dev": 300, "num_test": 600,
        "score_examples": 64, "rates": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        "bitfit_rates": (1e-4, 3e-4, 1e-3, 3e-3), "inserted_rates": (1e-3, 3e-3, 1e-2, 3e-2),
        "full_rates": (1e-5, 3e-5, 1e-4, 3e-4), "seeds": (0, 1, 2),
    },
    "paper": {},
}  # fmt: skip


def cells(config: Config) -> Iterator[Cell]:
    """List each method at its rates with the first seed, then at the best with the others."""
    for seed in config.seeds:
        yield {"kind": "zero-shot", "seed": seed}
        for method in METHODS:
            cell = {"kind": "train", "method": method}
            yield from tuned(cell, rates(config, method), seed, config.seeds[0])


def rates(config: Config, method: str) -> tuple[float, ...]:
    """Return the learning rates tried for a method."""
    if method in ("full", "BitFit"):
        return config.full_rates if method == "full" else config.bitfit_rates
    return config.inserted_rates if method in (*_INSERTED, *ON_TOP) else config.rates


def prepare(setup: Setup, method: str, seed: int) -> tuple[nn.Module, ls.Schedule | None]:
    """Give a copy of the model the trainable parameters of a method.

    Returns:
        The copy, and the schedule of methods that select during training.

    Raises:
        UserError: the model has nothing that the method trains (BitFit without biases).
    """
    config, model = setup.config, setup.model
    plain: Any = copy.deepcopy(model)
    if method == "full":
        return ls.baselines.full(plain), None
    if method == "BitFit":
        return ls.baselines.bitfit(plain), None
    if method in _INSERTED:
        make = _INSERTED[method]
        return make(plain, nearest_size(make, model, config.count), seed), None
    targets = config.targets
    scope: Scope = "global"
    if method in ON_TOP:
        inserted, targets, scope = ON_TOP[method]
        make = _INSERTED[inserted]
        plain = make(plain, nearest_size(make, model, round(config.surplus * config.count)), seed)
    if method in KINDS:
        return plain, ls.Schedule(
            KINDS[method], score="id3", options={"eps": config.id3_eps, "exp": config.id3_exp},
            count=config.count, targets=targets, scope=scope,
        )  # fmt: skip
    ls.attach(plain, _mask(setup, plain, method, seed, targets, scope))
    return plain, None


def nearest_size(make: Make, model: nn.Module, count: int) -> int:
    """Return the rank or width, at least 1, whose trainable parameters are nearest to count.

    The number is affine in the size: two trials give it.
    """
    one, two = (
        sum(p.numel() for p in ls.trainable(make(copy.deepcopy(model), size, 0)).values())
        for size in (1, 2)
    )
    return max(1, round(1 + (count - one) / (two - one)))


def _lora(model: Any, size: int, seed: int) -> Any:
    attention = ["*.query", "*.value"] if model.config.model_type == "bert" else "*.[qv]_proj"
    return ls.baselines.lora(model, rank=size, alpha=2 * size, targets=attention, seed=seed)


def _adapter(model: Any, size: int, seed: int) -> Any:
    # SNIP's scores of a weight times its gradient vanish where adapters start as the identity
    return ls.baselines.adapter(model, width=size, start="near identity", seed=seed)


_INSERTED: Mapping[str, Make] = {"LoRA": _lora, "adapter": _adapter}


def _mask(
    setup: Setup, model: nn.Module, method: str, seed: int, targets: str, scope: Scope
) -> ls.Mask:
    count = setup.config.count
    if method == "random":
        return ls.random_mask(model, count=count, targets=targets, seed=seed, sampling="exact")
    batches = setup.batches(setup.config.score_examples, setup.config.batch_size)
    return ls.select_mask(
        model, score=SCORES[method], batches=batches, count=count, targets=targets, scope=scope,
        max_live=1 << 27,
    )  # fmt: skip


def train(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Train a method at a rate; a model without biases has a row that says so for BitFit."""
    try:
        made, schedule = prepare(setup, cell["method"], cell["seed"])
    except ls.UserError as error:
        if cell["method"] != "BitFit":
            raise
        return {"kind": "absent", "reason": str(error)}
    row = tuned_run(setup, made, cell, schedule=schedule)
    return row | {"tried": list(rates(setup.config, cell["method"]))}


ARTEFACT = Artefact(
    name="selections",
    title="Which weights to train: selections and baselines at equal budget",
    source="Agarwal et al. 2024 (ID3), table 1",
    config=Config, presets=PRESETS, cells=cells, setup=load_setup,
    measures={"zero-shot": zero_shot, "train": train},
    rates=lambda config, cell: rates(config, cell["method"]),
    check=check, tables=tables, draw=draw,
    page=PAGE,
    needs=("peft",),
)  # fmt: skip
