"""Upkeep: find what was lost on the way, and remove what is over for long."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from ... import times
from ...fields import DatabaseNow
from ...models import Delivery, Endpoint, EndpointHealth, Subscription
from ...models.rate_limit_state import release_all
from ...policies.reasons import Reason
from .. import database, limits
from ..claims import routing
from ..database import DatabaseClock
from ..results import health

logger = logging.getLogger("django_webhooks.sending")

#: Time for which what is held is looked at again after its subscription changed.
RECENT = timedelta(days=1)


def count_due(*, limit: int, using: str | None = None, now: datetime | None = None) -> int:
    """Return how many deliveries are due, counting no further than ``limit``."""
    using = using or database.alias()
    now = now or DatabaseClock(using=using)()
    return Delivery.objects.using(using).due(now)[:limit].count()


def release_forgotten(*, using: str | None = None, now: datetime | None = None) -> int:
    """Release what was held while its subscription came back, and return how many that were.

    An event that was being fanned out at that moment saw the subscription still held. A delivery
    whose turn it is in a partition, and that is held nevertheless, is released as well: see
    ``sending.claims.ordering``.
    """
    using = using or database.alias()
    now = now or times.now()
    held = Delivery.objects.using(using).held().filter(subscription_id=OuterRef("subscription_id"))
    rows, released = Delivery.objects.using(using), 0
    candidates = EndpointHealth.objects.using(using).flowing()
    changed = Q(subscription_id__in=_changed_since(now - RECENT, using=using))
    found_held = candidates.filter(Exists(held), changed).order_by().select_related("subscription")
    found = [candidate.subscription for candidate in found_held]
    for subscription in found:
        if subscription.limits:
            # The subscription may hold no more than its limits ask for.
            limits.note_forgotten(subscription.pk, using=using)
    if free := [one.pk for one in found if not one.limits]:
        held_there = rows.held().filter(subscription_id__in=free, partition="")
        released = held_there.update(due_at=DatabaseNow())
    # A held delivery whose turn it is was forgotten, whenever its subscription changed; unless
    # limits hold it.
    flows = candidates.filter(
        Q(subscription__rate_limit_state__isnull=True)
        | Q(subscription__rate_limit_state__released_through__isnull=True),
        subscription_id=OuterRef("subscription_id"),
    )
    return released + rows.filter(Exists(flows)).release_heads()


def cancel_orphans(*, using: str | None = None) -> int:
    """Cancel what waits for a subscription that was deleted, and return how many that were.

    An event that was being fanned out at that moment came too late to be cancelled with the others.
    """
    rows = Delivery.objects.using(using or database.alias())
    there = Subscription.objects.using(rows.db).filter(pk=OuterRef("subscription_id"))
    # The database does not hold such references: see Delivery.subscription.
    rows.waiting().filter(~Exists(there), subscription__isnull=False).update(subscription=None)
    return rows.filter(subscription__isnull=True, lease_token__isnull=True).cancel(
        Reason.SUBSCRIPTION_DELETED
    )


def _changed_since(moment: datetime, *, using: str) -> QuerySet[Any, Any]:
    """Return keys of subscriptions whose status, endpoints or health changed since then.

    A union, since no index serves an OR over two tables.
    """
    changed = Subscription.objects.using(using).filter(sending_changed_at__gte=moment)
    flowed = EndpointHealth.objects.using(using).filter(fully_released_at__gte=moment)
    return changed.order_by().values("pk").union(flowed.order_by().values("subscription_id"))


def release_readable(*, using: str | None = None, now: datetime | None = None) -> int:
    """Release what waited because it could not be decrypted, and now can; return how many."""
    using = using or database.alias()
    now = now or times.now()
    rows = Subscription.objects.using(using).filter(unreadable_since__isnull=False)
    released = 0
    for subscription in rows.prefetch_related("endpoints", "signing_keys"):
        endpoints = [one for one in subscription.endpoints.all() if one.is_usable]
        if not all(routing.is_readable(subscription, one, now=now) for one in endpoints):
            continue
        with transaction.atomic(using=using):
            subscription.lock_endpoint_health(using=using)
            rows.filter(pk=subscription.pk).update(unreadable_since=None, sending_changed_at=now)
            subscription.unreadable_since = None
            if subscription.flows:
                deliveries = Delivery.objects.using(using).filter(subscription=subscription)
                released += release_all(subscription, deliveries)
        logger.info("What subscription %s needs can be decrypted again.", subscription.pk)
    return released


def nudge(*, using: str | None = None, now: datetime | None = None) -> int:
    """Release a held delivery where nothing else moves it; return how many were released.

    For an endpoint on trial that nothing tries, and for a slow start whose deliveries brought
    nothing to go on with.
    """
    using = using or database.alias()
    now = now or DatabaseClock(using=using)()
    candidates = EndpointHealth.objects.using(using).filter(
        Q(state=EndpointHealth.State.TRIAL) | Q(is_active=True, slow_start_released__isnull=False),
        endpoint__disabled_at__isnull=True,
        subscription__in=Subscription.objects.using(using).sending(),
    )
    waiting = Delivery.objects.using(using).waiting().filter(subscription_id=OuterRef("pk"))
    moving = waiting.filter(Q(lease_token__isnull=False) | Q(due_at__lte=now))
    stalled = Subscription.objects.using(using).filter(
        Exists(waiting.filter(due_at__isnull=True)),
        ~Exists(moving),
        pk__in=candidates.values("subscription_id"),
    )
    released = 0
    for subscription in stalled:
        with transaction.atomic(using=using):
            locked = Endpoint.objects.using(using).lock_health([subscription.pk])[subscription.pk]
            deliveries = Delivery.objects.using(using).filter(subscription=subscription)
            in_slow_start = next(
                (one for one in locked if one.is_active and one.slow_start_released is not None),
                None,
            )
            if in_slow_start is not None:
                count = max(1, in_slow_start.slow_start_released or 0)
                released += health.release(
                    deliveries, in_slow_start, subscription=subscription, count=count
                )
            elif not any(one.is_active for one in locked):
                tried = next(
                    (one for one in locked if one.state == EndpointHealth.State.TRIAL), None
                )
                released += deliveries.release_for_trial(tried.reason if tried else "")
    return released
