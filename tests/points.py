"""The point at which an experiment measures: a tiny model of which nothing is trained."""

from __future__ import annotations

import dataclasses
from typing import Any

from samples import tiny_task

import landscape as ls
from landscape.sweep import RunConfig
from landscape.sweep.measurements import Point


def tiny_point(**options: Any) -> Point:
    tokenizer = ls.tiny_tokenizer()
    config = RunConfig(method="none", targets=("*.[qv]_proj",))
    model = ls.tiny_model("opt", vocab_size=len(tokenizer))
    return Point(config, model, tokenizer, tiny_task(), None, options)


def asked(point: Point, **options: Any) -> Point:
    """The same point where a measurement of four examples is asked for."""
    return dataclasses.replace(point, options={"examples": 4, **options})
