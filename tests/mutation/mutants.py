"""All small changes of a module's functions, in the order of its text."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

SWAPPED: dict[type, str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "/", ast.Mod: "//",
    ast.Pow: "*", ast.BitAnd: "|", ast.BitOr: "&", ast.And: "or", ast.Or: "and",
}  # fmt: skip
OPPOSITE: dict[type, str] = {ast.Lt: ">=", ast.LtE: ">", ast.Gt: "<=", ast.GtE: "<"}
NAMES = {
    "min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor",
    "amin": "amax", "amax": "amin", "argmin": "argmax", "argmax": "argmin", "mean": "sum",
    "abs": "neg", "sqrt": "square", "rows": "cols", "cols": "rows", "zeros_like": "ones_like",
}  # fmt: skip
Span = tuple[int, int, int, int]


@dataclass(frozen=True)
class Mutant:
    """One change: what stands at a span of a module's text is replaced.

    Args:
        module: path from the root of the project.
        function: the outermost function that holds the change, by its qualified name.
        lines: on which the change shows, of which a test must reach one.
        new: the text to put there.
        shown: the changed lines before and after, which also tell a mutant from all others.
        span: first line, column, last line, column, in bytes, as of ``ast``.
        name: of one made by hand, else empty.
    """

    module: str
    function: str
    lines: tuple[int, ...]
    new: str
    shown: str
    span: Span
    name: str = ""

    @property
    def key(self) -> str:
        """Return what tells a mutant from all others, whatever the number of its line."""
        return f"{self.module} {self.function}: {self.shown}"

    def order(self, seed: int) -> str:
        """Return a place in a random order that is the same in every run."""
        told = f"{seed}\0{self.key}\0{self.span[:2]}"
        return hashlib.sha256(told.encode()).hexdigest()

    def apply(self, source: str) -> str:
        """Return the text with the change made."""
        lines = source.encode().splitlines(keepends=True)
        first, _, last, _ = self.span
        changed = _changed(lines, self.span, self.new).encode()
        return b"".join([*lines[: first - 1], changed, *lines[last:]]).decode()


def all_mutants(source: str, module: str) -> list[Mutant]:
    """Return all mutants of a module; a few are no Python, which `is_python` tells."""
    found: dict[tuple[Span, str], Mutant] = {}
    text = source.encode().splitlines(keepends=True)
    for name, function in _functions(ast.parse(source)):
        skipped = _skipped(function)
        for statement in ast.walk(function):
            if not isinstance(statement, ast.stmt) or statement in skipped:
                continue
            for node, new in _changes(statement, skipped):
                span = (node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)
                shown = _shown(text, span, new)
                lines = (statement.lineno, *range(node.lineno, node.end_lineno + 1))
                found.setdefault((span, new), Mutant(module, name, lines, new, shown, span))
    return sorted(found.values(), key=lambda m: (m.span, m.new))


def is_python(source: str) -> bool:
    """Tell whether a text can be compiled."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def by_hand(source: str, module: str, name: str, old: str, new: str) -> Mutant | None:
    """Return the mutant that replaces a text, or None where it does not occur exactly once."""
    if source.count(old) != 1:
        return None
    before = source[: source.index(old)]
    first, start = before.count("\n") + 1, len(before.rpartition("\n")[2].encode())
    last = first + old.count("\n")
    end = len(old.rpartition("\n")[2].encode()) + (start if first == last else 0)
    for function, node in _functions(ast.parse(source)):
        if node.lineno <= first and last <= (node.end_lineno or 0):
            lines, span = tuple(range(first, last + 1)), (first, start, last, end)
            shown = _shown(source.encode().splitlines(keepends=True), span, new)
            return Mutant(module, function, lines, new, shown, span, name)
    return None


def _changed(lines: list[bytes], span: Span, new: str) -> str:
    """Return the lines of a span with the change made."""
    first, start, last, end = span
    return (lines[first - 1][:start] + new.encode() + lines[last - 1][end:]).decode()


