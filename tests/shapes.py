"""Shapes: while the tests run, the jaxtyping annotations of the library are checked at every call.

Only they, and only functions that have some are wrapped: what a test puts in a tokenizer's place is
its own affair.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

_SHAPED = re.compile(r"\b(Bool|Complex|Float|Inexact|Int|Num|Shaped)\[")


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a function's annotations that give a tensor's type and shape.

    Arguments that the library itself refuses, in a sentence, are no fault.
    """
    found = function.__annotations__
    function.__annotations__ = {n: k for n, k in found.items() if _SHAPED.search(str(k))}
    strict = jaxtyped(function, typechecker=beartype)
    function.__annotations__ = found

    @functools.wraps(function)
    def wrapped(*args: Any, **given: Any) -> Any:
        try:
            return strict(*args, **given)
        except TypeCheckError as error:
            if "checking the parameters" in str(error) and _is_refused(function, args, given):
                return function(*args, **given)
            raise

    return wrapped


def _is_refused(function: Callable[..., Any], args: Any, given: Any) -> bool:
    """Tell whether the library itself refuses these arguments in a sentence."""
    try:
        function(*args, **given)
    except sys.modules["landscape.errors"].UserError:
        return True
    except Exception:
        return False
    return False


class _Decorate(ast.NodeTransformer):
    """Put `checked` around every function with such an annotation."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        kinds = [a.annotation for a in arguments if a.annotation] + [
            node.returns or ast.Constant(0)
        ]
        if any(_SHAPED.search(ast.unparse(kind)) for kind in kinds):
            call = ast.parse("__import__('shapes').checked", mode="eval").body
            node.decorator_list.append(ast.copy_location(call, node))
        return node


class _Loader(SourceFileLoader):
    """Load a module with its shapes checked; no bytecode of it is kept."""

    def get_code(self, fullname: str) -> Any:
        tree = _Decorate().visit(ast.parse(self.get_data(self.path)))
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "landscape":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install() -> None:
    """Check the shapes of every module of the library that is imported from now on."""
    sys.meta_path.insert(0, _Finder())
