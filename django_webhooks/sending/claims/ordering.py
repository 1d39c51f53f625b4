"""Ordering: one delivery of a partition at a time, in the order of their ids.

A partition is a subscription and the ``partition`` of its deliveries. Its head is the one that
waits and has the least id. A decision about a turn locks the health rows of the subscription first,
as each change of a subscription does (see ``sending.results.health``). Two things are done under
that lock, so that neither sees the other half done:

- *Taking a turn* (:func:`take`, in its own transaction): of what is due, the heads of partitions
  none of which a worker has are leased; what is due and is not the head is held (``due_at=NULL``).
- *Passing on* (``DeliveryQuerySet.pass_on``, in the transaction of the recorder that records a
  result, or of ``cancel``): the head of the partition is made due, where it is held.

Never two at once: a lease of a partition begins in ``take`` alone, which sees, since it has the
lock, all leases that others began, and begins none while one of them lasts. This holds for an
earlier id that becomes visible late as well: it is the head from then on, and waits for the end of
what is under way.

Nothing is stuck: a delivery is held here only because another of its partition is under way or goes
first. When that one ends, is to be repeated, or is cancelled, the way is passed on after the lock
was waited for, so that what was held in between is seen. When it is given back, or its lease ends
because its worker died, it is due; and whatever is due of a partition leads ``take`` to its head,
held or not. A head that waits for a retry is due at that moment and holds up the others until then.
A delivery that becomes visible later is due by itself, or was recorded as held for its
subscription: then it is released with the subscription, as ``release`` does with the heads alone.
There remain heads that stay held by a race outside these two transactions: a row that was removed
by hand, or a worker that lets go of a head because its subscription was paused, when that is over.
The sweep looks for heads that are held while their subscription flows.

A backlog costs nothing per lease: what is not the head is looked at once and held; after that it is
found by the index of turns alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connections, transaction
from django.db.models import F, Q

from ...models import Delivery, EndpointHealth
from ...models.delivery import DeliveryQuerySet


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedDelivery:
    """A delivery of a partition that is due."""

    key: UUID
    subscription: UUID | None
    partition: str


def take(
    candidates: Sequence[OrderedDelivery],
    *,
    token: UUID,
    now: datetime,
    until: datetime,
    using: str,
) -> list[UUID]:
    """Lease the heads of the partitions of what is due, and return them; hold the others."""
    members = {(one.subscription, one.partition): one.key for one in candidates}
    due = {one.key for one in candidates}
    rows = Delivery.objects.using(using)
    with transaction.atomic(using=using):
        locked = _lock({key for key, _ in members if key is not None}, using=using)
        heads = rows.filter(pk__in=list(members.values())).firsts()
        taken = _in_hand(rows, locked, now=now)
        turns = {
            heads.get(member)
            for partition, member in members.items()
            if partition[0] in locked and partition not in taken
        }
        # Rows that somebody changes at this moment are left as they are.
        free = rows.waiting().filter(Q(due_at__isnull=True) | Q(due_at__lte=now))
        free = free.filter(pk__in=[key for key in due | turns if key is not None])
        if connections[using].features.has_select_for_update_skip_locked:
            free = free.select_for_update(skip_locked=True)
        found = set(free.order_by("pk").values_list("pk", flat=True))
        rows.filter(pk__in=found & turns).update(lease_token=token, due_at=until)
        rows.filter(pk__in=found - turns).update(lease_token=None, due_at=None)
    return list(found & turns)


def _lock(subscriptions: Collection[UUID], *, using: str) -> set[UUID]:
    """Lock the endpoints of these subscriptions; return those that have any: no other is sent
    to."""
    rows = EndpointHealth.objects.using(using).filter(subscription_id__in=list(subscriptions))
    if not connections[using].features.has_select_for_update:
        # On SQLite the first write waits until nobody else writes.
        rows.update(probe_successes=F("probe_successes"))
    return set(rows.select_for_update().order_by("pk").values_list("subscription_id", flat=True))


def _in_hand(
    rows: DeliveryQuerySet, subscriptions: Collection[UUID], *, now: datetime
) -> set[tuple[UUID | None, str]]:
    """Return the partitions of which a worker has a delivery."""
    # Of a backlog most are held: the index by subscription and moment leaves them aside.
    waiting = rows.waiting().filter(subscription_id__in=list(subscriptions), due_at__gt=now)
    leased = waiting.filter(lease_token__isnull=False).exclude(partition="")
    return set(leased.order_by().values_list("subscription_id", "partition"))
