"""The outbox: an event and its deliveries, written in the caller's own transaction."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.db import models, router, transaction
from django.utils import timezone

from .. import catalog, signals
from ..conf import settings
from ..fields import DatabaseNow
from ..models import Delivery, Event, Subscription
from ..models.event import digest
from ..models.owner import OwnerKey
from ..policies import ordering
from ..policies.ordering import Ordering
from . import hops, listeners, one_trip, payloads, statements, tracing

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


_capture: contextvars.ContextVar[Callable[[Event], None] | None] = contextvars.ContextVar(
    "webhooks_capture", default=None
)


def database() -> str:
    """Return the alias of the database that the tables of this app live in."""
    return router.db_for_write(Event)


@contextmanager
def capture(listener: Callable[[Event], None]) -> Iterator[None]:
    """Hand each event to the listener instead of recording it, whether or not anybody listens."""
    token = _capture.set(listener)
    try:
        yield
    finally:
        _capture.reset(token)


def is_capturing() -> bool:
    """Say whether events are captured rather than recorded."""
    return _capture.get() is not None


def record(drafts: Iterable[Draft], *, using: str) -> list[Recorded]:
    """Write the events somebody listens to, and a delivery for each who does; all or nothing.

    Every draft is checked and serialised before anything is written. The number of queries does not
    depend on the number of drafts or of subscriptions.
    """
    drafts = list(drafts)
    for draft in drafts:
        catalog.check(draft.event_type)
    listener = _capture.get()
    if listener is not None:
        return [_captured(draft, listener) for draft in drafts]
    owners = [OwnerKey.of(draft.owner) for draft in drafts]
    now = timezone.now()
    if len(drafts) == 1:
        expected = listeners.expected(drafts[0].event_type, owners[0], using=using)
        if expected and _fits_one_trip(drafts[0], expected, using=using):
            one = _record_in_one_trip(drafts[0], owners[0], expected, now=now, using=using)
            if one is not None:
                return [one]
    # What can go wrong by the caller's fault does so before the transaction could be spoilt by it.
    found = listeners.find(
        ((draft.event_type, owner) for draft, owner in zip(drafts, owners, strict=True)),
        using=using,
    )
    audiences = [
        _audience(draft, owner, found) for draft, owner in zip(drafts, owners, strict=True)
    ]
    if len(drafts) == 1:
        listeners.expect(len(audiences[0]), drafts[0].event_type, owners[0], using=using)
    events = [
        _event(draft, owner, now=now) if audience else None
        for draft, owner, audience in zip(drafts, owners, audiences, strict=True)
    ]
    if not any(events):
        return [Recorded() for _ in drafts]
    with tracing.emitting(events), transaction.atomic(using=using, savepoint=False):
        heard = [event for event in events if event is not None]
        firsts = _store_keyed(heard, using=using)
        recorded = [
            _recorded(event, audience, firsts=firsts, now=now)
            for event, audience in zip(events, audiences, strict=True)
        ]
        deliveries = [delivery for one in recorded for delivery in one.deliveries]
        new = [event for event in heard if event.idempotency_digest is None]
        statements.insert([*new, *deliveries], using=using)
        if deliveries:
            for delivery in deliveries:
                # The row has the database's moment; receivers of the signal see a moment as well.
                delivery.due_at = now if delivery.due_at is not None else None
            _announce_later(recorded, using=using)
    return recorded


def record_for(subscription: Subscription, draft: Draft, *, using: str) -> Delivery:
    """Write an event for one subscription alone, whatever it listens to: to test its endpoints."""
    catalog.check(draft.event_type)
    now = timezone.now()
    event = _event(draft, subscription.owner_key, now=now)
    with tracing.emitting([event]), transaction.atomic(using=using):
        event.save(force_insert=True, using=using)
        return Delivery.objects.using(using).create(
            event=event,
            subscription=subscription,
            due_at=now if subscription.is_active else None,
            created_at=now,
        )


def rewrite(event: Event, *, event_type: str, data: Any, using: str) -> bool:
    """Tell a change of an event that this transaction recorded; False where it is not there.

    Only for an event that is not committed yet: what was committed may have been sent.
    """
    catalog.check(event_type)
    body = payloads.serialise(event_type, data, recorded_at=event.created_at)
    rows = Event.objects.using(using).filter(pk=event.pk)
    if not rows.update(type=event_type, body=body):
        return False
    event.type, event.body = event_type, body
    return True


def forget(event: Event, *, using: str) -> None:
    """Take back an event that this transaction recorded."""
    Delivery.objects.using(using).filter(event=event.pk).delete()
    Event.objects.using(using).filter(pk=event.pk).delete()
    event._state.adding = True


def _captured(draft: Draft, listener: Callable[[Event], None]) -> Recorded:
    event = _event(draft, OwnerKey.of(draft.owner), now=timezone.now())
    listener(event)
    return Recorded(event=event)


def _event(draft: Draft, owner: OwnerKey, *, now: datetime) -> Event:
    key = draft.idempotency_key or ""
    if len(key) > 200:
        raise ValueError("Use an idempotency_key of at most 200 characters.")
    ordering_key = draft.ordering_key or ""
    if len(ordering_key) > ordering.LONGEST:
        raise ValueError(f"Use an ordering_key of at most {ordering.LONGEST} characters.")
    return Event(
        type=draft.event_type,
        owner_type=owner.type,
        owner_id=owner.id,
        body=payloads.serialise(draft.event_type, draft.data, recorded_at=now),
        idempotency_key=key,
        idempotency_digest=digest(owner, draft.event_type, key) if key else None,
        ordering_key=ordering_key,
        hops=hops.current(),
        created_at=now,
    )


def _fits_one_trip(draft: Draft, expected: int, *, using: str) -> bool:
    is_plain = not (draft.idempotency_key or draft.not_to) and _may_go_on(hops.current())
    return is_plain and expected <= one_trip.MAX_LISTENERS and one_trip.is_possible(using)


def _record_in_one_trip(
    draft: Draft, owner: OwnerKey, expected: int, *, now: datetime, using: str
) -> Recorded | None:
    """Record an event that as many listen to as did to the last; None where that does not do.

    Another number may listen, and data that cannot be sent is no error where nobody does.
    """
    try:
        event = _event(draft, owner, now=now)
    except ValueError:
        return None
    # One statement is all or nothing by itself.
    with (
        tracing.emitting([event]) as emission,
        transaction.mark_for_rollback_on_error(using=using),
    ):
        deliveries = one_trip.record(event, listeners=expected, using=using)
        emission.is_void = not deliveries
    if deliveries is None:
        return None
    if not deliveries:
        listeners.expect(0, draft.event_type, owner, using=using)
        return Recorded()
    recorded = Recorded(event=event, deliveries=deliveries, due=deliveries.due)
    _announce_later([recorded], using=using)
    return recorded


def _audience(
    draft: Draft, owner: OwnerKey, found: Iterable[listeners.Listener]
) -> dict[UUID, listeners.Listener]:
    """Return who of these hears it; one whose patterns match twice gets it once."""
    return {
        one.subscription_id: one
        for one in found
        if one.hears(draft.event_type, owner) and one.subscription_id not in draft.not_to
    }


def _may_go_on(count: int) -> bool:
    return count <= settings.WEBHOOKS_MAX_HOPS


def _store_keyed(events: Sequence[Event], *, using: str) -> dict[str, Event]:
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


def _recorded(
    event: Event | None,
    audience: Mapping[UUID, listeners.Listener],
    *,
    firsts: dict[str, Event],
    now: datetime,
) -> Recorded:
    if event is None:
        return Recorded()
    first = firsts.get(event.idempotency_digest or "", event)
    if first.pk != event.pk:
        return Recorded(event=first)
    if not _may_go_on(event.hops):
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


def _announce_later(recorded: Sequence[Recorded], *, using: str) -> None:
    """Tell of what was recorded once it is committed, where anybody wants to be told."""
    # Mostly nobody does. To ask who of none hears it takes a lock.
    if signals.event_recorded.receivers and signals.event_recorded.has_listeners(Event):
        transaction.on_commit(partial(_announce, recorded), using=using)


def _announce(recorded: Sequence[Recorded]) -> None:
    for one in recorded:
        # One that was taken back meanwhile has no row any more.
        if one.event is not None and one.deliveries and not one.event._state.adding:
            signals.event_recorded.send_robust(
                sender=Event, event=one.event, deliveries=list(one.deliveries)
            )
