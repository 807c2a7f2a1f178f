"""Measurements: what is measured on a run, before, during and after its training.

A new one is a file here and a line in `MEASUREMENTS`; one that is named ``module:attribute`` is a
`Measurement` of somebody else's module.
"""

from __future__ import annotations

import importlib

from landscape.errors import UserError
from landscape.sweep.measurements.curvature import SHARPNESS, TRACE
from landscape.sweep.measurements.measurement import Measurement, Point, key
from landscape.sweep.measurements.stability import PRECONDITIONED, TRACKING
from landscape.sweep.naming import known

__all__ = ["MEASUREMENTS", "Measurement", "Point", "key", "measurement_named"]

MEASUREMENTS: dict[str, Measurement] = {
    "sharpness": SHARPNESS,
    "trace": TRACE,
    "tracking": TRACKING,
    "preconditioned": PRECONDITIONED,
}
"""The measurements that a grid may ask for, by name."""


def measurement_named(name: str) -> Measurement:
    """Return a measurement by its name, or by ``module:attribute``, whose module is imported.

    Raises:
        UserError: there is none of that name.

    >>> measurement_named("sharpness").parts
    ('before', 'after')
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        return MEASUREMENTS[known("a measurement (or module:attribute)", name, MEASUREMENTS)]
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise UserError(
            f"expected a module with the measurement {name}, got none: {error}; check the name, or "
            "install what it needs"
        ) from error
    if not isinstance(found, Measurement):
        raise UserError(
            f"expected a Measurement at {name}, got {type(found).__name__}; make one, as "
            "landscape.sweep.measurements says"
        )
    return found
