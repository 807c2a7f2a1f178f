"""The mutation run's parts: which mutants there are, and that those made by hand apply."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from mutation.mutants import all_mutants, by_hand, is_python
from mutation.targets import BY_HAND, ELSEWHERE, GUARDS, HAND_ONLY, excuse, test_file

ROOT = Path(__file__).parent.parent

SOURCE = '''
LIMIT = 3


def f(x: int, y: int = 7) -> int:
    """Return 1."""
    if x < y:
        g(x, key=2)
        return x + 1
    raise ValueError(f"{x + 1}")


class C:
    @property
    def size(self) -> float:
        self.n = not self.n
        return max(self.a[1:])
'''


def test_every_small_change_of_a_function_is_a_mutant_and_nothing_outside_one_is() -> None:
    found = {m.key.partition(": ")[2] for m in all_mutants(SOURCE, "m.py")}
    assert found == {
        "if x < y: => if ((x) <= (y)):", "if x < y: => if ((x) >= (y)):",
        "g(x, key=2) => pass", "g(x, key=2) => g(x)", "g(x, key=2) => g(x, key=3)",
        "return x + 1 => return ((x) - (1))", "return x + 1 => return x + 2",
        "self.n = not self.n => pass", "self.n = not self.n => self.n = (self.n)",
        "return max(self.a[1:]) => return min(self.a[1:])",
        "return max(self.a[1:]) => return max(self.a[2:])",
        "return max(self.a[1:]) => return max(self.a[:])",
    }  # fmt: skip
    assert {m.function for m in all_mutants(SOURCE, "m.py")} == {"f", "C.size"}


def test_a_mutant_changes_its_span_alone_and_keeps_the_precedence() -> None:
    source = "def f(a, b):\n    é = 1\n    return 'é', (a + b) * 2\n"
    changed = {m.apply(source) for m in all_mutants(source, "m.py")}
    assert "def f(a, b):\n    é = 1\n    return 'é', ((a + b) / (2))\n" in changed
    assert all(is_python(text) for text in changed)
    kept = {ast.dump(ast.parse(text)) for text in changed}
    assert len(kept) == len(changed)
    assert ast.dump(ast.parse(source)) not in kept


def test_the_order_of_a_sample_is_the_seeds() -> None:
    mutants = all_mutants(SOURCE, "m.py")
    orders = [[m.key for m in sorted(mutants, key=lambda m: m.order(seed))] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("name", BY_HAND)
def test_a_mistake_made_by_hand_still_has_its_place_in_the_code(name) -> None:
    module, old, new = BY_HAND[name]
    source = (ROOT / module).read_text(encoding="utf-8")
    mutant = by_hand(source, module, name, old, new)
    assert mutant is not None, f"say in tests/mutation/targets.py what {old!r} is now"
    assert mutant.apply(source) == source.replace(old, new)
    assert is_python(mutant.apply(source))


def test_every_guarded_module_and_every_guard_is_there() -> None:
    assert set(ELSEWHERE) | set(HAND_ONLY) <= set(GUARDS)
    assert {module for module, _, _ in BY_HAND.values()} <= set(GUARDS)
    for module, tests in GUARDS.items():
        assert (ROOT / module).is_file(), module
        assert all((ROOT / test_file(name)).is_file() for name in tests), tests


def test_an_excuse_is_for_the_mutants_that_it_names() -> None:
    assert excuse("theory/bounds.py chernoff_upper: high = 1.0 => high = 2.0")
    assert excuse("theory/bounds.py chernoff_upper: high = 1.0 => high = 3.0") is None
