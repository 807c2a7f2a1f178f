"""The shape of the project: data flows one way, and every module says what it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: from left to right; a module imports only from its own layer's left
FLOW = [
    {"errors", "checks"},
    {"carriers", "hub", "runs"},
    {"tensorfile"},
    {"tasks"},
    {"models"},
    {"masks"},
    {"kernels"},
    {"sites", "attachable"},
    {"masked"},
    {"subspace"},
    {"identity"},
    {"delta_header"},
    {"batches"},
    {"scoring"},
    {"losses"},
    {"selection"},
    {"optimizer", "deltas"},
    {"schedule"},
    {"evaluate", "heads", "distance", "adapters", "baselines", "curvature", "callbacks"},
    {"peft_adapters", "peers"},
    {"checkpoint"},
    {"train", "tracking", "surface", "advisor"},
    {"pictures"},
    {"analysis"},
    {"report"},
    {"bench"},
    {"cli", "__main__"},
]
RANK = {name: rank for rank, names in enumerate(FLOW) for name in names}
MODULES = sorted(
    p for folder in ("landscape", "theory", "experiments") for p in (ROOT / folder).rglob("*.py")
)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_from_its_left(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    for name in imports(path):
        package, *rest = name.split(".")
        if parts[0] == "landscape":
            assert package not in ("theory", "experiments"), f"landscape imports {name}"
        if parts[0] == "theory":
            assert package != "experiments", f"theory imports {name}"
        if (
            parts[0] != "landscape"
            or package != "landscape"
            or parts[1] in ("__init__", "__main__", "cli")
        ):
            continue
        if not rest or rest[0] == parts[1]:
            continue
        assert RANK[rest[0]] <= RANK[parts[1]], f"{parts[1]} imports {rest[0]}, which is its right"


def test_every_landscape_module_has_its_place_in_the_flow() -> None:
    present = {p.relative_to(ROOT / "landscape").parts[0].removesuffix(".py") for p in MODULES
               if p.is_relative_to(ROOT / "landscape")}  # fmt: skip
    assert present - {"__init__"} == set(RANK)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_and_public_function_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has none"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_progress_bar_vanishes_where_output_is_no_terminal(path: Path) -> None:
    """tqdm asks whether it writes to a terminal only where ``disable`` is None."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("tqdm", "trange", "tqdm.tqdm"):
            (given,) = [k.value for k in node.keywords if k.arg == "disable"]
            shown = given.body if isinstance(given, ast.IfExp) else given
            assert isinstance(shown, ast.Constant)
            assert shown.value is None