def _shown(lines: list[bytes], span: Span, new: str) -> str:
    before = b"".join(lines[span[0] - 1 : span[2]]).decode()
    return " => ".join(" ".join(t.split()) for t in (before, _changed(lines, span, new)))


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")


def _skipped(function: ast.FunctionDef) -> set[ast.AST]:
    """Return what is read when the module is loaded, or only by people: never mutated."""
    roots: list[ast.AST] = []
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef):
            roots += [node.args, *node.decorator_list, *([node.returns] if node.returns else [])]
            if ast.get_docstring(node) is not None:
                roots.append(node.body[0])
        elif isinstance(node, ast.AnnAssign):
            roots.append(node.annotation)
        elif isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr):
            roots.append(node)  # messages; that one is raised is a mutant of its condition
    return {inner for root in roots for inner in ast.walk(root)} - {function}


def _changes(statement: ast.stmt, skipped: set[ast.AST]) -> Iterator[tuple[ast.AST, str]]:
    """Yield nodes of a statement, not of those inside it, and what to write instead."""
    if _may_be_left_out(statement):
        yield statement, "pass"
    stack = [n for n in ast.iter_child_nodes(statement) if not isinstance(n, ast.stmt)]
    while stack:
        node = stack.pop()
        if node in skipped:
            continue
        stack += [n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.stmt)]
        yield from ((node, new) for new in _instead(node))
    if isinstance(statement, ast.AugAssign) and type(statement.op) in SWAPPED:
        target, value = ast.unparse(statement.target), ast.unparse(statement.value)
        yield statement, f"{target} {SWAPPED[type(statement.op)]}= {value}"
    if isinstance(statement, ast.If | ast.While) and isinstance(
        statement.test, ast.Name | ast.Call | ast.Attribute
    ):
        yield statement.test, f"not {ast.unparse(statement.test)}"


def _may_be_left_out(statement: ast.stmt) -> bool:
    """Tell whether a statement acts without giving a name, which others would miss."""
    if isinstance(statement, ast.Assign):
        return not isinstance(statement.targets[0], ast.Name | ast.Tuple)
    is_call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    return is_call or isinstance(statement, ast.AugAssign)


def _instead(node: ast.AST) -> Iterator[str]:
    """Yield the expressions to put in the place of one."""
    text = ast.unparse
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        left, right = text(node.left), text(node.comparators[0])
        for table in (SWAPPED, OPPOSITE):
            if type(node.ops[0]) in table:
                yield f"(({left}) {table[type(node.ops[0])]} ({right}))"
    elif isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
        yield f"(({text(node.left)}) {SWAPPED[type(node.op)]} ({text(node.right)}))"
    elif isinstance(node, ast.BoolOp):
        yield "(" + f" {SWAPPED[type(node.op)]} ".join(f"({text(v)})" for v in node.values) + ")"
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
        yield f"({text(node.operand)})"
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield repr(node.value + 1 if isinstance(node.value, int) else 2 * node.value or 1.0)
    elif isinstance(node, ast.Call):
        called = node.func
        name = getattr(called, "id", getattr(called, "attr", ""))
        if name in NAMES:
            other = NAMES[name]
            changed = (
                f"{text(called.value)}.{other}" if isinstance(called, ast.Attribute) else other
            )
            yield text(ast.Call(ast.Name(changed), node.args, node.keywords))
        for dropped in node.keywords:
            kept = [k for k in node.keywords if k is not dropped]
            yield text(ast.Call(called, node.args, kept))
    elif isinstance(node, ast.Attribute) and node.attr in ("rows", "cols"):
        yield f"{text(node.value)}.{NAMES[node.attr]}"
    elif isinstance(node, ast.IfExp):
        yield f"(({text(node.orelse)}) if {text(node.test)} else ({text(node.body)}))"
    elif isinstance(node, ast.Slice):
        if node.lower is not None:
            yield f":{text(node.upper) if node.upper else ''}"
        if node.upper is not None:
            yield f"{text(node.lower) if node.lower else ''}:"
    elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.ctx, ast.Load):
        yield f"({text(node.elts[1])}, {text(node.elts[0])})"
