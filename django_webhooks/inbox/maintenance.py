"""Upkeep of the inbox: remove what is over for longer than its retention."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from .. import times
from ..conf import retention_days
from . import deduplication
from .models import InboxMessage, Rejection

#: For so long rejected requests are counted for people to see.
KEPT_REJECTIONS = timedelta(days=90)
#: Rows removed by one statement.
BATCH = 500


def prune(
    *,
    using: str | None = None,
    now: datetime | None = None,
    max_seconds: float = 60.0,
    dry_run: bool = False,
) -> int:
    """Remove messages that are over for longer than WEBHOOKS_RETENTION_DAYS.

    Return how many. A repeat of a message that was removed is handled as if it were new.
    """
    using = using or deduplication.database()
    now = now or times.now()
    ends = time.monotonic() + max_seconds
    removed = 0
    rows = InboxMessage.objects.using(using)
    for status in InboxMessage.Status.HANDLED, InboxMessage.Status.GIVEN_UP:
        if (days := retention_days(f"inbox_{status}")) is None:
            continue
        old = rows.filter(status=status, finished_at__lt=now - timedelta(days=days))
        if dry_run:
            removed += old.count()
            continue
        while time.monotonic() < ends:
            batch = list(old.order_by("finished_at").values_list("pk", flat=True)[:BATCH])
            if not batch:
                break
            # Not one that was replayed meanwhile.
            removed += rows.filter(pk__in=batch, status=status)._raw_delete(using)
    if not dry_run:
        counts = Rejection.objects.using(using)
        counts.filter(period__lt=now - KEPT_REJECTIONS)._raw_delete(using)
    return removed
