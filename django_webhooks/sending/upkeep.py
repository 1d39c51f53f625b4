"""Upkeep: find what was lost on the way, and remove what is over for long."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q
from django.utils import timezone

from ..conf import settings
from ..models import Attempt, Delivery, Event, Health, Probe, Subscription
from . import health, outbox
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
    """Release what was held while its subscription came back, and return how many that were.

    An event that was being recorded at that moment saw the subscription still held.
    """
    using = using or outbox.database()
    now = now or timezone.now()
    flowing = Health.objects.using(using).filter(
        is_active=True,
        ramp__isnull=True,
        endpoint__disabled_at__isnull=True,
        subscription__status=Subscription.Status.ACTIVE,
    )
    changed = Q(subscription__flow_changed_at__gte=now - RECENT) | Q(flowed_at__gte=now - RECENT)
    keys = list(flowing.filter(changed).order_by().values_list("subscription_id", flat=True))
    if not keys:
        return 0
    return Delivery.objects.using(using).filter(subscription_id__in=keys).release()


def nudge(*, using: str | None = None, now: datetime | None = None) -> int:
    """Release a held delivery where nothing else moves it; return how many were released.

    For an endpoint on trial that nothing tries, and for a slow start whose deliveries brought
    nothing to go on with.
    """
    using = using or outbox.database()
    now = now or DatabaseClock(using=using)()
    doors = Health.objects.using(using).filter(
        Q(state=Health.State.TRIAL) | Q(is_active=True, ramp__isnull=False),
        endpoint__disabled_at__isnull=True,
        subscription__status=Subscription.Status.ACTIVE,
    )
    waiting = Delivery.objects.using(using).waiting().filter(subscription_id=OuterRef("pk"))
    moving = waiting.filter(Q(lease_token__isnull=False) | Q(due_at__lte=now))
    stalled = Subscription.objects.using(using).filter(
        Exists(waiting.filter(due_at__isnull=True)),
        ~Exists(moving),
        pk__in=doors.values("subscription_id"),
    )
    released = 0
    for subscription in stalled:
        with transaction.atomic(using=using):
            locked = Health.objects.using(using).lock([subscription.pk])[subscription.pk]
            deliveries = Delivery.objects.using(using).filter(subscription=subscription)
            ramping = next((one for one in locked if one.is_active and one.ramp is not None), None)
            if ramping is not None:
                count = max(1, ramping.ramp or 0)
                released += health.release(deliveries, ramping, count=count, using=using)
            elif not any(one.is_active for one in locked):
                released += deliveries.release(limit=1)
    return released


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
    if not dry_run:
        _trim_probes(using=using)
    return removed


def _trim_probes(*, using: str) -> None:
    """Keep the last WEBHOOKS_PROBES_KEPT probes of each endpoint."""
    kept = settings.WEBHOOKS_PROBES_KEPT
    probes = Probe.objects.using(using)
    counts = probes.order_by().values("endpoint_id").annotate(count=Count("pk"))
    for key in counts.filter(count__gt=kept).values_list("endpoint_id", flat=True):
        own = probes.filter(endpoint_id=key)
        oldest_kept = own.order_by("-pk").values_list("pk", flat=True)[kept - 1]
        own.filter(pk__lt=oldest_kept)._raw_delete(using)


def _remove(deliveries: list[UUID], events: list[UUID], *, using: str) -> None:
    rows = Delivery.objects.using(using)
    with transaction.atomic(using=using):
        rows.filter(replay_of_id__in=deliveries).update(replay_of=None)
        Attempt.objects.using(using).filter(delivery_id__in=deliveries)._raw_delete(using)
        rows.filter(pk__in=deliveries)._raw_delete(using)
        remaining = Delivery.objects.using(using).filter(event_id=OuterRef("pk"))
        Event.objects.using(using).filter(~Exists(remaining), pk__in=events)._raw_delete(using)
