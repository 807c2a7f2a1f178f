"""Artefacts run on a tiny model: as a user types it, whole, and drawn."""

from __future__ import annotations

from pathlib import Path

from samples import glue_folder, model_folder

from experiments.earlier import ARTEFACTS, main
from experiments.kit.artefact import stored_config
from experiments.kit.store import RESULTS, read_rows


def run_artefact(name: str, folder: Path, *options: str) -> Path:
    """Run an artefact on a tiny model and two-sentence films; return its folder."""
    output = folder / "run"
    code = main([
        "run", name, "--model", str(model_folder(folder / "opt")), "--task", "sst2",
        "--source", str(glue_folder(folder / "SST-2")), *options, "--output", str(output),
    ])  # fmt: skip
    assert code == 0
    return output


def assert_whole(name: str, folder: Path) -> list[dict]:
    """Check that every expected row is there once and holds what published ones do; return all."""
    rows = read_rows(folder)
    keys = [row["key"] for row in rows]
    listed = ARTEFACTS[name].expected(stored_config(ARTEFACTS[name], folder))
    assert len(keys) == len(set(keys)) == len(listed)
    assert {key for key in listed if "*" not in key} <= set(keys)
    published, found = (entries(kept) for kept in (read_rows(RESULTS / name / "local"), rows))
    for kind, held in found.items():
        assert published.get(kind, set()) <= held
    return rows


def entries(rows: list[dict]) -> dict[str, set[str]]:
    """Return what all rows of a kind hold."""
    kinds: dict[str, set[str]] = {}
    for row in rows:
        kinds[row["kind"]] = kinds.get(row["kind"], set(row)) & set(row)
    return kinds


def render_artefact(name: str, folder: Path) -> None:
    """Render an artefact and check its files."""
    assert main(["render", name, "--output", str(folder)]) == 0
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "<table>" in (folder / "index.html").read_text()
