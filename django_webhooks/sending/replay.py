"""Replay: send an old event again, as a new delivery that is linked to the one it repeats."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db import transaction
from django.db.models import Max

from ..fields import DatabaseNow
from ..models import Delivery
from . import outbox


def replay(deliveries: Iterable[Delivery], *, using: str | None = None) -> list[Delivery]:
    """Record a new delivery for each delivery that is over, and return the new ones.

    Those that still wait, whose subscription is gone, or whose event is waiting again already are
    left out. The receiver sees the same ``webhook-id``, so that it can drop what it has processed.
    """
    using = using or outbox.database()
    rows = Delivery.objects.using(using)
    keys = [delivery.pk for delivery in deliveries]
    with transaction.atomic(using=using):
        # The lock makes a second click wait, and then see the first one's rows.
        originals = list(
            rows.filter(pk__in=keys, subscription__isnull=False)
            .exclude(status=Delivery.Status.WAITING)
            .select_for_update()
            .order_by("pk")
        )
        events = {original.event_id for original in originals}
        siblings = rows.filter(event_id__in=events).order_by()
        waiting = set(siblings.waiting().values_list("event_id", "subscription_id"))
        last = {
            (event, subscription): number
            for event, subscription, number in siblings.values_list(
                "event_id", "subscription_id"
            ).annotate(Max("replay"))
        }
        active: dict[UUID | None, str] = dict(
            rows.filter(pk__in=keys).values_list("subscription_id", "subscription__status")
        )
        new: dict[tuple[object, object], Delivery] = {}
        for original in originals:
            pair = (original.event_id, original.subscription_id)
            if pair in waiting or pair in new:
                continue
            new[pair] = Delivery(
                event_id=original.event_id,
                subscription_id=original.subscription_id,
                replay=last[pair] + 1,
                replay_of=original,
                due_at=DatabaseNow() if active[original.subscription_id] == "active" else None,
            )
        made = rows.bulk_create(list(new.values()))
    for delivery in made:
        # The row has the database's moment; who reads the object sees a moment as well.
        delivery.due_at = delivery.created_at if delivery.due_at is not None else None
    return made
