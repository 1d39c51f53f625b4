"""Rejections: requests that were refused, counted in bounded space.

A process adds up what it refuses and writes it now and then, so that a flood of garbage costs
hardly more than being refused. What was not written when a process dies is not counted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from datetime import UTC, datetime

from django.db import DatabaseError, transaction
from django.db.models import F
from django.utils import timezone

from ..models import Rejection
from ..policies.addresses import Address
from . import intake

logger = logging.getLogger(__name__)

#: Networks of one view and one hour that are told apart; the others are counted together.
MAX_NETWORKS = 200
#: Seconds between two writes of one process.
EVERY = 1.0
#: Bits that make a network: what one customer of a provider usually has.
PREFIXES = {4: 24, 6: 48}
OTHERS = ""

Key = tuple[datetime, str, str, str]


class _Counts:
    """What this process has counted and not written."""

    def __init__(self) -> None:
        self.start_afresh()
        os.register_at_fork(after_in_child=self.start_afresh)

    def start_afresh(self) -> None:
        self.lock = threading.Lock()
        self.waiting: dict[Key, int] = {}
        self.written_at = float("-inf")


_counts = _Counts()


def network_of(address: Address | None) -> str:
    """Return the network that an address is counted under, empty for none."""
    if address is None:
        return OTHERS
    bits = PREFIXES[address.version]
    shift = address.max_prefixlen - bits
    first = type(address)(int(address) >> shift << shift)
    return f"{first}/{bits}"


def count(source: str, reason: str, network: str, *, now: datetime | None = None) -> None:
    """Count a request that was refused; written at once where nothing was for a second."""
    now = now or timezone.now()
    period = datetime.fromtimestamp(now.timestamp() // 3600 * 3600, UTC)
    with _counts.lock:
        known = len(_counts.waiting)
        key = (period, source, reason, network if known < MAX_NETWORKS else OTHERS)
        _counts.waiting[key] = _counts.waiting.get(key, 0) + 1
    flush()


def flush(*, every: float = EVERY) -> None:
    """Write what was counted, unless this process did within the last seconds. Never raises."""
    with _counts.lock:
        if not _counts.waiting or time.monotonic() - _counts.written_at < every:
            return
        waiting, _counts.waiting = _counts.waiting, {}
        _counts.written_at = time.monotonic()
    try:
        with transaction.atomic(using=intake.database()):
            for key, number in sorted(waiting.items()):
                _add(key, number, using=intake.database())
    except DatabaseError as error:
        logger.warning("%d rejected requests could not be counted: %s", len(waiting), error)


def _add(key: Key, number: int, *, using: str) -> None:
    period, source, reason, network = key
    rows = Rejection.objects.using(using)
    own = {"count": F("count") + number, "last_at": timezone.now()}
    mine = rows.filter(period=period, source=source, reason=reason, network=network)
    if mine.update(**own):
        return
    if network and rows.filter(period=period, source=source).count() >= MAX_NETWORKS:
        _add((period, source, reason, OTHERS), number, using=using)
        return
    fresh = Rejection(
        period=period,
        source=source,
        reason=reason,
        network=network,
        count=0,
        last_at=timezone.now(),
    )
    rows.bulk_create([fresh], ignore_conflicts=True)
    mine.update(**own)
