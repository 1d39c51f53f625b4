"""How long something takes, on a machine that has other things to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_time(act: Callable[[], T], *, seconds: float, tries: int = 3) -> T:
    """Return what ``act`` returns once it took no longer; fail where it never does.

    A busy machine adds time and never takes any: what is too slow by itself is so each time.
    """
    took = []
    for _ in range(tries):
        began = time.monotonic()
        found = act()
        took.append(time.monotonic() - began)
        if took[-1] <= seconds:
            return found
    raise AssertionError(f"Longer than {seconds} s each time: {took}")
