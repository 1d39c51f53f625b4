"""Lanes: what of a subscription goes one after the other, and whose turn it is.

The head of a lane is what waits in it and has the least id. The module ``sending.turns`` says who
may ask for it and when.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import models, transaction
from django.db.models.functions import RowNumber

from ..fields import DatabaseNow

if TYPE_CHECKING:
    from .delivery import Delivery

#: Rows that one statement names at the most.
NAMED = 1000


class LaneQuerySet(models.QuerySet["Delivery"]):
    """What a set of deliveries knows of lanes."""

    def release_heads(self) -> int:
        """Make the heads due now that are held. Call it for whole subscriptions."""
        return self.make_due(
            list(self.held_heads().values_list("pk", flat=True)), now=DatabaseNow()
        )

    def held_heads(self) -> models.QuerySet[Delivery]:
        """Those that are held although it is their turn. Call it for whole subscriptions."""
        ordered = self.filter(status="waiting").exclude(ordering_key="").order_by()
        place = models.Window(
            RowNumber(), partition_by=["subscription_id", "ordering_key"], order_by="pk"
        )
        heads = ordered.annotate(place=place).filter(place=1)
        # Outside: it is counted among all that wait, not among those that are held.
        return self._rows().filter(pk__in=heads.values("pk"), due_at__isnull=True).order_by()

    def firsts(self) -> dict[UUID, UUID | None]:
        """Return the head of the lane of each that has a lane, or None where nothing waits."""
        waiting = self._rows().filter(status="waiting").exclude(ordering_key="")
        # A range of one, and the order by it: by an equality PostgreSQL may choose to walk through
        # the primary key, past all that is over, until it meets the lane.
        lane = waiting.filter(
            subscription_id=models.OuterRef("subscription_id"),
            ordering_key__gte=models.OuterRef("ordering_key"),
            ordering_key__lte=models.OuterRef("ordering_key"),
        )
        head = models.Subquery(lane.order_by("ordering_key", "pk").values("pk")[:1])
        ordered = self.exclude(ordering_key="").order_by()
        return dict(ordered.annotate(head=head).values_list("pk", "head"))

    def pass_on(self, *, now: datetime | DatabaseNow) -> int:
        """Make the heads of their lanes due where they are held.

        Call it for those that made way, with the doors of their subscriptions locked.
        """
        heads = {head for head in self.firsts().values() if head is not None}
        return self.make_due(heads, now=now)

    @contextmanager
    def making_way(self) -> Iterator[None]:
        """Pass on the turns of those that the block ends; by locking the doors first, as all do."""
        from .health import Health  # it refers to subscriptions

        ordered = self.filter(status="waiting").exclude(ordering_key="").order_by()
        with transaction.atomic(using=self.db):
            lanes: dict[tuple[UUID | None, str], UUID] = {
                (subscription, lane): key
                for key, subscription, lane in ordered.values_list(
                    "pk", "subscription_id", "ordering_key"
                )
            }
            if lanes:
                Health.objects.using(self.db).lock({key for key, _ in lanes if key is not None})
            yield
            ended = list(lanes.values())
            for begin in range(0, len(ended), NAMED):
                one_of_each = self._rows().filter(pk__in=ended[begin : begin + NAMED])
                one_of_each.pass_on(now=DatabaseNow())

    def make_due(self, keys: Collection[UUID], *, now: datetime | DatabaseNow) -> int:
        """Make those of these due that are held, and return how many that were."""
        keys = list(keys)
        held = self._rows().filter(status="waiting", due_at__isnull=True)
        return sum(
            held.filter(pk__in=keys[begin : begin + NAMED]).update(due_at=now)
            for begin in range(0, len(keys), NAMED)
        )

    def _rows(self) -> LaneQuerySet:
        return type(self)(self.model, using=self.db)
