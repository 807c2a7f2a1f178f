"""The shape of the project: data flows one way, and every module says what it is."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
TREE = (ROOT / "README.md").read_text(encoding="utf-8").split("## Tree")[1]
#: the rooms of the library, in the order of the README's tree; a module imports only from above
FLOW = [
    name.rstrip("/").removesuffix(".py")
    for name in re.findall(r"^ {6}(\S+)", TREE.split("    theory/")[0], flags=re.MULTILINE)
]
PACKAGES = ("landscape", "theory", "experiments")
MODULES = sorted(p for folder in PACKAGES for p in (ROOT / folder).rglob("*.py"))


def dotted(path: Path) -> str:
    """Return the name by which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {dotted(path) for path in MODULES}
TREES = {dotted(path): ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}


def imports(path: Path) -> set[str]:
    """Return the project's modules that a file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(TREES[dotted(path)]):
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= whole & NAMES if whole <= NAMES else {node.module, *whole}
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found & NAMES - {dotted(path)}


IMPORTED = {dotted(path): imports(path) for path in MODULES}


def test_a_module_imports_only_from_rooms_above_its_own() -> None:
    for module, name in ((m, n) for m in sorted(IMPORTED) for n in IMPORTED[m]):
        (package, *rest), (other, *inside) = module.split("."), name.split(".")
        assert PACKAGES.index(other) <= PACKAGES.index(package), f"{module} imports {name}"
        if not (package == other == "landscape" and rest and inside) or rest[0] == "__main__":
            continue
        assert FLOW.index(inside[0]) <= FLOW.index(rest[0]), f"{module} imports {name}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter(IMPORTED).prepare()


def test_the_tree_in_the_readme_lists_every_room_of_the_library_once() -> None:
    here = {p.name.removesuffix(".py") for p in (ROOT / "landscape").iterdir()}
    hidden = {"__init__", "__init__.pyi", "__main__", "__pycache__", "py.typed"}
    assert sorted(FLOW) == sorted(here - hidden)


def test_no_public_function_has_the_name_of_a_module_beside_it() -> None:
    for path in MODULES:
        if path.name == "__init__.py":
            names = {p.name.removesuffix(".py") for p in path.parent.iterdir()} - {"__init__"}
            module = importlib.import_module(dotted(path))
            public = {n: getattr(module, n) for n in getattr(module, "__all__", ())}
            shadows = [n for n, v in public.items() if n in names and not inspect.ismodule(v)]
            assert not shadows, f"{module.__name__}: {shadows}"


def test_every_module_and_public_function_has_a_docstring() -> None:
    lacking = []
    for module, tree in TREES.items():
        public = [
            node for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        ]  # fmt: skip
        lacking += [module] * (not ast.get_docstring(tree))
        lacking += [f"{module}.{node.name}" for node in public if not ast.get_docstring(node)]
    assert lacking == []


def test_every_progress_bar_vanishes_where_output_is_no_terminal() -> None:
    """tqdm asks whether it writes to a terminal only where ``disable`` is None."""
    bars = [
        (module, node) for module, tree in TREES.items() for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("tqdm", "trange", "tqdm.tqdm")
    ]  # fmt: skip
    assert bars
    for module, bar in bars:
        (given,) = [k.value for k in bar.keywords if k.arg == "disable"]
        shown = given.body if isinstance(given, ast.IfExp) else given
        assert isinstance(shown, ast.Constant), module
        assert shown.value is None, module
