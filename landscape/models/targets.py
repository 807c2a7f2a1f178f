"""Targets: the tensors of a model that shell patterns name, and its query and value layers."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from landscape import checks
from landscape.errors import UserError
from landscape.models.tensors import NamedTensor, tensors

QUERY_VALUE = "*.[qv]_proj"


#: how architectures name their query and value projections, or all three in one
_QUERY_VALUE = (
    (QUERY_VALUE,), ("*.query", "*.value"), ("*.q_lin", "*.v_lin"), ("*.to_q", "*.to_v"),
    ("*.q", "*.v"), ("*.wq", "*.wv"), ("*.c_attn",), ("*.query_key_value",), ("*.qkv_proj",),
    ("*.Wqkv",), ("*.qkv",),
)  # fmt: skip


def target_shapes(model: nn.Module, targets: str | Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Find the tensors that shell patterns name, in the model's order.

    A pattern is matched against parameter names and, for their weight, against module names. A
    tied tensor appears once, under its first name, whichever of its names matched.

    Raises:
        UserError: a pattern matches nothing; the sentence lists names that would.
    """
    checks.instance("model", model, nn.Module, "load or build one")
    patterns = checks.patterns("targets", targets)
    first: dict[int, str] = {}
    found: dict[str, tuple[int, ...]] = {}
    unmatched = set(patterns)
    for tensor in tensors(model):
        canonical = first.setdefault(tensor.identity, tensor.name)
        for pattern in patterns:
            if _matches(tensor, pattern):
                unmatched.discard(pattern)
                found[canonical] = tensor.shape
    if unmatched:
        weights = [t for t in tensors(model) if t.leaf == "weight"] or list(tensors(model))
        ends = sorted({_end(tensor) for tensor in weights}) or ["(no weights)"]
        raise UserError(
            f"expected targets that name tensors of this model, got {', '.join(sorted(unmatched))},"
            f" which matches none; its modules with weights are: {', '.join(ends[:20])}; "
            f"give {_suggestion(model, ends)}"
        )
    return found


def query_value(model: nn.Module) -> list[str]:
    """Return patterns of a model's query and value projections, as its architecture names them.

    Where none of the names in use fits, the pattern is `QUERY_VALUE`, which then matches nothing.

    >>> query_value(nn.ModuleDict({"a": nn.ModuleDict({"query": nn.Linear(2, 2),
    ...                                                "value": nn.Linear(2, 2)})}))
    ['*.query', '*.value']
    """
    held = list(tensors(model))
    for patterns in _QUERY_VALUE:
        if all(any(_matches(tensor, pattern) for tensor in held) for pattern in patterns):
            return list(patterns)
    return [QUERY_VALUE]


def _matches(tensor: NamedTensor, pattern: str) -> bool:
    module = tensor.name.rpartition(".")[0]
    own = tensor.leaf == "weight" and fnmatchcase(module, pattern)
    return own or fnmatchcase(tensor.name, pattern)


def _end(tensor: NamedTensor) -> str:
    """Return a pattern that matches a tensor by the end of its module's name."""
    module = tensor.name.rpartition(".")[0]
    short = f"*.{module.rpartition('.')[2]}" if "." in module else module
    return short if _matches(tensor, short) else tensor.name


def _suggestion(model: nn.Module, ends: Sequence[str]) -> str:
    likely = query_value(model)
    known = likely if any(_matches(t, likely[0]) for t in tensors(model)) else ends[:1]
    return "targets=" + (repr(known[0]) if len(known) == 1 else repr(known))
