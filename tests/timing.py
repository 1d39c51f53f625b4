"""How long something takes, on a machine that has other things to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def in_time(act: Callable[[], T], *, seconds: float, tries: int = 3) -> T:
    """Return what ``act`` returns once it took no longer; fail where it never does.

    A busy machine adds time and never takes any: what is too slow by itself is so each time. From
    the last time is taken off by how much the machine was late.
    """
    took = []
    for left in reversed(range(tries)):
        with stalls() as late:
            began = time.monotonic()
            found = act()
            took.append(time.monotonic() - began)
        if took[-1] - (0.0 if left else late.total) <= seconds:
            return found
    raise AssertionError(f"Longer than {seconds} s each time: {took}")


def until(condition: Callable[[], object], *, seconds: float = 60.0) -> bool:
    """Wait for a condition; fail where it does not hold in so long, which nothing takes."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"Not in {seconds} s."
        time.sleep(0.005)
    return True


class Stalls:
    """How late a thread wakes up that asks for every hundredth of a second, in seconds."""

    longest = 0.0
    total = 0.0

    def note(self, late: float) -> None:
        """Count one awakening."""
        self.longest = max(self.longest, late)
        self.total += late


@contextmanager
def stalls() -> Iterator[Stalls]:
    """Measure, during the block, how late the machine runs what is ready.

    Another process waits as long for its turn, so that a bound on its seconds needs these added.
    """
    found, is_over = Stalls(), threading.Event()

    def watch() -> None:
        wanted = time.monotonic() + 0.01
        while not is_over.wait(max(wanted - time.monotonic(), 0)):
            now = time.monotonic()
            found.note(max(now - wanted, 0.0))
            wanted = now + 0.01

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()
