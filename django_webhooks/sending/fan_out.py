"""Fan-out: the rows of what is recorded, a delivery for each subscription that hears an event."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models

from ..conf import settings
from ..fields import DatabaseNow, uuid7
from ..models import Delivery, Event
from ..models.event import digest, message_id
from ..models.owner import OwnerKey
from ..policies import ordering
from ..policies.ordering import Ordering
from . import hops, listeners, payloads

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An event that is to be recorded: its type, its data, and whose it is."""

    event_type: str
    data: Any
    owner: models.Model | OwnerKey | None = None
    idempotency_key: str | None = None
    #: What is told of one thing in order, where subscriptions ask for it.
    ordering_key: str | None = None
    #: Subscriptions that do not get it although they listen.
    not_to: Collection[UUID] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What became of a draft: its event, or None where nobody listens, and the new deliveries.

    ``due`` has the ids of those deliveries that may be sent at once.
    """

    event: Event | None = None
    deliveries: Sequence[Delivery] = field(default=())
    due: Sequence[UUID] = field(default=())


@dataclass(slots=True, kw_only=True)
class EventValues:
    """What an event says, checked and serialised: an object is made where somebody wants one."""

    pk: UUID
    type: str
    owner: OwnerKey
    body: bytes
    ordering_key: str
    hops: int
    created_at: datetime
    trace_parent: str = ""

    @property
    def message_id(self) -> str:
        """The ``webhook-id`` of the event."""
        return message_id(self.pk)

    def event(self) -> Event:
        """Return the event, which is not stored yet."""
        return Event(
            id=self.pk,
            type=self.type,
            owner_type=self.owner.type,
            owner_id=self.owner.id,
            body=self.body,
            ordering_key=self.ordering_key,
            hops=self.hops,
            trace_parent=self.trace_parent,
            created_at=self.created_at,
        )


def values_of(draft: Draft, owner: OwnerKey, *, now: datetime) -> EventValues:
    """Return the values of a draft's event. Raise ValueError for a key that is too long."""
    ordering_key = draft.ordering_key or ""
    if len(ordering_key) > ordering.LONGEST:
        raise ValueError(f"Use an ordering_key of at most {ordering.LONGEST} characters.")
    return EventValues(
        pk=uuid7(),
        type=draft.event_type,
        owner=owner,
        body=payloads.serialise(draft.event_type, draft.data, recorded_at=now),
        ordering_key=ordering_key,
        hops=hops.current(),
        created_at=now,
    )


def event_of(draft: Draft, owner: OwnerKey, *, now: datetime) -> Event:
    """Return the event of a draft, serialised. Raise ValueError for a key that is too long."""
    key = draft.idempotency_key or ""
    if len(key) > 200:
        raise ValueError("Use an idempotency_key of at most 200 characters.")
    event = values_of(draft, owner, now=now).event()
    if key:
        event.idempotency_key = key
        event.idempotency_digest = digest(owner, draft.event_type, key)
    return event


def may_go_on(count: int) -> bool:
    """Say whether an event is sent that so many webhooks led to, one causing the next."""
    return count <= settings.WEBHOOKS_MAX_HOPS


def audience_of(
    draft: Draft, owner: OwnerKey, found: Iterable[listeners.Listener]
) -> dict[UUID, listeners.Listener]:
    """Return who of these hears it; one whose patterns match twice gets it once."""
    return {
        one.subscription_id: one
        for one in found
        if one.hears(draft.event_type, owner) and one.subscription_id not in draft.not_to
    }


def store_keyed(events: Sequence[Event], *, using: str) -> dict[str, Event]:
    """Insert the events with an idempotency key; return the first event of each digest."""
    keyed: dict[str, Event] = {}
    for event in events:
        if event.idempotency_digest is not None:
            keyed.setdefault(event.idempotency_digest, event)
    if not keyed:
        return {}
    rows = Event.objects.using(using)
    # The database decides who was first, also against a transaction that runs at the same time.
    rows.bulk_create(keyed.values(), ignore_conflicts=True)
    return {
        str(first.idempotency_digest): first
        for first in rows.filter(idempotency_digest__in=list(keyed))
    }


def recorded_of(
    event: Event | None,
    audience: Mapping[UUID, listeners.Listener],
    *,
    firsts: dict[str, Event],
    now: datetime,
) -> Recorded:
    """Return what becomes of an event: its deliveries, or the first event of its key."""
    if event is None:
        return Recorded()
    first = firsts.get(event.idempotency_digest or "", event)
    if first.pk != event.pk:
        return Recorded(event=first)
    if not may_go_on(event.hops):
        return Recorded(event=event, deliveries=_gone_round(event, audience, now=now))
    deliveries = [
        Delivery(
            event=event,
            subscription_id=subscription_id,
            ordering_key=ordering.lane(Ordering(listener.ordering), event.ordering_key),
            due_at=DatabaseNow() if listener.is_flowing else None,
            created_at=now,
        )
        for subscription_id, listener in audience.items()
    ]
    due = [delivery.pk for delivery in deliveries if delivery.due_at is not None]
    return Recorded(event=event, deliveries=deliveries, due=due)


def _gone_round(event: Event, hearing: Iterable[UUID], *, now: datetime) -> list[Delivery]:
    """Return deliveries that are not sent: they stay, say so, and can be replayed."""
    logger.error(
        "Event %s is not sent: %d webhooks led to it, each causing the next.",
        event.message_id,
        event.hops,
        extra={"webhooks_event": str(event.pk)},
    )
    return [
        Delivery(
            event=event,
            subscription_id=subscription_id,
            status=Delivery.Status.GIVEN_UP,
            reason="loop",
            created_at=now,
            finished_at=now,
        )
        for subscription_id in hearing
    ]
