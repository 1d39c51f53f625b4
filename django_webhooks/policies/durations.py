"""Durations: classes that grow by a constant factor, and percentiles from how many fell into each.

A class is the whole part of ``log(ms + 1)`` to the base :data:`GROWTH`, so that a percentile is
right to about ten per cent, from a millisecond to months, in some 150 classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

#: By how much each class reaches further than the one before.
GROWTH = 1.15


def percentile(durations: Mapping[str, int], share: float) -> float | None:
    """Return the milliseconds within which the share lies, or None where there is nothing.

    ``durations`` maps a class, as text, to how many there are in it.
    """
    wanted = math.ceil(sum(durations.values()) * share)
    if not wanted:
        return None
    seen = 0
    for key in sorted(durations, key=int):
        seen += durations[key]
        if seen >= wanted:
            return middle(int(key))
    return None


def middle(key: int) -> float:
    """Return the milliseconds in the middle of a class."""
    low, high = GROWTH**key - 1, GROWTH ** (key + 1) - 1
    return 0.0 if high <= 1 else (low + high) / 2
