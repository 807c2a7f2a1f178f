"""Tables 2 and 3 of Agarwal et al. 2024 (ID3), of one shape: inserted weights made sparse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.id3.grids import named
from experiments.kit import columns, panels, view
from experiments.kit.cases import apart
from experiments.kit.statements import Statement
from landscape.sweep.grid import Grid


def made_sparse(
    name: str, title: str, source: str, grids: Callable[[str], Sequence[Grid]],
    arms: Sequence[str], statements: Mapping[str, Statement], *,
    printed: Mapping[str, columns.Lookup], **texts: Any,
) -> view.Artefact:  # fmt: skip
    """Return the artefact of weights that were inserted and are trained whole, or a part of them.

    Args:
        name, title, source, grids, statements: of the artefact.
        arms: the whole and its parts, as the figure shows them.
        printed: heading -> the paper's score of a record.
        texts: lead, differences and needs of the artefact.
    """
    return view.Artefact(
        name=name,
        title=title,
        source=source,
        grids=grids,
        derive=named,
        tables={
            "Scores": columns.Table(
                by=("model", "scored", "arm"),
                columns={
                    "trainable": columns.count(), "score": columns.mean_std("test"),
                    "rate": columns.rate(), "seeds": columns.seeds(),
                    "device": columns.first("device"),
                    **{heading: columns.paper(look) for heading, look in printed.items()},
                },
            ),
        },
        statements=statements,
        panels=apart(panels.dots("test", "Scores", "test {metric}", where={"arm": arms})),
        columns=1,
        caption="Test scores; points are seeds, lines 95 % intervals",
        **texts,
    )  # fmt: skip
