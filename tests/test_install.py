"""What a fresh machine meets: declared dependencies, a system without Unix modules, busy cores."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: packages that only some functions need, all of which say so where they lack them
OPTIONAL = {
    "pyhessian", "curvlinops", "hessian_eigenthings", "spops", "triton", "mpmath", "IPython",
    "lm_eval",
}  # fmt: skip
#: what declared packages bring with them, by their own promise
BROUGHT = {"PIL": "pillow",
    "tokenizers": "transformers", "huggingface_hub": "transformers", "sklearn": "scikit_learn",
}  # fmt: skip
OURS = {"landscape", "theory", "experiments"}
SOURCES = [p for folder in sorted(OURS) for p in sorted((ROOT / folder).rglob("*.py"))]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def third_party(path: Path) -> set[str]:
    """Return the top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - OURS


def declared() -> set[str]:
    return {re.split(r"[<>=~ \[]", line)[0].replace("-", "_") for line in PROJECT["dependencies"]}


def test_every_module_imports_only_what_the_default_install_brings() -> None:
    given = declared() | OPTIONAL
    strange = [
        f"{path.relative_to(ROOT)}: {name}" for path in SOURCES for name in third_party(path)
        if BROUGHT.get(name, name) not in given
    ]  # fmt: skip
    assert strange == []


def test_the_packaged_language_models_converter_needs_accelerate_which_is_declared() -> None:
    # transformers asks for it when it reads GGUF, and does not bring it
    assert "accelerate" in declared()


def run(code: str, **environment: str) -> str:
    kept = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, cwd=ROOT,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


WITHOUT_TORCH = """
import os, sys
import landscape
assert "torch" not in sys.modules
print(os.environ.get("GOMP_SPINCOUNT"))
"""


def test_threads_are_told_not_to_spin_before_torch_is_loaded() -> None:
    assert run(WITHOUT_TORCH) == "2000"


def test_a_users_own_setting_of_the_threads_spinning_stays() -> None:
    assert run(WITHOUT_TORCH, GOMP_SPINCOUNT="17") == "17"


def test_runs_can_be_imported_where_the_unix_module_resource_is_missing(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    spec = importlib.util.spec_from_file_location(
        "runs_elsewhere", ROOT / "landscape/folders/origin.py"
    )
    runs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runs)
    assert runs.peak_memory() is None


def test_the_wheel_holds_what_is_imported_and_nothing_that_writes_beside_itself() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert tools["setuptools"]["packages"]["find"]["include"] == ["landscape*", "theory*"]
    assert not any("experiments" in third_party(p) | imports_of_ours(p) for p in SOURCES
                   if not p.is_relative_to(ROOT / "experiments"))  # fmt: skip


def imports_of_ours(path: Path) -> set[str]:
    return {
        node.module.partition(".")[0]
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and node.module
    }


def test_the_version_is_one_in_the_project_the_package_the_command_and_the_citation(capsys) -> None:
    import landscape
    from landscape.cli import main

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"landscape {PROJECT['version']}\n"
    assert landscape.__version__ == PROJECT["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["title"], cited["version"]) == (PROJECT["name"], PROJECT["version"])
    assert (cited["abstract"], cited["license"]) == (PROJECT["description"], PROJECT["license"])
    papers = [one["url"].rpartition("/")[2] for one in cited["references"]]
    assert papers == ["2405.02596", "2408.14470"]


def installed_for(target: str, environment: Path) -> str:
    """Return what make would do for a target in a new environment."""
    done = subprocess.run(
        ["make", "-n", target, f"VENV={environment}"], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_slow_suite_installs_ray_first_and_the_quick_one_does_without(tmp_path: Path) -> None:
    before, _, _ = installed_for("slow", tmp_path).partition("-m pytest")
    assert "-c constraints.txt -e '.[dev,ray]'" in before
    assert "ray" not in installed_for("test", tmp_path)
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert {"ray", "msgpack", "protobuf"} <= {line.partition("==")[0] for line in pinned}
