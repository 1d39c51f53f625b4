"""Rounds: what beat asks for every few seconds is done by others where nobody comes to it.

What beat asks for waits in one queue with the messages of a backlog, unless the project gave it
another queue. So who has run one of those looks now and then whether a round was missed, and does
it, instead of leaving endpoints unchecked for as long as the backlog lasts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db.models import Q, QuerySet

from ..models import Pulse
from . import outbox
from .clock import carried_on
from .pulses import EVERY

logger = logging.getLogger(__name__)

#: Age of the pulse from which a round was missed: those in time are up to half as old.
MISSED = timedelta(seconds=20)
#: Age of the pulse from which the project does without the task.
DONE_WITHOUT = timedelta(days=1)

#: When this process looked last.
_looked: list[float] = []


@contextmanager
def standing_in(rounds: Mapping[str, Callable[[], Any]]) -> Iterator[None]:
    """After the block, do those rounds that were missed, by the names of their pulses.

    Never raises of its own: the block has done its work. After a round that failed none is done;
    another run will.
    """
    yield
    now = time.monotonic()
    if not _looked:
        # A process that has just begun has missed nothing.
        _looked.append(now)
    if now - _looked[0] < EVERY:
        return
    _looked[0] = now
    name = ""
    try:
        for name in _missed(rounds):
            if _take_over(name):
                rounds[name]()
    except Exception:
        logger.exception("What beat asks for was missed, and failed: %s.", name or "its pulses")


def _missed(rounds: Mapping[str, Any]) -> list[str]:
    """Return which were missed, in their order; what never ran is not missed."""
    using = outbox.database()
    late = set(_late(using).filter(pk__in=rounds).values_list("pk", flat=True))
    return [name for name in rounds if name in late]


def _take_over(name: str) -> bool:
    """Say whether it is still missed, to the first who asks."""
    using = outbox.database()
    return bool(_late(using).filter(pk=name).update(at=carried_on(using=using)()))


def _late(using: str) -> QuerySet[Pulse]:
    now = carried_on(using=using)()
    # A pulse of a moment to come is from before a clock was set back.
    is_off = Q(at__lt=now - MISSED, at__gt=now - DONE_WITHOUT) | Q(at__gt=now + MISSED)
    return Pulse.objects.using(using).filter(is_off)
