"""Slowness: which receivers answer slowly or quickly, as this process knows.

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
    """Remembers how keys answer. Its methods may be called by many threads."""

    def __init__(self) -> None:
        #: Seconds that requests take on average, and until when that is remembered.
        self._averages: dict[Hashable, tuple[float, float]] = {}

    def forget(self) -> None:
        """Know nothing of anybody."""
        self._averages.clear()

    def note(self, key: Hashable, *, seconds: float, now: float) -> None:
        """Remember how long a request of a key took.

        Who was slow and answers quickly is quick at once. Who was quick is not slow because of one
        answer that this process, being busy, was late to see.
        """
        average = self._average(key, now)
        if average is not None and average < SLOW:
            seconds = average + (seconds - average) * WEIGHT
        if len(self._averages) >= MOST and key not in self._averages:
            self._averages.clear()
        self._averages[key] = (seconds, now + REMEMBERED)

    def is_slow(self, key: Hashable, *, now: float) -> bool:
        """Say whether a key answers slowly."""
        average = self._average(key, now)
        return average is not None and average >= SLOW

    def is_quick(self, key: Hashable, *, now: float) -> bool:
        """Say whether a key answers quickly; neither where nothing is known of it."""
        average = self._average(key, now)
        return average is not None and average < SLOW

    def takes_its_time(self, key: Hashable, *, now: float) -> bool:
        """Say whether a key answers, but not so soon that the next request should wait for it."""
        average = self._average(key, now)
        return average is not None and average >= LEISURE

    def _average(self, key: Hashable, now: float) -> float | None:
        average, until = self._averages.get(key, (0.0, 0.0))
        return average if until > now else None


#: What this process knows.
memory = Slowness()
