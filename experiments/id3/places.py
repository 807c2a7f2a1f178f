"""Where a moving mask lies while a run trains: measured at some steps, for figures 7 to 9."""

from __future__ import annotations

from typing import Any

from torch import nn

from landscape import checks
from landscape.analysis import allocation, spread
from landscape.errors import UserError
from landscape.subspace import attached_mask
from landscape.sweep.measurements import Measurement, Point


class PlacesProbe:
    """Note how a mask is spread over tensors every few steps, and over layers at both ends.

    It looks at the attached mask alone and keeps nothing, so that a run which goes on after a kill
    finds the same. Weights that a schedule has frozen since count: they differ from the pretrained.

    Args:
        every: steps between two looks; the first and the last are looked at in any case.
        last: the run's last step.
    """

    def __init__(self, every: int, last: int) -> None:
        self._every, self._last = every, last

    def __call__(self, model: nn.Module, record: dict[str, Any]) -> None:
        """Add selected, sparsity, entropy, and at both ends the density of every tensor."""
        step = int(record["step"])
        if step not in (1, self._last) and step % self._every:
            return
        mask = attached_mask(model)
        record.update(spread(mask))
        if step in (1, self._last):
            record["allocation"] = [
                [row["layer"], row["module"], row["density"]] for row in allocation(mask)
            ]


def places(point: Point) -> PlacesProbe:
    """Follow a mask during training.

    Options: ``every`` (10) steps.

    Returns:
        A probe whose records hold ``selected``, ``sparsity`` (the share of tensors untouched) and
        ``entropy`` (0: one tensor has all; 1: all are equally dense); at the first and last step
        also ``allocation``, layer, module and density of every tensor.

    Raises:
        UserError: an option that is none.
    """
    for name in point.options:
        if name != "every":
            raise UserError(f"expected the option every of places, got {name!r}; leave it out")
    config = point.config
    rows = config.batch_size * int(config.settings.get("accumulate", 1))
    last = config.epochs * -(-len(point.task.train) // rows)
    return PlacesProbe(checks.whole("every", point.options.get("every", 10), least=1), last)


PLACES = Measurement("where the mask lies, during training", during=places)
