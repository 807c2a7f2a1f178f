"""Which cells lack runs, and how many: by model, task, arm, and ratio or number of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from made_rows import made

from experiments.kit.view import Artefact
from landscape.sweep import Grid, Rates

RATIOS = Grid({"task": "sst2", "lr": 0.1},
              {"ratio": [1e-2, 1e-3], "method": ["random", "magnitude"],
               "seed": [0, 1]})  # fmt: skip
BEFORE = Grid({"task": "sst2", "method": "none"}, {"seed": [0, 1]})
BUDGETS = Grid({"task": "rte"}, {"method": ["id3", "random"], "count": [80_000, 320_000],
                                 "seed+mask_seed": [(s, 100 + s) for s in range(3)]},
               Rates((0.1, 0.2), widen=0))  # fmt: skip
TOY = Artefact(
    name="toy", title="Toys", source="ours", lead="Toys.", caption="Toys", panels=(), tables={},
    statements={}, grids=lambda preset: [RATIOS, BEFORE, BUDGETS],
    derive=lambda r: {"arm": "masks"} if r["method"] == "random" else {},
)  # fmt: skip


def test_cells_that_lack_runs_are_named_with_how_many_they_lack() -> None:
    whole = made(TOY.of("local"), lambda config: {"test": 0.5, "dev": config.lr})

    def told(lacking: Callable[[dict], bool], one: Artefact = TOY) -> str:
        rows = [row for row in whole if not lacking(row["config"])]
        return one.unfinished(rows, "local").partition(" runs at chosen rates; missing: ")[2]

    at = "smollm2-135m"
    assert told(lambda c: c["task"] == "rte") == f"{at} rte (12 of 12)"
    assert told(lambda c: c["count"] == 80_000 and c["seed"] > 0 and c["method"] == "id3") == (
        f"{at} rte id3 80000 (2 of 3)"
    )
    one_ratio = "random", 1e-3, 1
    assert told(lambda c: (c["method"], c["ratio"], c["seed"]) == one_ratio) == (
        f"{at} sst2 masks 0.001 (1 of 2)"
    )
    named = replace(TOY, derive=lambda r: {"arm": f"at {r['ratio'] or r['budget'] or 0:g}"})
    assert told(lambda c: (c["method"], c["ratio"], c["seed"]) == one_ratio, named) == (
        f"{at} sst2 at 0.001 (1 of 4)"
    )
    no_record = told(lambda c: c["method"] == "random" and c["count"])
    assert no_record == f"{at} rte random 80000 (3 of 3); {at} rte random 320000 (3 of 3)"
    assert told(lambda c: c["method"] == "magnitude").startswith(
        f"{at} sst2 magnitude at 0.1 0.01 (2 of 2); "
    )
    assert told(lambda c: c["seed"] > 0).endswith("magnitude 0.001 (1 of 2); and 5 more cells")
    assert TOY.unfinished(whole, "local") == ""
