"""Interrupts: a signal that ends a run does so between two of its steps, and never within one.

A handler of Python may raise after any bytecode of the main thread: Celery's soft time limit, the
end of a process, Ctrl+C. Within a statement that leaves a connection with half an answer in it,
within ``Condition.wait`` a lock that nobody holds, and within ``except Exception`` it is taken for
the fault of a row. Neither ``with`` nor ``finally`` guards against that:
https://docs.python.org/3/library/signal.html#note-on-signal-handlers-and-exceptions
"""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: By which runs are ended: Celery's limits, supervisors, servers of web processes, people, alarms.
SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGUSR1", "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGABRT", "SIGALRM")
    if hasattr(signal, name)
)


@contextmanager
def held() -> Iterator[Callable[[], None]]:
    """Hold signals back in the block, but where the function that it yields is called.

    That one, and the end of the block, call the handlers of those that came, which may raise. One
    that comes again while it is held back is let in at once: somebody insists. Handlers that are
    not of Python, and threads other than the main one, are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield _do_nothing
        return
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    came: list[int] = []
    is_over = False

    def hold(number: int, frame: FrameType | None) -> None:
        if is_over or number in came:
            handlers[number](number, frame)
        else:
            came.append(number)

    def let_in() -> None:
        if came:
            number = came.pop(0)
            try:
                handlers[number](number, inspect.currentframe())
            finally:
                let_in()

    try:
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, hold)
        yield let_in
    finally:
        # A handler that raises while others are restored leaves some as they are.
        is_over = True
        try:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        finally:
            let_in()


def _do_nothing() -> None:
    """Let nothing in: nothing is held."""
