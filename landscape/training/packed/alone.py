"""The frozen model as one lane has it: prepared as for its solo run, at a point of its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from landscape.subspace import attach, detach, trainable
from landscape.training.packed.course import Course
from landscape.training.point import Point, go_to


@contextmanager
def alone(model: nn.Module, course: Course, at: Point) -> Iterator[None]:
    """Let the model be one lane's inside; it is afterwards what it was, bit for bit.

    The mask is attached and what is trained beside it is trainable, as `finetune` finds and leaves
    a model: whoever looks at it inside needs to know of no pack.

    Cost: that of `attach` and `detach`, and a copy of the tensors that are the lane's own.
    """
    lane, held = course.lane, dict(model.named_parameters())
    own = {**course.own, **{name: course.start[name] for name in course.dense_names}}
    before = {name: held[name].detach().clone() for name in own}
    flags = {name: p.requires_grad for name, p in held.items()}
    with torch.no_grad():
        for name, value in own.items():
            held[name].copy_(value)
    try:
        model.requires_grad_(False)
        if lane.mask is not None:
            attach(model, lane.mask, dense=course.dense_names)
        for name in course.dense_names:
            held[name].requires_grad_(True)
        go_to(trainable(model), at)
        yield
    finally:
        if lane.mask is not None:
            detach(model)
        with torch.no_grad():
            for name, value in before.items():
                held[name].copy_(value)
        for name, p in held.items():
            p.requires_grad_(flags[name])
            p.grad = None
