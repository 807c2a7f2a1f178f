"""How the command lines print what a program reads: JSON, on one line."""

from __future__ import annotations

import json


def print_json(value: object) -> None:
    """Print a JSON value on one line; numbers that JSON lacks, NaN and infinity, become null."""
    from landscape.folders import finite

    print(json.dumps(finite(value), allow_nan=False))
