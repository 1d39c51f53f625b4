"""RateLimitState: how much of a subscription's limits is used, and how far what waits for them has
come.

One row for each subscription that was ever limited, locked by who lets deliveries go. Requests in
flight are not counted here: they are the leases there are.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import models

from ..fields import UTCDateTimeField
from ..validators import LONGEST_SECONDS
from .subscription import Subscription

if TYPE_CHECKING:
    from .delivery import DeliveryQuerySet

#: Before all ids.
NOBODY = UUID(int=0)
#: Held deliveries of a limited subscription that are released at once; the rest follow as its
#: limits allow.
FIRST_RELEASED = 200
#: Deliveries counted to foretell one.
COUNTED = 100_000


class RateLimitStateQuerySet(models.QuerySet["RateLimitState"]):
    """Named sets of these states."""

    def lock(self, subscriptions: Collection[UUID]) -> dict[UUID, RateLimitState]:
        """Lock the rows of these subscriptions, made where there were none, and return them."""
        keys = list(subscriptions)
        found = self._locked(keys)
        if missing := [key for key in keys if key not in found]:
            rows = [RateLimitState(subscription_id=key) for key in missing]
            self.bulk_create(rows, ignore_conflicts=True)
            # One that is deleted just now has none.
            found |= self._locked(missing)
        return found

    def _locked(self, keys: Collection[UUID]) -> dict[UUID, RateLimitState]:
        rows = self.filter(pk__in=keys).select_for_update().order_by("pk")
        return {row.pk: row for row in rows}

    def backed_up(self) -> RateLimitStateQuerySet:
        """Return those of subscriptions that have deliveries held because of a limit."""
        return self.filter(released_through__isnull=False)


class RateLimitState(models.Model):
    """The part of its rate that a limited subscription has used, and has reserved."""

    subscription = models.OneToOneField(
        Subscription, on_delete=models.CASCADE, primary_key=True, related_name="rate_limit_state"
    )
    #: Up to when the requests that went fill the rate; the state of ``policies.rate``.
    used_until = UTCDateTimeField(null=True, blank=True)
    #: The same, with those that are released and wait for their moment.
    reserved_until = UTCDateTimeField(null=True, blank=True)
    #: Deliveries up to this one were released; NULL where none is held because of a limit.
    released_through = models.UUIDField(null=True, blank=True)
    #: The run of a worker that waits for the next moment, so that one does, and until when.
    pacer = models.UUIDField(null=True, blank=True)
    pacer_lease_until = UTCDateTimeField(null=True, blank=True)

    objects = RateLimitStateQuerySet.as_manager()

    if TYPE_CHECKING:
        subscription_id: UUID

    class Meta:
        verbose_name = "rate limit state"
        verbose_name_plural = "rate limit states"
        indexes = [
            models.Index(
                fields=["released_through"],
                condition=models.Q(released_through__isnull=False),
                name="webhooks_limit_backed_up",
            )
        ]

    def __str__(self) -> str:
        return str(self.pk)

    def moment_behind(self, others: int, *, now: datetime) -> datetime | None:
        """Return at about which moment a delivery is released behind so many others."""
        rate = self.subscription.limits.rate
        if rate is None:
            return None
        begins = max(now, self.reserved_until or now)
        return begins + timedelta(seconds=min(others / rate, LONGEST_SECONDS))


def note_backlog(subscription: UUID, *, using: str) -> None:
    """Remember that a limited subscription has deliveries held, which its limits are to release."""
    rows = RateLimitState.objects.using(using)
    if not rows.filter(pk=subscription).update(released_through=NOBODY, reserved_until=None):
        row = RateLimitState(subscription_id=subscription, released_through=NOBODY)
        rows.bulk_create([row], ignore_conflicts=True)


def release_all(subscription: Subscription, deliveries: DeliveryQuerySet) -> int:
    """Release all that is held, and return how many deliveries that were.

    Of a limited subscription one batch is released, and the rest as its limits allow.
    """
    if not subscription.limits:
        return deliveries.release()
    if not deliveries.held().exists():
        return 0
    note_backlog(subscription.pk, using=deliveries.db)
    return deliveries.release(limit=FIRST_RELEASED)
