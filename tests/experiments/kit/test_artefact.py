"""Artefacts: cells become rows, each setup is loaded once and only where a row is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import landscape as ls
from experiments.kit.artefact import Artefact
from experiments.kit.cells import Cell, tuned
from experiments.kit.draw import panels
from experiments.kit.intervals import all_met
from experiments.kit.publish import Page
from experiments.kit.store import Row, Store

RATES = (0.1, 0.2, 0.3)


@dataclass(frozen=True)
class Config:
    """Two seeds."""

    #: seeds
    seeds: tuple[int, ...] = (3, 4)


def cells(config: Config) -> Iterator[Cell]:
    for seed in config.seeds:
        yield from tuned({"kind": "train"}, RATES, seed, config.seeds[0])
        yield {"kind": "test", "seed": seed}


class World:
    """Count what an artefact loads and measures."""

    def __init__(self) -> None:
        self.loaded: list[int] = []
        self.measured: list[str] = []

    def setup(self, config: Config, store: Store, cell: Cell) -> int:
        self.loaded.append(cell["seed"])
        return cell["seed"]

    def train(self, setup: int, cell: Cell) -> dict[str, Any]:
        assert setup == cell["seed"]
        self.measured.append(f"{cell['seed']} at {cell['rate']}")
        return {"dev_accuracy": 1 - abs(cell["rate"] - 0.2), "dev_loss": 1.0}

    def test(self, setup: int, cell: Cell) -> dict[str, Any]:
        assert setup == cell["seed"]
        return {"right": True}

    def artefact(self) -> Artefact:
        def tables(rows: Sequence[Row]) -> dict[str, list[dict[str, str]]]:
            return {"Rows": [{"key": r["key"]} for r in rows], "Nothing": []}

        return Artefact(
            name="toy", title="t", source="s", config=Config, presets={"smoke": {}}, cells=cells,
            setup=self.setup, measures={"train": self.train, "test": self.test},
            rates=lambda config, cell: RATES, tables=tables, draw=lambda rows: panels((1, 1))[0],
            check=lambda rows: [all_met("all", [True] * len(rows))],
            page=Page(title="t", lead="l", caption="c"),
        )  # fmt: skip


KEYS = ["train/rate=0.1/seed=3", "train/rate=0.2/seed=3", "train/rate=0.3/seed=3", "test/seed=3",
        "train/rate=0.2/seed=4", "test/seed=4"]  # fmt: skip


def test_later_seeds_run_at_the_best_rate_alone_and_each_seed_is_loaded_once(tmp_path) -> None:
    world = World()
    rows = world.artefact().run(Config(), tmp_path / "run")
    assert [row["key"] for row in rows] == KEYS
    assert world.measured == ["3 at 0.1", "3 at 0.2", "3 at 0.3", "4 at 0.2"]
    assert world.loaded == [3, 4]
    assert rows[4]["rate"] == 0.2
    listed = world.artefact().expected(Config())
    assert listed == [*KEYS[:4], "train/*/seed=4", "test/seed=4"]


@pytest.mark.parametrize(("kept", "loaded"), [(6, []), (5, [4]), (4, [4]), (3, [3, 4])])
def test_a_run_that_goes_on_loads_only_the_seeds_that_lack_a_row(tmp_path, kept, loaded) -> None:
    folder = tmp_path / "run"
    World().artefact().run(Config(), folder)
    whole = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(whole[:kept]))
    again = World()
    assert [row["key"] for row in again.artefact().run(Config(), folder)] == KEYS
    assert again.loaded == loaded
    assert len(again.measured) == len([k for k in KEYS[kept:] if k.startswith("train")])


def test_a_page_leaves_out_tables_without_a_row(tmp_path: Path, capsys) -> None:
    artefact = World().artefact()
    rows = artefact.run(Config(), tmp_path / "run")
    artefact.render(rows, tmp_path / "run")
    page = (tmp_path / "run" / "index.html").read_text()
    assert "<h2>Rows</h2>" in page
    assert "Nothing" not in page
    text = (tmp_path / "run" / "table.md").read_text()
    assert text.startswith("Rows\n\n| key")
    assert text.endswith("- ✓ holds: all (6 of 6 pairs)\n")
    capsys.readouterr()


def test_an_unknown_preset_is_answered_with_those_there_are() -> None:
    with pytest.raises(ls.UserError, match="a preset of toy among smoke, got 'huge'; check"):
        World().artefact().configure("huge", {})
