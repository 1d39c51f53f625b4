"""Slowness: which receivers answered slowly or quickly the last time, as this process knows.

What one run of a worker learnt is known to the next. It is forgotten after a while, so that a
receiver that became quick is not held to be slow for ever.
"""

from __future__ import annotations

from collections.abc import Hashable

#: Seconds after which an answer, or a request that has none yet, is slow.
SLOW = 0.25
#: Seconds that requests take on average from which on a key takes its time: more than a process
#: that is busy with something else keeps a quick one waiting.
LEISURE = 0.01
#: Part of the average that the last request is.
WEIGHT = 0.25
#: Seconds for which it is remembered.
REMEMBERED = 120.0
#: Receivers that are remembered at the most.
MOST = 10_000


class Slowness:
    """Remembers how keys answered the last time. Its methods may be called by many threads."""

    def __init__(self) -> None:
        self._slow: dict[Hashable, float] = {}
        self._quick: dict[Hashable, float] = {}
        self._averages: dict[Hashable, tuple[float, float]] = {}

    def forget(self) -> None:
        """Know nothing of anybody."""
        self._slow.clear()
        self._quick.clear()
        self._averages.clear()

    def note(self, key: Hashable, *, seconds: float, now: float) -> None:
        """Remember how long a request of a key took."""
        known, other = self._quick, self._slow
        if seconds >= SLOW:
            known, other = other, known
        other.pop(key, None)
        if len(known) >= MOST and key not in known:
            known.clear()
        known[key] = now + REMEMBERED
        average, until = self._averages.get(key, (seconds, now))
        if until < now:
            average = seconds
        if len(self._averages) >= MOST and key not in self._averages:
            self._averages.clear()
        self._averages[key] = (average + (seconds - average) * WEIGHT, now + REMEMBERED)

    def is_slow(self, key: Hashable, *, now: float) -> bool:
        """Say whether the last answer of a key was slow."""
        return self._slow.get(key, 0.0) > now

    def is_quick(self, key: Hashable, *, now: float) -> bool:
        """Say whether the last answer of a key was quick; neither where nothing is known of it."""
        return self._quick.get(key, 0.0) > now

    def takes_its_time(self, key: Hashable, *, now: float) -> bool:
        """Say whether a key answers, but not so soon that the next request should wait for it."""
        average, until = self._averages.get(key, (0.0, 0.0))
        return until > now and average >= LEISURE


#: What this process knows.
memory = Slowness()
