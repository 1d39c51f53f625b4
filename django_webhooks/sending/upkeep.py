"""Upkeep: find what was lost on the way, and remove what is over for long."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from ..conf import settings
from ..models import Attempt, Delivery, Event, Subscription
from . import outbox
from .clock import DatabaseClock

#: Time for which what is held is looked at again after its subscription changed.
RECENT = timedelta(days=1)
#: Deliveries removed by one transaction.
PRUNE_BATCH = 500


def count_due(*, limit: int, using: str | None = None, now: datetime | None = None) -> int:
    """Return how many deliveries are due, counting no further than ``limit``."""
    using = using or outbox.database()
    now = now or DatabaseClock(using=using)()
    return Delivery.objects.using(using).due(now)[:limit].count()


def release_forgotten(*, using: str | None = None, now: datetime | None = None) -> int:
    """Release what was held while its subscription resumed, and return how many that were.

    An event that was being recorded at that moment saw the subscription still paused.
    """
    using = using or outbox.database()
    now = now or timezone.now()
    changed = Subscription.objects.using(using).active().filter(flow_changed_at__gte=now - RECENT)
    with_endpoint = changed.filter(endpoints__disabled_at__isnull=True, endpoints__pk__isnull=False)
    keys = list(with_endpoint.distinct().order_by().values_list("pk", flat=True))
    if not keys:
        return 0
    return Delivery.objects.using(using).filter(subscription_id__in=keys).release()


def prune(
    *,
    using: str | None = None,
    now: datetime | None = None,
    max_seconds: float = 60.0,
    dry_run: bool = False,
) -> int:
    """Remove deliveries that are over for longer than WEBHOOKS_RETENTION_DAYS; return how many.

    What waits is never removed. An event goes with its last delivery. Stops after ``max_seconds``;
    the next run goes on.
    """
    using = using or outbox.database()
    now = now or timezone.now()
    ends = time.monotonic() + max_seconds
    removed = 0
    for status, days in settings.WEBHOOKS_RETENTION_DAYS.items():
        if days is None or status == Delivery.Status.WAITING:
            continue
        old = Delivery.objects.using(using).filter(
            status=status, finished_at__lt=now - timedelta(days=days)
        )
        if dry_run:
            removed += old.count()
            continue
        while time.monotonic() < ends:
            batch = list(old.order_by("finished_at").values_list("pk", "event_id")[:PRUNE_BATCH])
            if not batch:
                break
            _remove([key for key, _ in batch], [event for _, event in batch], using=using)
            removed += len(batch)
    return removed


def _remove(deliveries: list[UUID], events: list[UUID], *, using: str) -> None:
    rows = Delivery.objects.using(using)
    with transaction.atomic(using=using):
        rows.filter(replay_of_id__in=deliveries).update(replay_of=None)
        Attempt.objects.using(using).filter(delivery_id__in=deliveries)._raw_delete(using)
        rows.filter(pk__in=deliveries)._raw_delete(using)
        remaining = Delivery.objects.using(using).filter(event_id=OuterRef("pk"))
        Event.objects.using(using).filter(~Exists(remaining), pk__in=events)._raw_delete(using)
