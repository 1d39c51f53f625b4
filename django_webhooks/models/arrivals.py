"""Arrivals: whether an event arrived by another delivery, and which deliveries a replay repeats.

Deliveries of one event to one subscription are siblings: the first, and each replay of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.db import models

from .partitions import PartitionQuerySet

if TYPE_CHECKING:
    from .delivery import Delivery

SUCCEEDED, WAITING, GIVEN_UP, CANCELLED = "succeeded", "waiting", "given_up", "cancelled"


class ArrivalQuerySet(PartitionQuerySet):
    """A set of deliveries, with questions about their siblings."""

    def unresolved(self) -> Self:
        """Return those given up whose event has not arrived: neither before nor by a replay.

        One of each event and subscription, the last; none where a replay still waits.
        """
        is_better = models.Q(status__in=[SUCCEEDED, WAITING])
        is_later = models.Q(status=GIVEN_UP, replay__gt=models.OuterRef("replay"))
        better = self._siblings().filter(is_better | is_later)
        return self.filter(status=GIVEN_UP).filter(~models.Exists(better))

    def arrived_otherwise(self) -> Self:
        """Return those given up or cancelled whose event arrived: by a replay, or before."""
        arrived = self._siblings().filter(status=SUCCEEDED)
        return self.filter(models.Exists(arrived), status__in=[GIVEN_UP, CANCELLED])

    def with_arrival(self) -> Self:
        """These, each with the moment at which its event arrived by another delivery."""
        arrived = self._siblings().filter(status=SUCCEEDED).order_by("finished_at")
        moments = arrived.values("finished_at")[:1]
        found: Self = self.annotate(arrived_otherwise_at=models.Subquery(moments))
        return found

    def to_replay(self) -> Self:
        """Return those that a replay would send again: one of each event and subscription.

        They are over and have a subscription; none of the same event waits, and what failed has
        not arrived otherwise.
        """
        others = self._siblings()
        waits, arrived = others.filter(status=WAITING), others.filter(status=SUCCEEDED)
        over = self.filter(subscription__isnull=False).exclude(status=WAITING)
        found = over.filter(~models.Exists(waits)).filter(
            models.Q(status=SUCCEEDED) | ~models.Exists(arrived)
        )
        later = found.filter(
            event_id=models.OuterRef("event_id"),
            subscription_id=models.OuterRef("subscription_id"),
            replay__gt=models.OuterRef("replay"),
        )
        return found.filter(~models.Exists(later))

    def _siblings(self) -> models.QuerySet[Delivery]:
        """The other deliveries of the same event to the same subscription, for a subquery."""
        rows = self.model._default_manager.using(self.db).order_by()
        return rows.filter(
            event_id=models.OuterRef("event_id"), subscription_id=models.OuterRef("subscription_id")
        ).exclude(pk=models.OuterRef("pk"))
