"""Ctrl-C that waits for the end of a step, so that what was computed can be kept."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SAID = "stopping after this step; Ctrl-C again stops at once"


@contextmanager
def held_back() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C wait for the block's end, where it is raised; a second does not wait.

    The first is answered on the error stream, for a step may take long.

    Where somebody else handles the signal, or outside the main thread, nothing is changed.

    Yields:
        A function that tells whether Ctrl-C was pressed meanwhile.

    Raises:
        KeyboardInterrupt: it was.
    """
    pressed = False

    def later(*_: object) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with contextlib.suppress(OSError, RuntimeError):  # it may come in the midst of a print
            print(SAID, file=sys.stderr, flush=True)

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, later)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt
