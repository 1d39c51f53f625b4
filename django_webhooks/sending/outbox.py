"""The outbox: an event and its deliveries, written in the caller's own transaction."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from django.db import router, transaction
from django.utils import timezone

from .. import catalog, signals
from ..models import Delivery, Event, Subscription
from ..models.owner import OwnerKey
from . import fan_out, hops, listeners, one_trip, payloads, statements, tracing
from .fan_out import Draft, Recorded
from .one_trip import Written

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


def record(drafts: Iterable[Draft], *, using: str) -> Sequence[Recorded | Written]:
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
        fan_out.audience_of(draft, owner, found)
        for draft, owner in zip(drafts, owners, strict=True)
    ]
    if len(drafts) == 1:
        listeners.expect(len(audiences[0]), drafts[0].event_type, owners[0], using=using)
    events = [
        fan_out.event_of(draft, owner, now=now) if audience else None
        for draft, owner, audience in zip(drafts, owners, audiences, strict=True)
    ]
    if not any(events):
        return [Recorded() for _ in drafts]
    with tracing.emitting(events), transaction.atomic(using=using, savepoint=False):
        heard = [event for event in events if event is not None]
        firsts = fan_out.store_keyed(heard, using=using)
        recorded = [
            fan_out.recorded_of(event, audience, firsts=firsts, now=now)
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
    event = fan_out.event_of(draft, subscription.owner_key, now=now)
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
    event = fan_out.event_of(draft, OwnerKey.of(draft.owner), now=timezone.now())
    listener(event)
    return Recorded(event=event)


def _fits_one_trip(draft: Draft, expected: int, *, using: str) -> bool:
    is_plain = not (draft.idempotency_key or draft.not_to) and fan_out.may_go_on(hops.current())
    return is_plain and expected <= one_trip.MAX_LISTENERS and one_trip.is_possible(using)


def _record_in_one_trip(
    draft: Draft, owner: OwnerKey, expected: int, *, now: datetime, using: str
) -> Recorded | Written | None:
    """Record an event that as many listen to as did to the last; None where that does not do.

    Another number may listen, and data that cannot be sent is no error where nobody does.
    """
    try:
        values = fan_out.values_of(draft, owner, now=now)
    except ValueError:
        return None
    # One statement is all or nothing by itself.
    with (
        tracing.emitting([values]) as emission,
        transaction.mark_for_rollback_on_error(using=using),
    ):
        written = one_trip.record(values, listeners=expected, using=using)
        emission.is_void = not written
    if written is None:
        return None
    if not written:
        listeners.expect(0, draft.event_type, owner, using=using)
        return Recorded()
    _announce_later([written], using=using)
    return written


def _announce_later(recorded: Sequence[Recorded | Written], *, using: str) -> None:
    """Tell of what was recorded once it is committed, where anybody wants to be told."""
    # Mostly nobody does. To ask who of none hears it takes a lock.
    if signals.event_recorded.receivers and signals.event_recorded.has_listeners(Event):
        transaction.on_commit(partial(_announce, recorded), using=using)


def _announce(recorded: Sequence[Recorded | Written]) -> None:
    for one in recorded:
        # One that was taken back meanwhile has no row any more.
        if one.event is not None and one.deliveries and not one.event._state.adding:
            signals.event_recorded.send_robust(
                sender=Event, event=one.event, deliveries=list(one.deliveries)
            )
