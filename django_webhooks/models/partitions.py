"""Partitions: what of a subscription goes one after the other, and whose turn it is.

The head of a partition is what waits in it and has the least id. The module
``sending.claims.ordering`` says who may ask for it and when.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import models
from django.db.models.functions import RowNumber

from ..fields import DatabaseNow

if TYPE_CHECKING:
    from .delivery import Delivery

#: Rows that one statement names at the most.
NAMED = 1000


class PartitionQuerySet(models.QuerySet["Delivery"]):
    """A set of deliveries, with questions about their partitions."""

    def release_heads(self) -> int:
        """Make the heads due now that are held. Call it for whole subscriptions."""
        return self.make_due(
            list(self.held_heads().values_list("pk", flat=True)), now=DatabaseNow()
        )

    def held_heads(self) -> models.QuerySet[Delivery]:
        """Return those held although it is their turn. Call it for whole subscriptions."""
        ordered = self.filter(status="waiting").exclude(partition="").order_by()
        place = models.Window(
            RowNumber(), partition_by=["subscription_id", "partition"], order_by="pk"
        )
        heads = ordered.annotate(place=place).filter(place=1)
        # Outside: it is counted among all that wait, not among those that are held.
        return self._rows().filter(pk__in=heads.values("pk"), due_at__isnull=True).order_by()

    def firsts(self) -> dict[UUID, UUID | None]:
        """Return the head of the partition of each that has a partition, or None where nothing
        waits."""
        waiting = self._rows().filter(status="waiting").exclude(partition="")
        # A range of one, and the order by it: by an equality PostgreSQL may choose to walk through
        # the primary key, past all that is over, until it meets the partition.
        partition = waiting.filter(
            subscription_id=models.OuterRef("subscription_id"),
            partition__gte=models.OuterRef("partition"),
            partition__lte=models.OuterRef("partition"),
        )
        head = models.Subquery(partition.order_by("partition", "pk").values("pk")[:1])
        ordered = self.exclude(partition="").order_by()
        return dict(ordered.annotate(head=head).values_list("pk", "head"))

    def pass_on(self, *, now: datetime | DatabaseNow) -> int:
        """Make the heads of their partitions due where they are held.

        Call it for those that made way, with the endpoints of their subscriptions locked.
        """
        heads = {head for head in self.firsts().values() if head is not None}
        return self.make_due(heads, now=now)

    def make_due(self, keys: Collection[UUID], *, now: datetime | DatabaseNow) -> int:
        """Make those of these due that are held, and return how many that were."""
        keys = list(keys)
        held = self._rows().filter(status="waiting", due_at__isnull=True)
        return sum(
            held.filter(pk__in=keys[begin : begin + NAMED]).update(due_at=now)
            for begin in range(0, len(keys), NAMED)
        )

    def _rows(self) -> PartitionQuerySet:
        return type(self)(self.model, using=self.db)
