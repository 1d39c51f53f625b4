"""Ordering: which deliveries of a subscription go one after the other."""

from __future__ import annotations

import hashlib
from enum import Enum

#: Characters of an ordering key at the most, as the caller gives it.
LONGEST = 200


class Ordering(Enum):
    """The deliveries of a subscription that go one after the other."""

    NONE = "none"
    KEY = "key"
    ALL = "all"


#: The partition of a subscription that has but one.
EVERYTHING = "*"


def partition(ordering: Ordering, key: str) -> str:
    """Return what deliveries share that go one after the other; empty for one that waits for none.

    A key is digested: databases that compare texts without regard to case, or to spaces at the end,
    tell partitions apart like all others.
    """
    match ordering:
        case Ordering.ALL:
            return EVERYTHING
        case Ordering.KEY if key:
            return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return ""
