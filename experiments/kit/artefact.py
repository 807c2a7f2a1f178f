"""An artefact: a figure or table, as the cells it measures, what it states of them, how it looks.

An artefact's module imports nothing heavy at its top, so that listing them all takes no time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.kit.cells import Cell, chosen
from experiments.kit.cells import key as plain_key
from experiments.kit.judge import Finding
from experiments.kit.publish import Page, publish
from experiments.kit.store import Row, Store
from landscape.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from landscape.figures.table import Table


@dataclass(frozen=True)
class Artefact:
    """Describe a figure or table of a paper: how to run it, draw it and judge it.

    Args:
        name: its name on the command line.
        title: one sentence.
        source: paper and number.
        config: frozen dataclass whose defaults are the paper's values; must have `seeds`.
        presets: preset -> the deviations from the defaults.
        cells: ``cells(config)`` lists what is measured, in order; see `experiments.kit.cells`.
        setup: ``setup(config, store, cell)`` loads what the measurements of a cell need.
        measures: kind -> ``measure(setup, cell)``, which returns what joins the cell in its row.
        check: ``check(rows)`` compares the rows with the paper's statements.
        tables: ``tables(rows)`` gives the tables by their headings.
        draw: ``draw(rows)`` gives the figure; like check and tables cheap and pure.
        page: what the page says around them.
        rates: ``rates(config, cell)`` lists the rates tried for a cell whose rate dev chooses.
        key: ``key(cell)`` names a cell's row.
        shared: names of the coordinates on which `setup` depends; it runs again when one changes.
        needs: modules of optional packages without which it cannot run.
    """

    name: str
    title: str
    source: str
    config: type
    presets: Mapping[str, Mapping[str, Any]]
    cells: Callable[[Any], Iterable[Cell]]
    setup: Callable[[Any, Store, Cell], Any]
    measures: Mapping[str, Callable[[Any, Cell], Mapping[str, Any]]]
    check: Callable[[Sequence[Row]], list[Finding]]
    tables: Callable[[Sequence[Row]], Mapping[str, Table]]
    draw: Callable[[Sequence[Row]], Figure]
    page: Page
    rates: Callable[[Any, Cell], Sequence[float]] | None = None
    key: Callable[[Cell], str] = plain_key
    shared: tuple[str, ...] = ("seed",)
    needs: tuple[str, ...] = ()

    def configure(self, preset: str, overrides: Mapping[str, Any]) -> Any:
        """Resolve a preset and the command line's overrides.

        Raises:
            UserError: the preset is unknown.
        """
        if preset not in self.presets:
            raise UserError(
                f"expected a preset of {self.name} among {', '.join(self.presets)}, "
                f"got {preset!r}; check the spelling"
            )
        return self.config(**{**self.presets[preset], **overrides})

    def expected(self, config: Any) -> list[str]:
        """List the keys of all rows, with a * for what only the rows decide."""
        return [self.key(cell) for cell in self.cells(config)]

    def run(self, config: Any, folder: Path) -> list[Row]:
        """Compute the rows that the folder lacks and return all of them.

        Raises:
            UserError: the folder holds another configuration, or a package is missing.
        """
        from landscape.folders import open_folder
        from landscape.sources.carriers import require

        require(f"the artefact {self.name}", *self.needs)
        settings = {"artefact": self.name, **dataclasses.asdict(config)}
        store = Store(open_folder(folder, settings))
        store.say(f"{folder}: {len(store)} of {len(self.expected(config))} rows already there")
        setup, loaded = None, None
        for open_cell in self.cells(config):
            cell = self.decide(config, store, open_cell)
            if self.key(cell) in store:
                continue
            place = [cell[name] for name in self.shared]
            if place != loaded:
                setup, loaded = self.setup(config, store, cell), place
            store.compute(self.key(cell), partial(self.measure, setup, cell))
        return list(store)

    def decide(self, config: Any, store: Store, cell: Cell) -> Cell:
        """Fill in a rate that is None with the one that dev chose in the first seed's rows.

        Cells without a rate, or with one, stay as they are.
        """
        if cell.get("rate", 0.0) is not None or self.rates is None:
            return cell
        rates = self.rates(config, cell)
        return chosen(store, cell, rates, cell["seed"], config.seeds[0])

    def measure(self, setup: Any, cell: Cell) -> Row:
        """Return a cell with what its measurement found."""
        return {**cell, **self.measures[cell["kind"]](setup, cell)}

    def render(self, rows: Sequence[Row], folder: Path) -> list[Path]:
        """Draw the figure, write ``table.md`` and the page, print the tables; return the paths."""
        return publish(folder, rows, self.page, self.tables(rows), self.check(rows), self.draw)


def stored_config(artefact: Artefact, folder: Path) -> Any:
    """Return the configuration that a folder was run with.

    A setting that the run did not store, because it was made before there was such a setting, is
    None: what it was is unknown, whatever its default is today.

    Raises:
        UserError: the folder holds no run of this artefact, or one with settings it does not have.
    """
    from landscape.folders import read_json

    path = folder / "config.json"
    stored = read_json(path) if path.exists() else {}
    if stored.pop("artefact", None) != artefact.name:
        others = sorted(p.parent.name for p in folder.parent.glob("*/config.json"))
        hint = f", or give --preset one that was: {', '.join(others)}" if others else ""
        raise UserError(
            f"expected a run of {artefact.name} in {folder}, got none; run it first{hint}"
        )
    known = [field.name for field in dataclasses.fields(artefact.config)]
    if surplus := sorted(set(stored) - set(known)):
        raise UserError(
            f"expected the settings of {artefact.name} in {path}, got also {', '.join(surplus)}; "
            "read it with the version that wrote it"
        )
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in stored.items()}
    return artefact.config(**{name: values.get(name) for name in known})


def unknown_settings(config: Any) -> list[str]:
    """List the settings that a stored configuration does not know."""
    return [f.name for f in dataclasses.fields(config) if getattr(config, f.name) is None]
