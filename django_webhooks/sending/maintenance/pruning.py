"""Pruning: rows that are over for longer than they are kept are removed, in batches."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, Subquery

from ... import times
from ...conf import retention_days
from ...fields import uuid7_at
from ...models import (
    Attempt,
    Delivery,
    Endpoint,
    Event,
    Probe,
    SigningKey,
)
from ...models.notification import Notification
from .. import database

#: Time for which an expired signing key is still to be seen.
KEPT_KEYS = timedelta(days=30)
#: Probes that are kept of each endpoint: the last minutes of an outage, and an hour of quiet.
PROBES_KEPT = 50
#: Deliveries removed by one transaction.
PRUNE_BATCH = 500
#: Statuses of deliveries that are over.
FINISHED = [one for one in Delivery.Status if one != Delivery.Status.WAITING]


def prune(
    *,
    using: str | None = None,
    now: datetime | None = None,
    max_seconds: float = 60.0,
    dry_run: bool = False,
) -> int:
    """Remove deliveries that are over for longer than WEBHOOKS_RETENTION_DAYS; return how many.

    A delivery that waits is never removed. An event goes with its last delivery; events that are
    kept although nobody listened are counted as well. Stops after ``max_seconds``; the next run
    goes on.
    """
    using = using or database.alias()
    now = now or times.now()
    ends = time.monotonic() + max_seconds
    removed = 0
    if (days := retention_days("unheard")) is not None:
        removed += _prune_unheard(now - timedelta(days=days), ends, dry_run, using=using)
    for status in FINISHED:
        if (days := retention_days(status)) is None:
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
        Notification.objects.using(using).prune(now=now)
        SigningKey.objects.using(using).filter(expires_at__lt=now - KEPT_KEYS).delete()
    return removed


def _prune_unheard(before: datetime, ends: float, dry_run: bool, *, using: str) -> int:
    rows = Event.objects.using(using)
    # By their ids, in whose order the index has them.
    old = rows.unheard().filter(pk__lt=uuid7_at(before)).order_by("pk")
    if dry_run:
        return old.count()
    removed = 0
    while time.monotonic() < ends and (
        some := list(old.values_list("pk", flat=True)[:PRUNE_BATCH])
    ):
        # An event that is fanned out again meanwhile stays.
        rows.unheard().filter(pk__in=some)._raw_delete(using)
        removed += len(some)
    return removed


def _trim_probes(*, ends: float, using: str) -> None:
    """Keep the last PROBES_KEPT probes of each endpoint."""
    probes = Probe.objects.using(using)
    latest = probes.filter(endpoint_id=OuterRef("pk")).order_by("-pk").values("pk")
    # The index finds the first of each that is too many. Counting them would read them all.
    endpoints = (
        Endpoint.objects.using(using)
        .order_by("pk")
        .annotate(surplus=Subquery(latest[PROBES_KEPT : PROBES_KEPT + 1]))
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
        over = Event.objects.using(using).filter(~Exists(remaining), fan_out__isnull=True)
        over.filter(pk__in=events)._raw_delete(using)
