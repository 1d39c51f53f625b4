"""Listeners: the subscriptions that hear an event, as its fan-out needs to know them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db import models

from ...models import EndpointHealth
from ...models.event_type_pattern import EventTypePattern
from ...models.owner import OwnerKey
from ...policies import matching

_NOBODY = OwnerKey()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A pattern of a subscription, and whether its deliveries flow or are held."""

    subscription_id: UUID
    is_flowing: bool
    owner: OwnerKey
    is_global: bool
    pattern: str
    ordering: str

    def hears(self, event_type: str, owner: OwnerKey) -> bool:
        """Say whether an event reaches it. Fails closed: never another owner's event."""
        if not matching.matches(self.pattern, event_type):
            return False
        return self.owner == owner or (self.is_global and self.owner == _NOBODY)


def find(
    wanted: Collection[tuple[str, OwnerKey]],
    *,
    using: str,
    after: UUID | None = None,
    limit: int | None = None,
) -> list[Listener]:
    """Return the listeners of any of the event types and owners, by the id of the subscription.

    ``after`` is the subscription to go on behind, ``limit`` how many to return at the most.
    """
    patterns = {one for event_type, _ in wanted for one in matching.candidates(event_type)}
    rows = EventTypePattern.objects.using(using).filter(
        _concerned({owner for _, owner in wanted}), pattern__in=sorted(patterns)
    )
    if after is not None:
        rows = rows.filter(subscription_id__gt=after)
    flowing = EndpointHealth.objects.using(using).flowing()
    flowing = flowing.filter(subscription_id=models.OuterRef("subscription_id"))
    found = (
        # There is one at the most. PostgreSQL plans an EXISTS twice.
        rows.annotate(flows=models.Subquery(flowing.values("is_active")))
        .order_by("subscription_id")
        .values_list(
            "subscription_id",
            "subscription__owner_type",
            "subscription__owner_id",
            "subscription__is_global",
            "pattern",
            "flows",
            "subscription__ordering",
        )
    )
    return [
        Listener(
            subscription_id=key,
            owner=OwnerKey(owner_type, owner_id),
            is_global=is_global,
            pattern=pattern,
            is_flowing=bool(flows),
            ordering=ordering,
        )
        for key, owner_type, owner_id, is_global, pattern, flows, ordering in found[:limit]
    ]


def _concerned(owners: Iterable[OwnerKey]) -> models.Q:
    """Return the condition that a subscription is global, or of one of these owners."""
    by_type: dict[str, list[str]] = {}
    for owner in owners:
        by_type.setdefault(owner.type, []).append(owner.id)
    concerned = models.Q(subscription__is_global=True)
    for owner_type, ids in by_type.items():
        concerned |= models.Q(subscription__owner_type=owner_type, subscription__owner_id__in=ids)
    return concerned
