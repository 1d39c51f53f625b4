"""Rejections: requests that were refused, counted in bounded space.

A process adds up what it refuses and writes it now and then, so that a flood of garbage costs
hardly more than being refused. Numbers that were not written when a process dies are lost.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime

from django.db import DatabaseError, transaction
from django.db.models import F

from .. import namespaces, process_state, times
from ..namespaces import Namespace
from ..policies.addresses import Address
from . import deduplication
from .models import Rejection

logger = logging.getLogger("django_webhooks.inbox")

#: Networks of one view and one hour that are told apart; the others are counted together.
MAX_NETWORKS = 200
#: Seconds between two writes of one process.
EVERY = 1.0
#: Bits that make a network: what one customer of a provider usually has.
PREFIXES = {4: 24, 6: 48}
OTHERS = ""

Key = tuple[datetime, str, str, str]
#: Where it is counted, and what.
Waiting = dict[Namespace, dict[Key, int]]


class _Counts:
    """The numbers that this process has counted and not written."""

    def __init__(self) -> None:
        self.start_afresh()

    def start_afresh(self) -> None:
        """Count from nothing; what a parent counted, it writes itself."""
        self.lock = threading.Lock()
        self.waiting: Waiting = {}
        self.written_at = float("-inf")


_counts = process_state.remember(_Counts(), forget=_Counts.start_afresh)


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
    now = now or times.now()
    period = datetime.fromtimestamp(now.timestamp() // 3600 * 3600, UTC)
    with _counts.lock:
        waiting = _counts.waiting.setdefault(namespaces.of(deduplication.database()), {})
        network = network if len(waiting) < MAX_NETWORKS else OTHERS
        key = (period, source, reason, network)
        waiting[key] = waiting.get(key, 0) + 1
    flush()


def flush(*, every: float = EVERY) -> None:
    """Write what was counted, unless this process did within the last seconds. Never raises."""
    with _counts.lock:
        here = namespaces.of(deduplication.database())
        if here not in _counts.waiting or time.monotonic() - _counts.written_at < every:
            return
        # Counts of another database are written there.
        waiting = _counts.waiting.pop(here)
        _counts.written_at = time.monotonic()
    try:
        with transaction.atomic(using=deduplication.database()):
            for key, number in sorted(waiting.items()):
                _add(key, number, using=deduplication.database())
    except DatabaseError as error:
        logger.warning("%d rejected requests could not be counted: %s", len(waiting), error)


def _add(key: Key, number: int, *, using: str) -> None:
    period, source, reason, network = key
    rows = Rejection.objects.using(using)
    own = {"count": F("count") + number, "last_at": times.now()}
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
        last_at=times.now(),
    )
    rows.bulk_create([fresh], ignore_conflicts=True)
    mine.update(**own)
