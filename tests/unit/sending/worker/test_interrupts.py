"""Interrupts: signals are held back, and let in where that is safe."""

from __future__ import annotations

import signal
import threading

import pytest

from django_webhooks.sending.worker import interrupts

FIRST, SECOND = signal.SIGUSR1, signal.SIGTERM


class Ended(Exception):
    """What the handler of the first raises."""


@pytest.fixture
def came():
    """The signals whose handlers were called."""
    numbers = []

    def handle(number, frame):
        assert frame is not None
        numbers.append(number)
        if number == FIRST:
            raise Ended

    before = {number: signal.signal(number, handle) for number in (FIRST, SECOND)}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_is_let_in_where_the_block_says_so(came):
    with interrupts.held() as let_in:
        let_in()
        signal.raise_signal(FIRST)
        assert came == []

        with pytest.raises(Ended):
            let_in()

        let_in()
    assert came == [FIRST]


@pytest.mark.parametrize("error", [None, ValueError], ids=["well", "by an error"])
def test_what_came_is_let_in_when_the_block_ends(came, error):
    @interrupts.held()
    def block():
        signal.raise_signal(FIRST)
        signal.raise_signal(SECOND)
        if error:
            raise error

    with pytest.raises(Ended):
        block()

    assert came == [FIRST, SECOND]


def test_one_that_comes_again_insists(came):
    @interrupts.held()
    def block():
        signal.raise_signal(FIRST)
        assert came == []
        with pytest.raises(Ended):
            signal.raise_signal(FIRST)
        assert came == [FIRST]

    with pytest.raises(Ended):
        block()

    assert came == [FIRST, FIRST]


def test_handlers_are_as_before_when_the_block_ends(came):
    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}

    with pytest.raises(Ended), interrupts.held():
        signal.raise_signal(FIRST)

    assert {number: signal.getsignal(number) for number in interrupts.SIGNALS} == before


def test_one_that_comes_while_handlers_are_restored_leaves_none_deaf(came, monkeypatch):
    restore = signal.signal

    def cut(number, handler):
        restore(number, handler)
        signal.raise_signal(FIRST)

    with pytest.raises(Ended), interrupts.held():
        monkeypatch.setattr(signal, "signal", cut)
    monkeypatch.undo()
    came.clear()

    signal.raise_signal(SECOND)

    assert came == [SECOND]


def test_what_has_no_handler_of_python_is_left_alone():
    before = signal.signal(SECOND, signal.SIG_IGN)
    try:
        with interrupts.held():
            assert signal.getsignal(SECOND) is signal.SIG_IGN
    finally:
        signal.signal(SECOND, before)


def test_other_threads_hold_nothing_back(came):
    entered, leave = threading.Event(), threading.Event()

    def block():
        with interrupts.held() as let_in:
            let_in()
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=block)
    thread.start()
    assert entered.wait(10)
    try:
        with pytest.raises(Ended):
            signal.raise_signal(FIRST)
    finally:
        leave.set()
        thread.join(10)
