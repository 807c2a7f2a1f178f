"""A pytest plugin: after the collection, run the reaching tests of one mutant after the other."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from .mutants import Mutant

ROOT = Path(__file__).resolve().parents[2]
#: Seconds of CPU time that a test may take under a mutant: a part of its own, and a floor.
SLOWER, LEAST = 8, 10
#: Seconds after which a mutant that uses no CPU time is given up.
WALL = 900
MEMORY = 6 << 30
#: Most cases of one test function that a mutant is given.
CASES = 100
Reached = dict[str, tuple[float, dict[str, set[int]]]]


class Loop:
    """Run mutants in the place of the tests.

    Args:
        modules: paths of the mutated modules, from the root.
        choose: given what each test reaches, the mutants to run.
        report: called with each mutant, its verdict, and the test that noticed it.
        kept: file that keeps what the tests reach.
        stamps: test file -> hash of what its tests reached, by which it is known to be so still.
    """

    def __init__(
        self,
        modules: list[str],
        choose: Callable[[Reached], Iterable[Mutant]],
        report: Callable[[Mutant, str, str, float], None],
        kept: Path,
        stamps: dict[str, str],
    ) -> None:
        self.modules, self.choose, self.report = modules, choose, report
        self.kept, self.stamps = kept, stamps

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutation", derandomize=True, database=None, phases=phases)
        settings.load_profile("mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for module in self.modules:
            importlib.import_module(module.removesuffix(".py").replace("/", "."))
        items = {item.nodeid: item for item in session.items}
        reached = self._reached(session)
        functions = _functions(self.modules)
        gc.collect()
        gc.freeze()  # forks share what is here
        for mutant in self.choose(reached):
            tests = in_turn(
                (seconds, name)
                for name, (seconds, lines) in reached.items()
                if name in items and not lines.get(mutant.module, set()).isdisjoint(mutant.lines)
            )
            started = time.monotonic()
            verdict, by = _fork(
                lambda say, m=mutant, t=tests: _judge(session, items, functions, m, t, say)
            )
            self.report(mutant, verdict, by, time.monotonic() - started)
        return True

    def _reached(self, session: pytest.Session) -> Reached:
        """Return the CPU time and the reached lines of every test that passes."""
        kept = self._kept()
        known = {f: kept[f] for f, stamp in self.stamps.items() if kept.get(f, [""])[0] == stamp}
        new = [item for item in session.items if _file(item.nodeid) not in known]
        if new:
            print(f"finding what {len(new)} tests reach", flush=True)
            verdict, answer = _fork(lambda say: _trace(session, new, self.modules, say), wall=7200)
            if verdict != "killed":  # here: it has said all
                raise RuntimeError(f"the tests do not run without mutants: {verdict}")
            for name, found in json.loads(answer).items():
                file = _file(name)
                known.setdefault(file, [self.stamps[file], {}])[1][name] = found
            self.kept.write_text(json.dumps(self._kept() | known))
        return {
            name: (seconds, {module: set(lines) for module, lines in where.items()})
            for _, tests in known.values()
            for name, (seconds, where) in tests.items()
        }

    def _kept(self) -> dict[str, Any]:
        return json.loads(self.kept.read_text()) if self.kept.exists() else {}


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def in_turn(tests: Iterable[tuple[float, str]]) -> list[tuple[float, str]]:
    """Order tests: the cheapest case of every function first, then the next, up to `CASES`."""
    taken: dict[str, int] = defaultdict(int)
    ranked = []
    for seconds, name in sorted(tests):
        function = name.partition("[")[0]
        ranked.append((taken[function], seconds, name))
        taken[function] += 1
    return [(seconds, name) for turn, seconds, name in sorted(ranked) if turn < CASES]


def _fork(work: Callable[[Callable[[str], None]], None], wall: float = WALL) -> tuple[str, str]:
    """Work in a fork; return "killed" and what it said first, or what became of it."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(null, stream)

        def say(text: str) -> None:
            with os.fdopen(writer, "w") as stream:
                stream.write(text)
            os._exit(1)

        with contextlib.suppress(BaseException):
            work(say)
            os._exit(0)
        os._exit(3)
    os.close(writer)
    os.set_blocking(reader, False)
    said, status, deadline = b"", 0, time.monotonic() + wall
    while True:
        with contextlib.suppress(BlockingIOError):
            while part := os.read(reader, 1 << 16):
                said += part
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reader)
            return "hangs", ""
        time.sleep(0.01)
    with contextlib.suppress(BlockingIOError):
        while part := os.read(reader, 1 << 16):
            said += part
    os.close(reader)
    code = os.waitstatus_to_exitcode(status)
    names = {0: "survived", 1: "killed", 3: "not installed", -signal.SIGPROF: "too slow"}
    return names.get(code, "crashed"), said.decode()


