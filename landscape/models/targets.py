"""Targets: the tensors of a model that shell patterns name, and its query and value layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from landscape import checks
from landscape.errors import UserError
from landscape.models.tensors import NamedTensor, tensors

QUERY_VALUE = "*.[qv]_proj"
"""Query and value projections, as OPT, Llama and most others name them (the papers' targets)."""

AUTO = "auto"
"""Stands for the patterns that `query_value` finds."""

#: layers of one attention, as architectures name its queries and its values; a layer that makes
#: keys and values out of one state counts as the values'
_TOGETHER = (
    ("q_proj", "v_proj"), ("query", "value"), ("q_lin", "v_lin"), ("to_q", "to_v"), ("q", "v"),
    ("wq", "wv"), ("Wq", "Wv"), ("query_proj", "value_proj"), ("q_head", "v_head"),
    ("project_q", "project_v"), ("linear_q", "linear_v"),
    ("projection_query", "projection_value"), ("q_content_proj", "v_proj"),
    ("self_attn_query_content_proj", "self_attn_value_proj"),
    ("cross_attn_query_content_proj", "cross_attn_value_proj"),
    ("query_key", "value"), ("query_global", "value_global"), ("layout_query", "layout_value"),
    ("q_proj", "v_proj_current", "v_proj_delayed"), ("queries", "keys_values"),
    ("q_proj", "kv_b_proj"), ("q_b_proj", "kv_b_proj"), ("q_gate_proj", "kv_b_proj"),
    ("q_b_proj", "kv_proj"), ("to_q", "to_kv"), ("q_attn", "c_attn"),
)  # fmt: skip
#: one layer that makes queries, keys and values, by the end of its path
_FUSED = (
    "c_attn", "query_key_value", "qkv_proj", "Wqkv", "qkv", "att_proj", "qkv_linear",
    "self.in_proj", "in_proj_qkv", "in_proj_qkvz", "queries_keys_values",
)  # fmt: skip
#: torch's own attention holds the three in one parameter; it ends many vision models as a pooling
_TORCH = "in_proj_weight"
#: names of what a layer wraps its weight into
_INNER = ("linear", "convolution")
#: a part of an attention that chooses tokens, with queries of its own
_NOT_ATTENTION = "indexer"


def target_shapes(model: nn.Module, targets: str | Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Find the tensors that shell patterns name, in the model's order.

    A pattern is matched against parameter names and, for their weight, against module names. A
    tied tensor appears once, under its first name, whichever of its names matched.

    Args:
        model: any module.
        targets: patterns; "auto" for its query and value layers.

    Returns:
        name -> shape.

    Raises:
        UserError: a pattern matches nothing; the sentence lists names that would.
    """
    patterns = target_patterns(model, targets)
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
        _refuse(model, f"{', '.join(sorted(unmatched))}, which matches none")
    return found


def target_patterns(model: nn.Module, targets: str | Sequence[str]) -> list[str]:
    """Return the patterns that are meant: "auto" gives way to those of the model.

    Args:
        model: any module.
        targets: one pattern or several.

    Raises:
        UserError: no pattern, or "auto" for a model whose query and value layers are not known.
    """
    checks.instance("model", model, nn.Module, "load or build one")
    patterns = checks.patterns("targets", targets)
    if AUTO not in patterns:
        return patterns
    likely = query_value(model)
    if not likely:
        _refuse(model, "auto for one whose query and value layers are not known")
    return list(dict.fromkeys([*likely, *(p for p in patterns if p != AUTO)]))


def query_value(model: nn.Module) -> list[str]:
    """Return patterns of a model's query and value layers, as its architecture names them.

    Those of every attention: a model of images and text may have two kinds. A layer that makes
    queries, keys and values at once is taken whole.

    >>> query_value(nn.ModuleDict({"a": nn.ModuleDict({"query": nn.Linear(2, 2),
    ...                                                "value": nn.Linear(2, 2)})}))
    ['*.query', '*.value']
    """
    held = [t for t in tensors(model) if len(t.shape) > 1]
    beside: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for tensor in held:
        parent, name, pattern = _place(tensor)
        if parent.rpartition(".")[2] != _NOT_ATTENTION:
            beside[parent][name] = pattern
    found: dict[str, None] = {}
    for together in _TOGETHER:
        parents = [p for p, names in beside.items() if names.keys() >= set(together)]
        if parents and together == ("q_proj", "v_proj") and _plain(beside, parents):
            found[QUERY_VALUE] = None
            continue
        for name in together:
            found |= dict.fromkeys(_patterns(beside, parents, name, held))
    for name in _FUSED:
        parent, _, last = name.rpartition(".")
        start = f"*.{parent}." if parent else "*."
        parents = [p for p in beside if last in beside[p] and f".{p}.".endswith(start[1:])]
        found |= dict.fromkeys(start + beside[p][last] for p in parents)
    if not found and any(_TORCH in names for names in beside.values()):
        found[f"*.{_TORCH}"] = None
    return list(found)


def _place(tensor: NamedTensor) -> tuple[str, str, str]:
    """Return where an attention would hold a tensor, its name there, and what ends its path."""
    path = tensor.name.split(".")
    if path[-1] == "weight":
        path = path[:-1] or path
    inner = len(path) > 1 and path[-1] in _INNER
    at = len(path) - 2 if inner else len(path) - 1
    return ".".join(path[:at]), path[at], ".".join(path[at:])


def _plain(beside: dict[str, dict[str, str]], parents: list[str]) -> bool:
    return all(beside[p][name] == name for p in parents for name in ("q_proj", "v_proj"))


def _patterns(
    beside: dict[str, dict[str, str]], parents: list[str], name: str, held: list[NamedTensor]
) -> list[str]:
    """Return patterns of the layers of one name, longer ones where a short one names others."""
    ends = dict.fromkeys(beside[p][name] for p in parents)
    short = [f"*.{end}" for end in ends]
    places = {_place(t)[:2] for t in held if any(_matches(t, pattern) for pattern in short)}
    if places <= {(p, name) for p in parents}:
        return short
    return [
        f"*.{p.rpartition('.')[2]}.{beside[p][name]}" if "." in p else f"{p}.{beside[p][name]}"
        for p in parents
    ]


def _matches(tensor: NamedTensor, pattern: str) -> bool:
    module = tensor.name.rpartition(".")[0]
    own = tensor.leaf == "weight" and fnmatchcase(module, pattern)
    return own or fnmatchcase(tensor.name, pattern)


def _refuse(model: nn.Module, got: str) -> None:
    """Raise the sentence of targets that name nothing, with names that would."""
    weights = [t for t in tensors(model) if t.leaf == "weight"] or list(tensors(model))
    ends = sorted({_end(tensor) for tensor in weights}) or ["(no weights)"]
    likely = query_value(model)
    advice = repr(likely[0] if len(likely) == 1 else likely or ends[0])
    raise UserError(
        f"expected targets that name tensors of this model, got {got}; its modules with weights "
        f"are: {', '.join(ends[:20])}; give targets={advice}"
    )


def _end(tensor: NamedTensor) -> str:
    """Return a pattern that matches a tensor by the end of its module's name."""
    module = tensor.name.rpartition(".")[0]
    short = f"*.{module.rpartition('.')[2]}" if "." in module else module
    return short if _matches(tensor, short) else tensor.name
