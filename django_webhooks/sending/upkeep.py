"""Upkeep: find what was lost on the way, and remove what is over for long."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from ..conf import settings
from ..fields import DatabaseNow
from ..models import Attempt, Delivery, Endpoint, Event, Health, Probe, SigningKey, Subscription
from ..models.flow import let_flow
from . import health, limits, outbox, routes
from .clock import DatabaseClock

logger = logging.getLogger(__name__)

#: Time for which what is held is looked at again after its subscription changed.
RECENT = timedelta(days=1)
#: Time for which an expired signing key is still to be seen.
KEPT_KEYS = timedelta(days=30)
#: Deliveries removed by one transaction.
PRUNE_BATCH = 500


def count_due(*, limit: int, using: str | None = None, now: datetime | None = None) -> int:
    """Return how many deliveries are due, counting no further than ``limit``."""
    using = using or outbox.database()
    now = now or DatabaseClock(using=using)()
    return Delivery.objects.using(using).due(now)[:limit].count()


def release_forgotten(*, using: str | None = None, now: datetime | None = None) -> int:
    """Release what was held while its subscription came back, and return how many that were.

    An event that was being recorded at that moment saw the subscription still held. What has its
    turn in a lane and is held nevertheless is released as well: see ``sending.turns``.
    """
    using = using or outbox.database()
    now = now or timezone.now()
    held = Delivery.objects.using(using).held().filter(subscription_id=OuterRef("subscription_id"))
    rows, released = Delivery.objects.using(using), 0
    doors = Health.objects.using(using).filter(
        is_active=True,
        ramp__isnull=True,
        endpoint__disabled_at__isnull=True,
        subscription__status=Subscription.Status.ACTIVE,
        subscription__unreadable_since__isnull=True,
    )
    changed = Q(subscription_id__in=_changed_since(now - RECENT, using=using))
    candidates = doors.filter(Exists(held), changed).order_by().select_related("subscription")
    found = [door.subscription for door in candidates]
    for subscription in found:
        if subscription.limits:
            # What it holds may be no more than its limits ask for.
            limits.note_forgotten(subscription.pk, using=using)
    if free := [one.pk for one in found if not one.limits]:
        held_there = rows.held().filter(subscription_id__in=free, ordering_key="")
        released = held_there.update(due_at=DatabaseNow())
    # Whose turn it is and is held was forgotten, whenever its subscription changed; unless limits
    # hold it.
    flows = doors.filter(
        Q(subscription__flow__isnull=True) | Q(subscription__flow__turn__isnull=True),
        subscription_id=OuterRef("subscription_id"),
    )
    return released + rows.filter(Exists(flows)).release_heads()


def cancel_orphans(*, using: str | None = None) -> int:
    """Cancel what waits for a subscription that was deleted, and return how many that were.

    An event that was being recorded at that moment came too late to be cancelled with the others.
    """
    rows = Delivery.objects.using(using or outbox.database())
    return rows.filter(subscription__isnull=True, lease_token__isnull=True).cancel(
        "subscription_deleted"
    )


def _changed_since(moment: datetime, *, using: str) -> QuerySet[Any, Any]:
    """Return keys of subscriptions whose status, endpoints or health changed since then.

    A union, since no index serves an OR over two tables.
    """
    changed = Subscription.objects.using(using).filter(flow_changed_at__gte=moment)
    flowed = Health.objects.using(using).filter(flowed_at__gte=moment)
    return changed.order_by().values("pk").union(flowed.order_by().values("subscription_id"))


def note_unreadable(
    subscriptions: Collection[UUID], *, using: str, now: datetime | None = None
) -> None:
    """Remember that deliveries wait because URLs or keys do not open, and log it once."""
    rows = Subscription.objects.using(using).filter(
        pk__in=list(subscriptions), unreadable_since__isnull=True
    )
    for key in list(rows.values_list("pk", flat=True)):
        if rows.filter(pk=key).update(unreadable_since=now or timezone.now()):
            logger.error(
                "What subscription %s needs cannot be decrypted; its deliveries wait. "
                "See 'manage.py webhooks_rotate_keys --dry-run'.",
                key,
                extra={"webhooks_subscription": str(key)},
            )


def release_readable(*, using: str | None = None, now: datetime | None = None) -> int:
    """Release what waited because it could not be decrypted, and now can; return how many."""
    using = using or outbox.database()
    now = now or timezone.now()
    rows = Subscription.objects.using(using).filter(unreadable_since__isnull=False)
    released = 0
    for subscription in rows.prefetch_related("endpoints", "signing_keys"):
        endpoints = [one for one in subscription.endpoints.all() if one.is_usable]
        if not all(routes.is_readable(subscription, one, now=now) for one in endpoints):
            continue
        with transaction.atomic(using=using):
            subscription.lock_doors(using=using)
            rows.filter(pk=subscription.pk).update(unreadable_since=None, flow_changed_at=now)
            flowing = Health.objects.using(using).filter(
                subscription=subscription, is_active=True, ramp__isnull=True
            )
            if subscription.is_active and flowing.exists():
                deliveries = Delivery.objects.using(using).filter(subscription=subscription)
                released += let_flow(subscription, deliveries)
        logger.info("What subscription %s needs can be decrypted again.", subscription.pk)
    return released


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
        subscription__unreadable_since__isnull=True,
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
                released += health.release(
                    deliveries, ramping, subscription=subscription, count=count
                )
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
        # However much is left of the deliveries, probes get a part of the time.
        _trim_probes(ends=max(ends, time.monotonic() + max_seconds / 4), using=using)
        SigningKey.objects.using(using).filter(expires_at__lt=now - KEPT_KEYS).delete()
    return removed


def _trim_probes(*, ends: float, using: str) -> None:
    """Keep the last WEBHOOKS_PROBES_KEPT probes of each endpoint."""
    kept = settings.WEBHOOKS_PROBES_KEPT
    probes = Probe.objects.using(using)
    latest = probes.filter(endpoint_id=OuterRef("pk")).order_by("-pk").values("pk")
    # The index finds the first of each that is too many. Counting them would read them all.
    endpoints = (
        Endpoint.objects.using(using)
        .order_by("pk")
        .annotate(surplus=Subquery(latest[kept : kept + 1]))
        .values_list("pk", "surplus")
    )
    some = list(endpoints[:PRUNE_BATCH])
    while some:
        for key, surplus in some:
            if time.monotonic() >= ends:
                return
            if surplus is not None:
                probes.filter(endpoint_id=key, pk__lte=surplus)._raw_delete(using)
        some = list(endpoints.filter(pk__gt=some[-1][0])[:PRUNE_BATCH])


def _remove(deliveries: list[UUID], events: list[UUID], *, using: str) -> None:
    rows = Delivery.objects.using(using)
    with transaction.atomic(using=using):
        rows.filter(replay_of_id__in=deliveries).update(replay_of=None)
        Attempt.objects.using(using).filter(delivery_id__in=deliveries)._raw_delete(using)
        rows.filter(pk__in=deliveries)._raw_delete(using)
        remaining = Delivery.objects.using(using).filter(event_id=OuterRef("pk"))
        Event.objects.using(using).filter(~Exists(remaining), pk__in=events)._raw_delete(using)
