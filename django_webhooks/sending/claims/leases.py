"""Leases: the right of one worker to attempt a delivery until a moment.

A leased delivery carries the token of its lease, and falls due again when the lease ends; a worker
that dies is thereby found like any other due work. Only the holder of the token changes the row.

New deliveries go before retries and replays, up to NEW_SHARE of a batch; either fills up where the
other has less, so that neither shuts the other out. Within each the longest due goes first. A
delivery of a partition waits for its turn (see ``sending.claims.ordering``).
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connections, transaction
from django.db.models import F, Value
from django.db.models.functions import Least

from ...conf import settings
from ...fields import UTCDateTimeField
from ...models import Delivery
from ...models.delivery import DeliveryQuerySet
from ...policies.reasons import Reason
from ..database import loaders
from . import ordering

#: Deliveries leased at once by one worker process: a few times those under way, so that statements
#: are few, and no delivery waits here for long while another worker is free.
BATCH_SIZE = 200
#: Part of a batch that new deliveries may take from retries and replays: most of it, since an
#: outage must not delay new events, and never all, since retries would wait for ever.
NEW_SHARE = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The lease of one call: its token, its end, and the deliveries with all that sending needs."""

    token: UUID
    until: datetime
    deliveries: list[Delivery]
    #: Due deliveries that were looked at; some may wait for their turn.
    found: int


def end(now: datetime) -> datetime:
    """Return the moment at which a lease that is taken now ends."""
    return now + timedelta(seconds=settings.WEBHOOKS_LEASE_SECONDS)


def take(
    *,
    now: datetime,
    limit: int,
    using: str,
    ids: Collection[UUID] | None = None,
    except_subscriptions: Collection[UUID] = (),
) -> Lease:
    """Lease up to ``limit`` due deliveries; of ``ids`` only, where given.

    Deliveries that another worker is taking at this moment are passed over.
    """
    token = uuid.uuid4()
    until = end(now)
    if ids is not None and len(ids) == 1:
        # One statement, whose condition decides.
        (key,) = ids
        deliveries = _take_one(key, token=token, until=until, now=now, using=using)
        if deliveries:
            return Lease(token=token, until=until, deliveries=deliveries, found=len(deliveries))
    rows = Delivery.objects.using(using)
    due, taken = rows, rows.filter(due_at__lte=now)
    if ids is not None:
        due = due.filter(pk__in=list(ids))
    if except_subscriptions:
        due = due.exclude(subscription_id__in=list(except_subscriptions))
    if connections[using].features.has_select_for_update_skip_locked:
        due = due.select_for_update(skip_locked=True)
        with transaction.atomic(using=using):
            found = _find(due, now=now, limit=limit, is_named=ids is not None)
            keys = [one.key for one in found if not one.partition]
            _mark(taken, keys, token=token, until=until)
    else:
        # The condition of the UPDATE decides between two workers that found the same rows.
        found = _find(due, now=now, limit=limit, is_named=ids is not None)
        keys = [one.key for one in found if not one.partition]
        _mark(taken, keys, token=token, until=until)
    if candidates := [one for one in found if one.partition]:
        keys += ordering.take(candidates, token=token, now=now, until=until, using=using)
    lease = load(keys, token=token, until=until, using=using)
    return replace(lease, found=len(found))


def load(keys: Collection[UUID], *, token: UUID, until: datetime, using: str) -> Lease:
    """Return the lease of those of these deliveries that have its token."""
    leased = loaders.deliveries(keys, token=token, using=using) if keys else []
    return Lease(token=token, until=until, deliveries=leased, found=len(keys))


def _take_one(
    key: UUID, *, token: UUID, until: datetime, now: datetime, using: str
) -> list[Delivery]:
    """Lease a due delivery that has no partition, and return it; nothing where there is none."""
    free = Delivery.objects.using(using).filter(pk=key, partition="", due_at__lte=now)
    if free.update(lease_token=token, due_at=until):
        return loaders.deliveries([key], token=token, using=using)
    return []


def give_back(deliveries: Collection[Delivery], *, now: datetime, using: str) -> int:
    """Let go of deliveries that were not attempted; any worker may take them at once.

    They go before what is younger: at the end of a backlog they would wait for all of it.
    """
    # A web process whose clock is ahead recorded a moment to come.
    since = Least(F("created_at"), Value(now, output_field=UTCDateTimeField()))
    return _held_by(deliveries, using=using).update(due_at=since, lease_token=None)


def hold(deliveries: Collection[Delivery], *, using: str) -> int:
    """Let go of deliveries that wait for their subscription rather than for a moment."""
    return _held_by(deliveries, using=using).update(due_at=None, lease_token=None)


def set_aside(deliveries: Collection[Delivery], *, using: str) -> int:
    """Say why deliveries that this release cannot deal with wait for the end of their lease."""
    return _held_by(deliveries, using=using).update(reason=Reason.INTERNAL)


def _held_by(deliveries: Collection[Delivery], *, using: str) -> DeliveryQuerySet:
    return Delivery.objects.using(using).filter(
        pk__in=[delivery.pk for delivery in deliveries],
        lease_token__in={delivery.lease_token for delivery in deliveries},
    )


def _find(
    rows: DeliveryQuerySet, *, now: datetime, limit: int, is_named: bool
) -> list[ordering.OrderedDelivery]:
    if is_named:
        return _candidates(rows.due(now).order_by("due_at", "pk"), limit)
    fresh = _candidates(rows.longest_due(now, Delivery.Priority.NEW), limit)
    # A part of a delivery is given by chance, so that small batches are shared too.
    share = min(limit, int(limit * NEW_SHARE + random.random()))  # nosec B311
    rest = limit - min(len(fresh), share)
    again = _candidates(rows.longest_due(now, Delivery.Priority.RETRY), rest) if rest else []
    return fresh[: limit - len(again)] + again


def _candidates(due: DeliveryQuerySet, limit: int) -> list[ordering.OrderedDelivery]:
    found = due.values_list("pk", "subscription_id", "partition")[:limit]
    return [
        ordering.OrderedDelivery(key=key, subscription=one, partition=partition)
        for key, one, partition in found
    ]


def _mark(taken: DeliveryQuerySet, keys: list[UUID], *, token: UUID, until: datetime) -> None:
    if keys:
        taken.filter(pk__in=keys).update(lease_token=token, due_at=until)
