"""Ctrl-C inside a block that holds it back: the first waits for its end, a second does not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from landscape.training.interruption import SAID, held_back


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """Python's own handling of Ctrl-C, which a background job starts without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def pressed_twice(told: list[object]) -> None:
    with held_back() as pressed:
        told.append(pressed())
        press()
        told.append(pressed())
        press()
        told.append("after the second")


def pressed_once(told: list[object], error: type[BaseException] | None = None) -> None:
    with held_back() as pressed:
        press()
        if error is not None:
            raise error
        told.append(pressed())


def test_the_first_waits_for_the_end_of_the_block_and_is_told_inside_and_aloud(capsys) -> None:
    told: list[object] = []
    with pytest.raises(KeyboardInterrupt):
        pressed_once(told)
    assert told == [True]
    assert capsys.readouterr().err == f"{SAID}\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ends_the_block_at_once() -> None:
    told: list[object] = []
    with pytest.raises(KeyboardInterrupt):
        pressed_twice(told)
    assert told == [False, True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_one_the_block_ends_as_it_would_and_the_next_is_not_held_back() -> None:
    with held_back() as pressed:
        assert not pressed()
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        press()


def test_an_error_of_the_block_is_not_hidden_and_the_handling_comes_back() -> None:
    with pytest.raises(ZeroDivisionError):
        pressed_once([], ZeroDivisionError)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_somebody_elses_handling_is_left_alone() -> None:
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    own = signal.getsignal(signal.SIGINT)
    with held_back() as pressed:
        assert signal.getsignal(signal.SIGINT) is own
        press()
        assert not pressed()
    assert heard == [1]
    assert signal.getsignal(signal.SIGINT) is own


def test_outside_the_main_thread_nothing_is_changed() -> None:
    found = []

    def elsewhere() -> None:
        with held_back() as pressed:
            found.append((pressed(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [(False, signal.default_int_handler)]
