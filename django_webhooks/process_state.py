"""Process-wide state: one register of all that a process remembers between two calls.

Two occasions make a process forget. :func:`forget` empties everything, as tests do between each
other, so that no test depends on another. A fork empties what belongs to the parent: its locks may
be held by threads that the child does not have, and its connections are not to be shared.

* :func:`remember` registers what depends on rows, settings, time or threads. A child forgets it.
* :func:`memo` registers results of pure functions, which are true in a child as well.
* :func:`register` takes the two ways of forgetting where they differ.

Declarations are no memory: event types, hooks and handlers are made by imports, and stay. Neither
are context variables, which belong to a request. ``tests/unit/test_process_state.py`` finds state
that is not registered here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

State = TypeVar("State")


class Memo(Protocol):
    """A function of ``functools.lru_cache`` or ``functools.cache``."""

    def cache_clear(self) -> None:
        """Drop all results."""


CachedFunction = TypeVar("CachedFunction", bound=Memo)

_registered: list[Callable[[], object]] = []


def register(forget: Callable[[], object], *, after_fork: Callable[[], object] | None) -> None:
    """Call ``forget`` when everything is forgotten, and ``after_fork``, if any, in a forked child.

    Neither may raise; ``after_fork`` may wait for no lock.
    """
    _registered.append(forget)
    if after_fork is not None:
        os.register_at_fork(after_in_child=after_fork)


def remember(state: State, *, forget: Callable[[State], object]) -> State:
    """Register state that ``forget`` empties, in a forked child too, and return it."""
    register(partial(forget, state), after_fork=partial(forget, state))
    return state


def memo(function: CachedFunction) -> CachedFunction:
    """Register the results that a cached function keeps, and return the function."""
    register(function.cache_clear, after_fork=None)
    return function


def forget() -> None:
    """Forget everything that is registered, as a process does that has just begun."""
    for one in _registered:
        one()
