"""Leases: the right of one worker to attempt a delivery until a moment.

A leased delivery carries the token of its lease, and falls due again when the lease ends; a worker
that dies is thereby found like any other due work. Only the holder of the token changes the row.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connections, transaction
from django.db.models import DateTimeField, F, Prefetch, Value
from django.db.models.functions import Least

from ..conf import settings
from ..models import Delivery
from ..models.delivery import DeliveryQuerySet
from .routes import ENDPOINTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What one call took: its token, its end, and the deliveries with all that sending needs."""

    token: UUID
    until: datetime
    deliveries: list[Delivery]


def take(
    *,
    now: datetime,
    limit: int,
    using: str,
    ids: Collection[UUID] | None = None,
    except_subscriptions: Collection[UUID] = (),
) -> Lease:
    """Lease up to ``limit`` due deliveries, the longest due first; of ``ids`` only, where given.

    Deliveries that another worker is taking at this moment are passed over.
    """
    token = uuid.uuid4()
    until = now + timedelta(seconds=settings.WEBHOOKS_LEASE_SECONDS)
    rows = Delivery.objects.using(using)
    due = rows.due(now)
    if ids is not None:
        due = due.filter(pk__in=list(ids))
    if except_subscriptions:
        due = due.exclude(subscription_id__in=list(except_subscriptions))
    taken = rows.filter(due_at__lte=now)
    if connections[using].features.has_select_for_update_skip_locked:
        with transaction.atomic(using=using):
            found = _keys(due.select_for_update(skip_locked=True), limit)
            _mark(taken, found, token=token, until=until)
    else:
        # The condition of the UPDATE decides between two workers that found the same rows.
        found = _keys(due, limit)
        _mark(taken, found, token=token, until=until)
    return Lease(token=token, until=until, deliveries=_load(rows, found, token=token))


def give_back(deliveries: Collection[Delivery], *, now: datetime, using: str) -> int:
    """Let go of deliveries that were not attempted; any worker may take them at once.

    They go before what is younger: at the end of a backlog they would wait for all of it.
    """
    # A web process whose clock is ahead recorded a moment to come.
    since = Least(F("created_at"), Value(now, output_field=DateTimeField()))
    return _held_by(deliveries, using=using).update(due_at=since, lease_token=None)


def hold(deliveries: Collection[Delivery], *, using: str) -> int:
    """Let go of deliveries that wait for their subscription rather than for a moment."""
    return _held_by(deliveries, using=using).update(due_at=None, lease_token=None)


def set_aside(deliveries: Collection[Delivery], *, using: str) -> int:
    """Say why deliveries that this release cannot deal with wait for the end of their lease."""
    return _held_by(deliveries, using=using).update(reason="internal")


def _held_by(deliveries: Collection[Delivery], *, using: str) -> DeliveryQuerySet:
    return Delivery.objects.using(using).filter(
        pk__in=[delivery.pk for delivery in deliveries],
        lease_token__in={delivery.lease_token for delivery in deliveries},
    )


def _keys(due: DeliveryQuerySet, limit: int) -> list[UUID]:
    return list(due.values_list("pk", flat=True)[:limit])


def _mark(taken: DeliveryQuerySet, keys: list[UUID], *, token: UUID, until: datetime) -> None:
    if keys:
        taken.filter(pk__in=keys).update(lease_token=token, due_at=until)


def _load(rows: DeliveryQuerySet, keys: list[UUID], *, token: UUID) -> list[Delivery]:
    if not keys:
        return []
    held = rows.filter(pk__in=keys, lease_token=token).select_related("event")
    endpoints = Prefetch(f"subscription__{ENDPOINTS.prefetch_to}", queryset=ENDPOINTS.queryset)
    return list(held.prefetch_related(endpoints, "subscription__signing_keys").order_by("pk"))