def _judge(
    session: pytest.Session,
    items: dict[str, pytest.Item],
    functions: dict[tuple[str, str], list[FunctionType]],
    mutant: Mutant,
    tests: list[tuple[float, str]],
    say: Callable[[str], None],
) -> None:
    """Install a mutant in this process and run its tests until one fails."""
    _install(functions, mutant)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    chosen = [items[name] for _, name in tests]
    for (seconds, name), item, following in zip(tests, chosen, [*chosen[1:], None], strict=True):
        signal.setitimer(signal.ITIMER_PROF, LEAST + SLOWER * seconds)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            say(name)


def _install(functions: dict[tuple[str, str], list[FunctionType]], mutant: Mutant) -> None:
    path = str(ROOT / mutant.module)
    tree = compile(mutant.apply(Path(path).read_text()), path, "exec")
    installed = 0
    for function in functions[path, mutant.function]:
        old = function.__code__
        for code in _codes(tree):
            if (code.co_qualname, code.co_firstlineno) == (old.co_qualname, old.co_firstlineno):
                function.__code__ = code
                installed += 1
    if not installed:
        raise LookupError(mutant.key)


def _codes(code: CodeType) -> Iterable[CodeType]:
    """Yield the codes of functions at the level of a module or a class."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            if not inner.co_flags & 0x2:  # a class body is not optimised, as a function is
                yield from _codes(inner)


def _functions(modules: list[str]) -> dict[tuple[str, str], list[FunctionType]]:
    """Find every function of some modules, whatever wraps it."""
    paths = {str(ROOT / module) for module in modules}
    found: dict[tuple[str, str], list[FunctionType]] = defaultdict(list)
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__.co_filename in paths:
            found[thing.__code__.co_filename, thing.__code__.co_qualname].append(thing)
    return found


def _starts(event: str, told: tuple[Any, ...]) -> bool:
    """Tell whether an event of Python's audit starts another Python."""
    return event == "os.fork" or (event == "subprocess.Popen" and sys.executable in str(told))


def _trace(
    session: pytest.Session,
    tests: list[pytest.Item],
    modules: list[str],
    say: Callable[[str], None],
) -> None:
    """Run tests; say the CPU time of each that passes and the lines that it reaches.

    Those that start another Python are left out: in it the code is as it was.
    """
    paths = {str(ROOT / module): module for module in modules}
    lines: set[tuple[str, int]] = set()

    def inside(frame: Any, event: str, _: Any) -> Any:
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return inside

    def outside(frame: Any, event: str, _: Any) -> Any:
        return inside(frame, event, _) if frame.f_code.co_filename in paths else None

    shared: dict[str, set[tuple[str, int]]] = defaultdict(set)  # file -> of its fixtures
    found: dict[str, tuple[float, set[tuple[str, int]]]] = {}

    class Setups:
        @pytest.hookimpl(trylast=True)
        def pytest_runtest_call(self, item: pytest.Item) -> None:
            shared[_file(item.nodeid)] |= lines

    started: list[str] = []
    sys.addaudithook(lambda event, told: started.append(event) if _starts(event, told) else None)
    session.config.pluginmanager.register(Setups())
    for item, following in zip(tests, [*tests[1:], None], strict=True):
        failed, before = session.testsfailed, time.process_time()
        lines.clear()
        started.clear()
        sys.settrace(outside)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        sys.settrace(None)
        if session.testsfailed == failed and not started:
            found[item.nodeid] = (time.process_time() - before, set(lines))
    answer = {}
    for name, (seconds, own) in found.items():
        where: dict[str, list[int]] = defaultdict(list)
        for path, line in sorted(own | shared[_file(name)]):
            where[paths[path]].append(line)
        answer[name] = (seconds, where)
    say(json.dumps(answer))
