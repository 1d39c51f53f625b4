"""Replay: send an old event again, as a new delivery that is linked to the one it repeats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import Max

from ...fields import DatabaseNow
from ...models import Delivery, Event, Subscription
from ...policies import ordering
from ...policies.ordering import Ordering
from .. import database


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """How deliveries are replayed.

    To an ``endpoint`` of their subscription, or the active one; with a new message id for a
    receiver that lost what it had accepted; on behalf of a bulk replay.
    """

    endpoint: UUID | None = None
    has_new_message_id: bool = False
    bulk_replay: UUID | None = None


_AS_BEFORE = ReplayOptions()


def replay(
    deliveries: Iterable[Delivery | UUID],
    *,
    replay_options: ReplayOptions = _AS_BEFORE,
    using: str | None = None,
) -> list[Delivery]:
    """Record a new delivery for each delivery that is over, and return the new ones.

    Deliveries that still wait, whose subscription is gone, or whose event is waiting again already
    are left out. Unless the ``replay_options`` asks for new ones the receiver sees the same
    ``webhook-id``, so that it can drop what it has processed.
    """
    using = using or database.alias()
    rows = Delivery.objects.using(using)
    keys = [one.pk if isinstance(one, Delivery) else one for one in deliveries]
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
        if replay_options.bulk_replay is not None:
            # An event that an earlier batch sent again, or a replay delivered, is not repeated.
            again = siblings.filter(bulk_replay_id=replay_options.bulk_replay)
            waiting |= set(again.values_list("event_id", "subscription_id"))
            arrived = set(siblings.succeeded().values_list("event_id", "subscription_id"))
            originals = [
                one
                for one in originals
                if one.status == Delivery.Status.SUCCEEDED
                or (one.event_id, one.subscription_id) not in arrived
            ]
        last = {
            (event, subscription): number
            for event, subscription, number in siblings.values_list(
                "event_id", "subscription_id"
            ).annotate(Max("replay"))
        }
        subscriptions = Subscription.objects.using(using).in_bulk(
            {one.subscription_id for one in originals}
        )
        partitions = _partitions(originals, subscriptions, using=using)
        flowing = set(
            Subscription.objects.using(using)
            .filter(pk__in=list(subscriptions))
            .flowing()
            .values_list("pk", flat=True)
        )
        new: dict[tuple[object, object], Delivery] = {}
        for original in originals:
            pair = (original.event_id, original.subscription_id)
            subscription = subscriptions.get(original.subscription_id)
            if pair in waiting or pair in new or subscription is None:
                continue
            new[pair] = Delivery(
                event_id=original.event_id,
                subscription_id=original.subscription_id,
                replay=last[pair] + 1,
                replay_of=original,
                endpoint_id=replay_options.endpoint,
                has_new_message_id=replay_options.has_new_message_id,
                bulk_replay_id=replay_options.bulk_replay,
                priority=Delivery.Priority.RETRY,
                partition=partitions.get(pair, ""),
                # A chosen endpoint is tried whatever its health says.
                due_at=DatabaseNow()
                if subscription.pk in flowing
                or (replay_options.endpoint and subscription.is_sending)
                else None,
            )
        made = rows.bulk_create(list(new.values()))
    for delivery in made:
        # The row has the database's moment; who reads the object sees a moment as well.
        delivery.due_at = delivery.created_at if delivery.due_at is not None else None
    return made


def _partitions(
    originals: Sequence[Delivery], subscriptions: Mapping[UUID, Subscription], *, using: str
) -> dict[tuple[object, object], str]:
    """Return the partitions of those that go in order, at their ends, by event and subscription."""
    orders = {key: Ordering(one.ordering) for key, one in subscriptions.items()}
    ordered = [
        (one.event_id, one.subscription_id, orders[one.subscription_id])
        for one in originals
        if one.subscription_id in orders and orders[one.subscription_id] is not Ordering.NONE
    ]
    if not ordered:
        return {}
    events = Event.objects.using(using).filter(pk__in={event for event, _, _ in ordered})
    keys = dict(events.order_by().values_list("pk", "ordering_key"))
    return {
        (event, subscription): ordering.partition(order, keys[event])
        for event, subscription, order in ordered
    }
