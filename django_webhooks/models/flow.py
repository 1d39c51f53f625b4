"""Flow: how much of a subscription's limits is used, and how far what waits for them has come.

One row for each subscription that was ever limited, locked by who lets deliveries go. Requests in
flight are not counted here: they are the leases there are.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import models
from django.utils.translation import gettext

from ..conf import settings
from ..policies.rate import Limits
from ..validators import LONGEST_SECONDS
from .subscription import Subscription

if TYPE_CHECKING:
    from .delivery import DeliveryQuerySet

#: Before all ids.
NOBODY = UUID(int=0)
#: Deliveries counted to foretell one.
COUNTED = 100_000


def words(limits: Limits) -> str:
    """Return limits as people say them."""
    parts = []
    if limits.rate is not None:
        parts.append(gettext("%(rate)g a second") % {"rate": limits.rate})
    if limits.in_flight is not None:
        parts.append(gettext("%(count)d at once") % {"count": limits.in_flight})
    return ", ".join(parts)


class FlowQuerySet(models.QuerySet["Flow"]):
    """Named sets of flows."""

    def lock(self, subscriptions: Collection[UUID]) -> dict[UUID, Flow]:
        """Lock the rows of these subscriptions, made where there were none, and return them."""
        keys = list(subscriptions)
        found = self._locked(keys)
        if missing := [key for key in keys if key not in found]:
            rows = [Flow(subscription_id=key) for key in missing]
            self.bulk_create(rows, ignore_conflicts=True)
            # One that is deleted just now has none.
            found |= self._locked(missing)
        return found

    def _locked(self, keys: Collection[UUID]) -> dict[UUID, Flow]:
        rows = self.filter(pk__in=keys).select_for_update().order_by("pk")
        return {row.pk: row for row in rows}

    def backed_up(self) -> FlowQuerySet:
        """Those of subscriptions that have deliveries held because of a limit."""
        return self.filter(turn__isnull=False)


class Flow(models.Model):
    """What a limited subscription has used, and what it has reserved."""

    subscription = models.OneToOneField(
        Subscription, on_delete=models.CASCADE, primary_key=True, related_name="flow"
    )
    #: Up to when the requests that went fill the rate; the state of ``policies.rate``.
    used_until = models.DateTimeField(null=True, blank=True)
    #: The same, with those that are released and wait for their moment.
    reserved_until = models.DateTimeField(null=True, blank=True)
    #: Deliveries up to this one were released; NULL where none is held because of a limit.
    turn = models.UUIDField(null=True, blank=True)
    #: The run of a worker that waits for the next moment, so that one does, and until when.
    watcher = models.UUIDField(null=True, blank=True)
    watched_until = models.DateTimeField(null=True, blank=True)

    objects = FlowQuerySet.as_manager()

    if TYPE_CHECKING:
        subscription_id: UUID

    class Meta:
        verbose_name = "flow"
        verbose_name_plural = "flows"
        indexes = [
            models.Index(
                fields=["turn"],
                condition=models.Q(turn__isnull=False),
                name="webhooks_flow_backed_up",
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
    rows = Flow.objects.using(using)
    if not rows.filter(pk=subscription).update(turn=NOBODY, reserved_until=None):
        row = Flow(subscription_id=subscription, turn=NOBODY)
        rows.bulk_create([row], ignore_conflicts=True)


def let_flow(subscription: Subscription, deliveries: DeliveryQuerySet) -> int:
    """Release all that is held, and return how many deliveries that were.

    Of a limited subscription one batch is released, and the rest as its limits allow.
    """
    if not subscription.limits:
        return deliveries.release()
    if not deliveries.held().exists():
        return 0
    note_backlog(subscription.pk, using=deliveries.db)
    return deliveries.release(limit=settings.WEBHOOKS_BATCH_SIZE)
